"""How does a refusal travel? As one ``ApiError``, which is a Kubernetes ``Status`` in Python's clothes.

The messages are those of a Kubernetes API server, word for word where clients show or parse them, so that kubectl
and the client libraries say to people what they always say. ``body()`` and ``from_body()`` are each other's
inverse. Nothing here knows our kinds: whatever has a group, a plural and a kind will do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
REJECTED = "the server rejected our request due to an error in our request"
LONGEST_FOREIGN_MESSAGE = 300

# What to call a failure whose answer was not a Status (a proxy's error page, a plain text 404).
REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class KindLike(Protocol):
    """What an error has to know of a kind. The group is empty for core kinds."""

    @property
    def group(self) -> str: ...
    @property
    def plural(self) -> str: ...
    @property
    def kind(self) -> str: ...


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong: the field's path (``spec.mode``), a reason word, and a sentence without the path."""

    field: str
    reason: str
    message: str

    @classmethod
    def required(cls, field: str, why: str = "") -> Cause:
        return cls(field, "FieldValueRequired", f"Required value: {why}" if why else "Required value")

    @classmethod
    def invalid(cls, field: str, value: object, why: str) -> Cause:
        return cls(field, "FieldValueInvalid", f"Invalid value: {_quote(value)}: {why}")

    @classmethod
    def wrong_type(cls, field: str, value: object, why: str) -> Cause:
        return cls(field, "FieldValueTypeInvalid", f"Invalid value: {_quote(value)}: {why}")

    @classmethod
    def unsupported(cls, field: str, value: object, allowed: Iterable[object]) -> Cause:
        supported = ", ".join(_quote(each) for each in allowed)
        message = f"Unsupported value: {_quote(value)}: supported values: {supported}"
        return cls(field, "FieldValueNotSupported", message)

    @classmethod
    def duplicate(cls, field: str, value: object) -> Cause:
        return cls(field, "FieldValueDuplicate", f"Duplicate value: {_quote(value)}")

    @classmethod
    def forbidden(cls, field: str, why: str) -> Cause:
        return cls(field, "FieldValueForbidden", f"Forbidden: {why}")

    def body(self) -> dict[str, str]:
        """As it travels in ``details.causes``."""
        where = {"field": self.field} if self.field else {}
        return {"reason": self.reason, "message": self.message, **where}

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class ApiError(Exception):
    """A refusal: HTTP status, reason word, message for people, and the details clients look into.

    `metadata` is that of the Status: where a list can't go on, it tells how to go on all the same.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(status, reason, message, details, metadata)
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details
        self.metadata = metadata

    def __str__(self) -> str:
        return self.message

    @property
    def causes(self) -> tuple[Cause, ...]:
        """What is wrong, one by one; empty for errors that name no fields."""
        found = (self.details or {}).get("causes") or ()
        return tuple(
            Cause(str(each.get("field", "")), str(each.get("reason", "")), str(each.get("message", "")))
            for each in found
            if isinstance(each, Mapping)
        )

    @property
    def retry_after(self) -> int | None:
        """Seconds after which to try again, where the server said so: the ``Retry-After`` header's value."""
        seconds = (self.details or {}).get("retryAfterSeconds")
        return seconds if isinstance(seconds, int) else None

    def body(self) -> dict[str, Any]:
        """The ``Status`` object that goes on the wire."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata or {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            status["details"] = self.details
        status["code"] = self.status
        return status

    @classmethod
    def from_body(cls, status: int, body: object) -> ApiError:
        """The error an answer carries; ``body`` is bytes, text or parsed JSON, of a ``Status`` or of anything else."""
        parsed = _parse(body)
        if isinstance(parsed, Mapping) and parsed.get("kind") == "Status":
            details, metadata = parsed.get("details"), parsed.get("metadata")
            return cls(
                _code(parsed.get("code"), status),
                str(parsed.get("reason") or _reason(status)),
                str(parsed.get("message") or _reason(status)),
                dict(details) if isinstance(details, Mapping) else None,
                dict(metadata) if isinstance(metadata, Mapping) and metadata else None,
            )
        return cls(status, _reason(status), _foreign_message(parsed) or f"{_reason(status)} (HTTP {status})")

    @classmethod
    def bad_request(cls, message: str) -> ApiError:
        return cls(400, "BadRequest", message)

    @classmethod
    def unauthorized(cls) -> ApiError:
        return cls(401, "Unauthorized", "Unauthorized")

    @classmethod
    def forbidden(
        cls, kind: KindLike, verb: str, user: str, namespace: str | None = None, name: str | None = None, why: str = ""
    ) -> ApiError:
        """``user`` may not ``verb`` this kind in ``namespace`` (None: at the cluster scope); ``why`` says more."""
        where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        named = f' "{name}"' if name else ""
        message = (
            f'{_resource(kind)}{named} is forbidden: User "{user}" cannot {verb} resource "{kind.plural}" '
            f'in API group "{kind.group}" {where}'
        )
        return cls(403, "Forbidden", f"{message}: {why}" if why else message, _details(kind, name))

    @classmethod
    def refused(cls, kind: KindLike, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
        """403 for what nobody may do as things stand, such as creating into a namespace that is going away."""
        details = _details(kind, name) | ({"causes": [each.body() for each in causes]} if causes else {})
        return cls(403, "Forbidden", f'{_resource(kind)} "{name}" is forbidden: {why}', details)

    @classmethod
    def not_found(cls, kind: KindLike, name: str) -> ApiError:
        return cls(404, "NotFound", f'{_resource(kind)} "{name}" not found', _details(kind, name))

    @classmethod
    def method_not_allowed(cls, kind: KindLike, verb: str) -> ApiError:
        message = f'{verb} is not supported on resources of kind "{_resource(kind)}"'
        return cls(405, "MethodNotAllowed", message, _details(kind, None))

    @classmethod
    def not_acceptable(cls, accepted: Iterable[str]) -> ApiError:
        return cls(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(accepted)}")

    @classmethod
    def already_exists(cls, kind: KindLike, name: str) -> ApiError:
        return cls(409, "AlreadyExists", f'{_resource(kind)} "{name}" already exists', _details(kind, name))

    @classmethod
    def conflict(cls, kind: KindLike, name: str, why: str | None = None) -> ApiError:
        message = f'Operation cannot be fulfilled on {_resource(kind)} "{name}": {why or MODIFIED}'
        return cls(409, "Conflict", message, _details(kind, name))

    @classmethod
    def expired(cls, message: str, go_on: str | None = None) -> ApiError:
        """410: the history or the page asked for is gone; whoever asked lists again, or goes on with another token."""
        return cls(410, "Expired", message, None, {"continue": go_on} if go_on else None)

    @classmethod
    def too_old(cls, asked: int, oldest: int) -> ApiError:
        """410 for a watch from ``asked`` where the history begins at ``oldest``."""
        return cls.expired(f"too old resource version: {asked} ({oldest})")

    @classmethod
    def too_large(cls, limit: int) -> ApiError:
        """413; ``limit`` in bytes."""
        return cls(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")

    @classmethod
    def unsupported_media_type(cls, accepted: Iterable[str]) -> ApiError:
        message = "the body of the request was in an unknown format - accepted media types include: "
        return cls(415, "UnsupportedMediaType", message + ", ".join(accepted))

    @classmethod
    def invalid(cls, kind: KindLike, name: str, causes: Sequence[Cause]) -> ApiError:
        """422 with everything that is wrong, in the order given. ``causes`` is not empty."""
        said = [str(each) for each in causes]
        listed = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
        group_kind = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
        details = _details(kind, name) | {
            "kind": kind.kind,
            "causes": [each.body() for each in causes],
        }
        return cls(422, "Invalid", f'{group_kind} "{name}" is invalid: {listed}', details)

    @classmethod
    def rejected(cls, why: str) -> ApiError:
        """422 for a patch that can't be carried out on the object as it stands."""
        return cls(422, "Invalid", f"{REJECTED}: {why}")

    @classmethod
    def too_many_requests(cls, message: str, retry_after: int = 1) -> ApiError:
        return cls(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after})

    @classmethod
    def internal(cls, message: str) -> ApiError:
        return cls(500, "InternalError", f"Internal error occurred: {message}")

    @classmethod
    def unavailable(cls, message: str, retry_after: int = 1) -> ApiError:
        return cls(503, "ServiceUnavailable", message, {"retryAfterSeconds": retry_after})

    @classmethod
    def future_version(cls, asked: int, current: int) -> ApiError:
        """504 for a list that must not be older than a version nobody has made yet."""
        cause = Cause("", "ResourceVersionTooLarge", "Too large resource version").body()
        message = f"Too large resource version: {asked}, current: {current}"
        return cls(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1})


def _resource(kind: KindLike) -> str:
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural


def _details(kind: KindLike, name: str | None) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name} if name else {}
    if kind.group:
        details["group"] = kind.group
    return details | {"kind": kind.plural}


def _quote(value: object) -> str:
    """The value as JSON, short enough for one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else text[:117] + "..."


def _reason(status: int) -> str:
    return REASONS.get(status) or ("InternalError" if status >= 500 else "BadRequest")


def _code(code: object, status: int) -> int:
    return code if isinstance(code, int) and 400 <= code < 600 else status


def _parse(body: object) -> object:
    if isinstance(body, bytes | bytearray):
        body = bytes(body).decode("utf-8", "replace")
    if not isinstance(body, str):
        return body
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def _foreign_message(body: object) -> str:
    """One line from whatever else answered: a proxy's page, FastAPI's ``detail``, a plain text."""
    if isinstance(body, Mapping):
        body = next((body[key] for key in ("message", "detail", "error") if isinstance(body.get(key), str)), "")
    if not isinstance(body, str) or "<html" in body[:1000].lower():
        return ""
    line = " ".join(body.split())
    return line if len(line) <= LONGEST_FOREIGN_MESSAGE else line[: LONGEST_FOREIGN_MESSAGE - 3] + "..."
