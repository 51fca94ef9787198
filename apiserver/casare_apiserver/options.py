"""What do a request's options ask for? Each is understood, or refused in words; none is ignored.

Options are query parameters and, for DELETE, the body's DeleteOptions; they mean what they mean in Kubernetes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

from casare_api.kinds import Object
from casare_api.machinery.admission import FieldValidation
from casare_api.machinery.errors import ApiError, Cause
from casare_apiserver import bodies, wire
from casare_apiserver.wire import Request

MAX_WATCH = 3600  # seconds


def mode(request: Request) -> FieldValidation:
    """What becomes of unknown fields."""
    said = request.query.get("fieldValidation") or "Warn"
    if said not in get_args(FieldValidation):
        raise wrong("fieldValidation", _unsupported(said, *get_args(FieldValidation)))
    return cast(FieldValidation, said)


def dry_run(request: Request) -> bool:
    """Whether nothing is to be kept."""
    said = request.query.get("dryRun")
    if said not in (None, "All"):
        raise wrong("dryRun", _unsupported(said, "All"))
    return said == "All"


def delete_options(request: Request, body: bytes) -> Object:
    """DeleteOptions; what they ask for and we can't do is refused, never ignored."""
    options = bodies.parse_json(body) if body else {}
    if not isinstance(options, dict) or not isinstance(options.get("preconditions") or {}, dict):
        raise ApiError.bad_request("the body of a DELETE must be DeleteOptions")
    policy = request.query.get("propagationPolicy") or options.get("propagationPolicy") or "Background"
    if policy != "Background" or options.get("orphanDependents") or wire.is_set(request.query, "orphanDependents"):
        raise wrong("propagationPolicy", _unsupported(str(policy), "Background"))
    if options.get("dryRun") not in (None, [], ["All"]):
        raise wrong("dryRun", _unsupported(str(options["dryRun"]), "All"))
    return options


def wrong(name: str, message: str) -> ApiError:
    reason = "FieldValueForbidden" if message.startswith("Forbidden") else "FieldValueNotSupported"
    return ApiError(422, "Invalid", f"{name}: {message}", {"causes": [Cause(name, reason, message).body()]})


def _unsupported(said: str, *allowed: str) -> str:
    listed = ", ".join(f'"{word}"' for word in allowed)
    return f'Unsupported value: "{said[:40]}": supported values: {listed}'


def whole_number(query: Mapping[str, str], name: str) -> int:
    """A number in the query, 0 where there is none."""
    text = query.get(name) or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ApiError.bad_request(f'{name}: Invalid value: "{text[:40]}": must be a whole number')
    return int(text)


def check_list_version(query: Mapping[str, str], rv: int) -> None:
    """A list is always of now: what asks for another moment is refused. Raises ApiError 400, 410, 422, 504."""
    wanted, match = whole_number(query, "resourceVersion"), query.get("resourceVersionMatch")
    if match not in (None, "NotOlderThan", "Exact"):
        raise wrong("resourceVersionMatch", _unsupported(match, "Exact", "NotOlderThan"))
    if match and not (wanted if match == "Exact" else "resourceVersion" in query):
        raise wrong("resourceVersionMatch", "Forbidden: it needs a resourceVersion to match")
    if wanted > rv:
        raise ApiError.future_version(wanted, rv)
    if match == "Exact" and wanted != rv:
        raise ApiError.expired(f"the list as of resource version {wanted} is not kept ({rv})")


def timeout(request: Request) -> float:
    """How long a watch stays open: what was asked for, at most an hour."""
    return float(min(whole_number(request.query, "timeoutSeconds") or MAX_WATCH, MAX_WATCH))
