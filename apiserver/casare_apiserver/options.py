"""What do a request's options ask for? Each is understood, or refused in words; none is ignored.

Options are query parameters and, for DELETE, the body's DeleteOptions; they mean what they mean in Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast, get_args

from casare_api.kinds import Object
from casare_api.machinery.admission import FieldValidation
from casare_api.machinery.errors import ApiError, Cause
from casare_apiserver import bodies, wire
from casare_apiserver.wire import Request

Token = tuple[int, tuple[str, str]]  # of a page: the revision of its list, and the object that it begins behind
MAX_WATCH = 3600  # seconds
MAX_MANAGER = 128  # characters of a field manager's name, as in Kubernetes
_NUMBER = re.compile(r"-?[0-9]{1,18}\Z")
_POLICIES = ("Foreground", "Background", "Orphan")
_REASONS = {"Forbidden": "FieldValueForbidden", "Unsupported value": "FieldValueNotSupported",
            "Required value": "FieldValueRequired", "Too long": "FieldValueTooLong"}


def mode(request: Request) -> FieldValidation:
    """What becomes of unknown fields."""
    said = request.query.get("fieldValidation") or "Warn"
    if said not in get_args(FieldValidation):
        raise wrong(_writing(request), "fieldValidation", _unsupported(said, *get_args(FieldValidation)))
    return cast(FieldValidation, said)


def dry_run(request: Request) -> bool:
    """Whether nothing is to be kept."""
    said = request.query.get("dryRun")
    if said not in (None, "", "All"):
        raise wrong(_writing(request), "dryRun", _unsupported(said, "All"))
    return said == "All"


def manager(request: Request) -> str:
    """Who says that the fields of a write are his: what he calls himself, else the first word of his User-Agent."""
    said = request.query.get("fieldManager")
    if said is None or said == "":
        return request.header(b"user-agent").split("/")[0][:MAX_MANAGER] or "unknown"
    if len(said) > MAX_MANAGER:
        raise wrong(_writing(request), "fieldManager", f"Too long: may not be more than {MAX_MANAGER} bytes")
    if not said.isprintable():
        raise wrong(_writing(request), "fieldManager", f"Invalid value: {ascii(said)[:60]}: should be printable")
    return said


def force(request: Request, is_apply: bool) -> bool:
    """Whether an apply takes fields from their managers; `is_apply` tells whether it is one. Raises ApiError 422."""
    if not is_apply:
        if "force" in request.query:
            raise wrong("PatchOptions", "force", "Forbidden: may not be specified for non-apply patch")
        return False
    if not request.query.get("fieldManager"):
        raise wrong("PatchOptions", "fieldManager", "Required value: is required for apply patch")
    return wire.is_set(request.query, "force")


def delete_options(request: Request, body: bytes) -> Object:
    """DeleteOptions, of the body and the query together; what they ask for and we can't do is refused."""
    said = bodies.read_options(request, body) if body else {}
    if not isinstance(said, dict) or not isinstance(said.get("preconditions") or {}, dict):
        raise ApiError.bad_request("the body of a DELETE must be DeleteOptions")
    if said.get("dryRun") not in (None, [], ["All"]):
        said_first = said["dryRun"][0] if isinstance(said["dryRun"], list) else said["dryRun"]
        raise wrong("DeleteOptions", "dryRun", _unsupported(str(said_first), "All"))
    policy = request.query.get("propagationPolicy") or said.get("propagationPolicy")
    orphan = said.get("orphanDependents") or wire.is_set(request.query, "orphanDependents")
    if policy and orphan:
        why = "Invalid value: orphanDependents and deletionPropagation cannot be both set"
        raise wrong("DeleteOptions", "propagationPolicy", why)
    if policy not in (None, *_POLICIES):
        raise wrong("DeleteOptions", "propagationPolicy", _unsupported(str(policy), *_POLICIES, "nil"))
    return {**said, "propagationPolicy": policy or ("Orphan" if orphan else None),
            "dryRun": dry_run(request) or said.get("dryRun") == ["All"],
            "gracePeriodSeconds": _grace(said.get("gracePeriodSeconds"), request.query.get("gracePeriodSeconds"))}


