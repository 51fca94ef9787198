"""What changes, without missing anything?

A watch resumes at the last resourceVersion it saw; when the server no longer has that part of its history (410), the
whole list is read again and handed over as one RELIST event. `follow` never ends by itself: a lost connection, a
restarting server and a busy one are waited out. Only an answer that trying again can't change (401, 403, 404, 400) is
raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import orjson

from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_client.backoff import Backoff
from casare_client.errors import Unreachable

RELIST = "RELIST"


class WatchEvent(NamedTuple):
    """ADDED, MODIFIED or DELETED with the object, BOOKMARK with a resourceVersion, or RELIST with a whole List."""

    type: str
    object: Object


class Source(Protocol):
    """What can be followed."""

    def list(self) -> Object:
        """The List object as it stands."""

    def watch(self, resource_version: str) -> Iterator[WatchEvent]:
        """The changes after a resourceVersion, until the server or the connection ends the stream."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How `follow` waits: `wait(seconds)` is True when it should give up; `on_outage` hears of each outage once.

    `longest()` is the longest wait, where not the backoff's own; a server that asks for more patience gets it besides.
    """

    wait: Callable[[float], bool]
    backoff: Backoff
    on_outage: Callable[[Exception], None] = lambda error: None
    longest: Callable[[], float | None] = lambda: None


def events(chunks: Iterable[bytes]) -> Iterator[WatchEvent]:
    """The events in a stream of JSON lines. Raises ApiError for an ERROR line."""
    for line in lines(chunks):
        event = _event(line)
        if event.type == "ERROR":
            raise ApiError.from_body(500, event.object)
        yield event


def _event(line: bytes) -> WatchEvent:
    try:
        parsed = orjson.loads(line)
        return WatchEvent(parsed["type"], parsed["object"])
    except (ValueError, KeyError, TypeError):
        raise Unreachable("the watch was cut by something that does not speak as a Casare server does") from None


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The whole lines in a stream of bytes; what is cut off at its end is dropped, the sender will repeat it."""
    rest: list[bytes] = []
    for chunk in chunks:
        first, *more = chunk.split(b"\n")
        rest.append(first)
        for part in more:
            line = b"".join(rest)
            rest = [part]
            if line.strip():
                yield line


def follow(source: Source, pace: Pace, resource_version: str = "") -> Iterator[WatchEvent]:
    """A RELIST with everything first (unless a resourceVersion says where to start), then every change, for ever."""
    version, away = resource_version, False
    while not pace.wait(0):
        least = 0.0
        try:
            if not version:
                listed = source.list()
                version, away = version_of(listed), False
                yield WatchEvent(RELIST, listed)
            for event in source.watch(version):
                version, away = version_of(event.object) or version, False
                pace.backoff.reset()
                if event.type != "BOOKMARK":
                    yield event
        except (ApiError, Unreachable) as error:
            least = float(getattr(error, "retry_after", None) or 0)
            if isinstance(error, ApiError) and error.status == 410:
                version = ""
            elif not passing(error):
                raise
            elif not away and not pace.wait(0):
                away = True
                pace.on_outage(error)
        if pace.wait(least + pace.backoff.next(pace.longest())):  # the sum: all that were sent away come one by one
            return


def passing(error: Exception) -> bool:
    """Whether trying again later may help: nobody answered, or the server is busy, starting or broken."""
    return isinstance(error, Unreachable) or (
        isinstance(error, ApiError) and (error.status == 429 or error.status >= 500)
    )


def version_of(obj: Object) -> str:
    """The resourceVersion of an object or a list, "" without one."""
    return str((obj.get("metadata") or {}).get("resourceVersion") or "")
