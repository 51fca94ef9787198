"""Nothing is missed: resuming, listing again, waiting out an outage. In virtual time, with a scripted server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_client import RELIST, Unreachable, WatchEvent
from casare_client.backoff import Backoff
from casare_client.watch import Pace, events, follow, lines

EXPIRED = ApiError(410, "Expired", "too old resource version: 1 (9)")
BUSY = ApiError(503, "ServiceUnavailable", "starting", {"retryAfterSeconds": 7})
AWAY = Unreachable("cannot reach it")
DENIED = ApiError(401, "Unauthorized", "Unauthorized")


def changed(version: int, kind: str = "MODIFIED") -> WatchEvent:
    return WatchEvent(kind, {"metadata": {"name": "a", "resourceVersion": str(version)}})


def listed(version: int) -> Object:
    return {"metadata": {"resourceVersion": str(version)}, "items": []}


class Script:
    """A server that answers as scripted: a list's version, or the events of a watch and how it ends."""

    def __init__(self, *steps: object) -> None:
        self.steps: list[Any] = list(steps)
        self.asked: list[str] = []
        self.waited: list[float] = []
        self.outages: list[str] = []

    def list(self) -> Object:
        self.asked.append("list")
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, int)
        return listed(step)

    def watch(self, resource_version: str) -> Iterator[WatchEvent]:
        self.asked.append(resource_version)
        step = self.steps.pop(0)
        for one in step if isinstance(step, list) else [step]:
            if isinstance(one, Exception):
                raise one
            yield one

    def wait(self, seconds: float) -> bool:
        if seconds:
            self.waited.append(seconds)
        return not self.steps

    def pace(self, chance: Callable[[], float] = lambda: 1.0) -> Pace:
        return Pace(self.wait, Backoff(1.0, 8.0, chance), lambda error: self.outages.append(str(error)))


def followed(script: Script, version: str = "") -> list[tuple[str, str]]:
    found = follow(script, script.pace(), version)
    return [(one.type, one.object["metadata"]["resourceVersion"]) for one in found]


def test_the_first_event_is_the_whole_list_then_every_change() -> None:
    script = Script(5, [changed(6), changed(7, "DELETED")])
    assert followed(script) == [(RELIST, "5"), ("MODIFIED", "6"), ("DELETED", "7")]
    assert script.asked == ["list", "5"]


def test_a_lost_connection_resumes_at_the_last_version_bookmarks_included() -> None:
    script = Script(5, [changed(6), changed(9, "BOOKMARK"), AWAY], [AWAY], [changed(10)])
    assert followed(script) == [(RELIST, "5"), ("MODIFIED", "6"), ("MODIFIED", "10")]
    assert script.asked == ["list", "5", "9", "9"]


def test_a_version_to_start_from_leaves_the_list_out() -> None:
    script = Script([changed(6)])
    assert followed(script, "5") == [("MODIFIED", "6")]


def test_history_that_is_gone_is_listed_again() -> None:
    script = Script(5, [changed(6), EXPIRED], 20, [changed(21)])
    assert followed(script) == [(RELIST, "5"), ("MODIFIED", "6"), (RELIST, "20"), ("MODIFIED", "21")]


def test_an_outage_is_told_once_and_waited_out_longer_and_longer() -> None:
    script = Script(5, [AWAY], [AWAY], [AWAY], [changed(6)], [AWAY], [changed(7)])
    followed(script)
    assert script.outages == ["cannot reach it", "cannot reach it"]
    assert script.waited == [1.0, 2.0, 4.0, 1.0, 2.0, 1.0]


def test_a_busy_server_says_how_long_to_wait() -> None:
    script = Script(BUSY, 5, [changed(6)])
    followed(script)
    assert script.waited[0] == 7.0 + 1.0, "and its own wait besides: others were told the same"


def test_the_longest_wait_is_the_followers_own_where_it_has_one() -> None:
    script = Script(5, [AWAY], [AWAY], [AWAY], [changed(6)])
    for _ in follow(script, Pace(script.wait, Backoff(1.0, 8.0, lambda: 1.0), longest=lambda: 1.5)):
        pass
    assert script.waited[:3] == [1.0, 1.5, 1.5]


def test_what_trying_again_can_not_change_is_raised() -> None:
    with pytest.raises(ApiError, match="Unauthorized"):
        followed(Script(5, [DENIED]))


def test_a_server_that_ends_streams_at_once_is_not_asked_in_a_hurry() -> None:
    script = Script(5, [], [], [], [changed(6)])
    followed(script)
    assert script.waited[:3] == [1.0, 2.0, 4.0]


_STEP = st.sampled_from(["away", "expired", "busy", "end"])


@given(st.lists(st.tuples(st.integers(0, 5), _STEP), max_size=20))
def test_whatever_breaks_no_change_is_missed_or_seen_twice(plan: list[tuple[int, str]]) -> None:
    """A history that grows by a few changes before each break; each reaches the reader once, or is in a RELIST."""

    class History:
        def __init__(self) -> None:
            self.head = 0
            self.plan = iter(plan)

        def list(self) -> Object:
            return listed(self.head)

        def watch(self, resource_version: str) -> Iterator[WatchEvent]:
            more, how = next(self.plan, (0, "stop"))
            if how == "stop":
                raise DENIED
            self.head += more
            if how == "expired":
                raise EXPIRED
            yield from (changed(version) for version in range(int(resource_version) + 1, self.head + 1))
            if how != "end":
                raise AWAY if how == "away" else BUSY

    history, seen = History(), 0
    with pytest.raises(ApiError, match="Unauthorized"):
        for event in follow(history, Pace(lambda seconds: False, Backoff(0.1, 1.0, lambda: 0.0))):
            version = int(event.object["metadata"]["resourceVersion"])
            assert version == seen + 1 or event.type == RELIST
            seen = version
    assert seen == history.head


@given(st.lists(st.integers(1, 40), max_size=10))
def test_lines_survive_any_cut_and_separators_of_unicode(cuts: list[int]) -> None:
    texts = ["a\u2028b", "c\x85d", "", "ü" * 20, '{"x": "\\n"}']
    data = "\n".join(texts).encode() + b"\n"
    edges = [0, *sorted({min(sum(cuts[: i + 1]), len(data)) for i in range(len(cuts))}), len(data)]
    chunks = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert list(lines(chunks)) == [text.encode() for text in texts if text]


def test_an_error_line_is_raised_and_a_cut_line_dropped() -> None:
    good = json.dumps({"type": "ADDED", "object": {"a": 1}}).encode()
    bad = json.dumps({"type": "ERROR", "object": EXPIRED.body()}).encode()
    found = events([good + b"\n" + bad + b"\n"])
    assert next(found) == ("ADDED", {"a": 1})
    with pytest.raises(ApiError, match="too old") as caught:
        next(found)
    assert caught.value.status == 410
    assert list(events([good + b"\n", good[:5]])) == [("ADDED", {"a": 1})]


def test_something_that_is_no_event_is_no_crash() -> None:
    for line in (b"<html>\n", b"[]\n", b'{"type": 1}\n'):
        with pytest.raises(Unreachable):
            list(events([line]))