def _grace(said: Any, in_query: str | None) -> int | None:
    """How long a deletion may wait: 0 is not at all, any other number means no more than that nobody said it."""
    if said is None and in_query and _NUMBER.match(in_query):
        said = int(in_query)
    if said.__class__ is not int and (said is not None or in_query):
        found = in_query if said is None else said
        raise ApiError.bad_request(f"gracePeriodSeconds: Invalid value: {str(found)[:40]!r}: must be a whole number")
    return said


def wrong(options: str, name: str, message: str) -> ApiError:
    """422 for an option, in the words of the real server: `options` is ListOptions, PatchOptions, ..."""
    reason = _REASONS.get(message.split(":")[0], "FieldValueInvalid")
    details = {"group": "meta.k8s.io", "kind": options, "causes": [Cause(name, reason, message).body()]}
    return ApiError(422, "Invalid", f'{options}.meta.k8s.io "" is invalid: {name}: {message}', details)


def _writing(request: Request) -> str:
    """The kind of options that a write's query is."""
    return {"POST": "CreateOptions", "PATCH": "PatchOptions", "DELETE": "DeleteOptions"}.get(
        request.method, "UpdateOptions"
    )


def _unsupported(said: str, *allowed: str) -> str:
    listed = ", ".join(f'"{word}"' for word in allowed)
    return f'Unsupported value: "{said[:40]}": supported values: {listed}'


def whole_number(query: Mapping[str, str], name: str) -> int:
    """A number in the query, 0 where there is none."""
    text = query.get(name) or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ApiError.bad_request(f'{name}: Invalid value: "{text[:40]}": must be a whole number')
    return int(text)


def list_moment(query: Mapping[str, str], token: Token | None) -> int | None:
    """The revision that a list must be of; None for now. Raises ApiError 400, 422."""
    wanted, match = whole_number(query, "resourceVersion"), query.get("resourceVersionMatch")
    if match not in (None, "", "NotOlderThan", "Exact"):
        raise wrong("ListOptions", "resourceVersionMatch", _unsupported(match, "Exact", "NotOlderThan", ""))
    if token is not None:
        if match:
            why = "Forbidden: resourceVersionMatch is forbidden when continue is provided"
            raise wrong("ListOptions", "resourceVersionMatch", why)
        if wanted:
            raise ApiError.bad_request("specifying resource version is not allowed when using continue")
        return token[0]
    if match and not query.get("resourceVersion"):
        why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise wrong("ListOptions", "resourceVersionMatch", why)
    if match == "Exact" and not wanted:
        why = 'Forbidden: resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'
        raise wrong("ListOptions", "resourceVersionMatch", why)
    return wanted if match == "Exact" else None


def check_list_version(query: Mapping[str, str], rv: int) -> None:
    """A list must not be older than what was asked for. Raises ApiError 504."""
    wanted = whole_number(query, "resourceVersion")
    if wanted > rv:
        raise ApiError.future_version(wanted, rv)


def initial_events(query: Mapping[str, str]) -> bool | None:
    """Whether a watch is to begin with what there is; None where it does not say. Raises ApiError 422."""
    match = query.get("resourceVersionMatch")
    if not query.get("sendInitialEvents"):
        if match:
            why = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            raise wrong("ListOptions", "resourceVersionMatch", why)
        return None
    if match != "NotOlderThan":
        why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise wrong("ListOptions", "resourceVersionMatch", why)
    return wire.is_set(query, "sendInitialEvents")


def timeout(request: Request) -> float:
    """How long a watch stays open: what was asked for, at most an hour."""
    return float(min(whole_number(request.query, "timeoutSeconds") or MAX_WATCH, MAX_WATCH))
