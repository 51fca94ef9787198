"""A watch tells every change of what it selects, once and in order, from any moment that the server still knows."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from ..conftest import until
from .conftest import AT_ONCE, CHANGES, Api, Robot, is_status, message, work


def watchers(api: Api) -> float:
    """How many watches the server holds open."""
    lines = api.http.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith("casare_watchers ")).split()[1])


@pytest.mark.parametrize("kind", AT_ONCE)
def test_a_life_is_told_in_order(api: Api, kind: str) -> None:
    name = f"{api.namespace}-x"
    with api.watch(kind, fieldSelector=f"metadata.name={name}") as watch:
        made = api.create(kind, name)
        changed = api.changed(kind, name, CHANGES[kind])
        api.delete(kind, name)
        added, modified, deleted = watch.next(), watch.next(), watch.next()
    assert [event["type"] for event in (added, modified, deleted)] == ["ADDED", "MODIFIED", "DELETED"]
    assert added["object"]["metadata"] == made["metadata"]
    assert modified["object"]["metadata"] == changed["metadata"]
    last = deleted["object"]["metadata"]
    assert int(last["resourceVersion"]) > int(changed["metadata"]["resourceVersion"]), "a deletion is a change too"
    assert {**last, "resourceVersion": ""} == {**changed["metadata"], "resourceVersion": ""}


@pytest.mark.parametrize("start", [{}, {"resourceVersion": ""}, {"resourceVersion": "0"}])
def test_without_a_version_it_begins_with_what_there_is(api: Api, start: dict[str, str]) -> None:
    for name in ("a", "b", "c"):
        api.create("Workflow", name)
    with api.watch("Workflow", **{"resourceVersion": "", **start}) as watch:
        assert watch.take(3) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]
        api.create("Workflow", "d")
        assert watch.take(1) == [("ADDED", "d")]


def test_it_goes_on_from_any_version_and_misses_nothing(api: Api) -> None:
    versions = [api.create("Workflow", "w")["metadata"]["resourceVersion"]]
    for number in range(10):
        after = api.changed("Workflow", "w", {"metadata": {"labels": {"n": str(number)}}})
        versions.append(after["metadata"]["resourceVersion"])
    for position, version in enumerate(versions[:-1]):
        with api.watch("Workflow", resourceVersion=version) as watch:
            seen = [watch.next()["object"]["metadata"]["resourceVersion"] for _ in versions[position + 1 :]]
        assert seen == versions[position + 1 :]


def test_it_can_break_off_and_go_on_after_every_event(api: Api) -> None:
    """What a client that loses its connection all the time sees is what one that never does sees."""
    version = api.rv()
    for number in range(12):
        api.create("Workflow", f"w{number % 4}") if number < 4 else api.changed(
            "Workflow", f"w{number % 4}", {"metadata": {"labels": {"n": str(number)}}}
        )
    seen = []
    for _ in range(12):
        with api.watch("Workflow", resourceVersion=version) as watch:
            event = watch.next()
        version = event["object"]["metadata"]["resourceVersion"]
        seen.append((event["type"], event["object"]["metadata"]["name"]))
    assert seen == [("ADDED", f"w{n}") for n in range(4)] + [("MODIFIED", f"w{n % 4}") for n in range(8)]


def test_what_begins_to_match_is_added_and_what_ceases_is_deleted(api: Api) -> None:
    def label(name: str, **labels: str | None) -> str:
        return str(api.changed("Workflow", name, {"metadata": {"labels": labels}})["metadata"]["resourceVersion"])

    api.create("Workflow", "in", labels={"site": "berlin"})
    api.create("Workflow", "out", labels={"site": "paris"})
    with api.watch("Workflow", labelSelector="site=berlin") as watch:
        label("out", floor="2")  # never matched
        label("in", floor="1")
        left = label("in", site="paris")
        label("in", floor="3")  # does not match any more
        entered = label("out", site="berlin")
        api.delete("Workflow", "in")  # not told: it left before
        api.delete("Workflow", "out")
        events = [watch.next() for _ in range(4)]
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("MODIFIED", "in"),
        ("DELETED", "in"),
        ("ADDED", "out"),
        ("DELETED", "out"),
    ]
    gone, come = events[1]["object"]["metadata"], events[2]["object"]["metadata"]
    assert gone["labels"] == {"site": "berlin", "floor": "1"}, "as it was when it still matched"
    assert gone["resourceVersion"] == left and come["resourceVersion"] == entered


def test_an_agent_learns_that_its_job_went_away(api: Api, robot: Callable[..., Robot]) -> None:
    rob = robot()
    selector = f"status.robotUID={rob.uid},status.phase!=Succeeded,status.phase!=Failed"
    with rob.api.watch(
        "Job", path="/apis/fleet.casare.net/v1/jobs", fieldSelector=selector, resourceVersion=api.rv()
    ) as watch:
        api.create("Job", "j", work(rob))
        job = rob.assigned(api, "j")
        assert rob.say(job, "Running") == 200 and rob.say(job, "Drained") == 200
        events = [watch.next() for _ in range(3)]
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    last = events[-1]["object"]["status"]
    assert (last["robotUID"], last["phase"]) == (rob.uid, "Running"), "as the agent knew it"


def test_a_robot_sees_no_job_but_its_own_by_any_path(api: Api, robot: Callable[..., Robot]) -> None:
    rob = robot()
    api.create("Job", "secret", work())
    own = {"fieldSelector": f"status.robotUID={rob.uid}", "timeoutSeconds": "1", "resourceVersion": "0"}
    with rob.api.watch("Job", path=api.path("Job", "secret"), **own) as watch:
        assert watch.rest() == []
    assert rob.api.names("Job", fieldSelector=own["fieldSelector"]) == []
    for params in ({}, {"fieldSelector": "status.phase=Queued"}, {"fieldSelector": f"status.robotUID!={rob.uid}"}):
        assert is_status(rob.api.call("GET", api.path("Job"), params=params), 403, "Forbidden")
    assert is_status(rob.api.call("GET", api.path("Job", "secret")), 403, "Forbidden")


def test_a_namespace_is_watched_alone(api: Api) -> None:
    other = Api(api.server, f"{api.namespace}-2")
    other.create("Namespace", other.namespace, {})
    with (
        api.watch("Workflow") as mine,
        api.watch("Workflow", path="/apis/fleet.casare.net/v1/workflows") as all_of_them,
    ):
        other.create("Workflow", "theirs")
        api.create("Workflow", "ours")
        assert mine.take(1) == [("ADDED", "ours")]
        assert all_of_them.take(2) == [("ADDED", "theirs"), ("ADDED", "ours")]


def test_one_object_is_watched_by_its_path(api: Api) -> None:
    api.create("Workflow", "w")
    with api.watch("Workflow", path=api.path("Workflow", "w"), resourceVersion="0") as watch:
        assert watch.take(1) == [("ADDED", "w")]
        api.create("Workflow", "another")
        api.changed("Workflow", "w", CHANGES["Workflow"])
        assert watch.take(1) == [("MODIFIED", "w")]


def test_a_deletion_that_is_held_up_is_a_change_and_then_a_deletion(api: Api) -> None:
    api.create("Workflow", "w", finalizers=["example.com/hold"])
    with api.watch("Workflow") as watch:
        api.delete("Workflow", "w")
        api.patch("Workflow", "w", {"metadata": {"finalizers": []}})
        assert watch.take(2) == [("MODIFIED", "w"), ("DELETED", "w")]


def test_bookmarks_come_by_themselves_and_at_the_end(api: Api) -> None:
    name = api.create("Workflow", "w")["metadata"]["name"]
    with api.watch("Workflow", allowWatchBookmarks="true", timeoutSeconds="1") as watch:
        api.create("Robot", f"{api.namespace}-other")  # moves history, and is not for this watch
        moved = int(api.rv())
        events = watch.rest()
    assert len(events) >= 2 and {event["type"] for event in events} == {"BOOKMARK"}
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(versions) and versions[-1] >= moved
    assert (
        set(events[-1]["object"]) == {"kind", "apiVersion", "metadata"} and events[-1]["object"]["kind"] == "Workflow"
    )
    with api.watch("Workflow", resourceVersion=str(versions[-1])) as watch:
        api.delete("Workflow", name)
        assert watch.take(1) == [("DELETED", "w")]


def test_nobody_gets_bookmarks_who_did_not_ask(api: Api) -> None:
    with api.watch("Workflow", timeoutSeconds="1") as watch:
        assert watch.rest() == []


def test_it_ends_when_its_time_is_up(api: Api) -> None:
    """The client would give up after 20 s of silence."""
    begun = time.monotonic()
    with api.watch("Workflow", timeoutSeconds="1") as watch:
        assert watch.rest() == []
    assert time.monotonic() - begun > 0.9


@pytest.mark.parametrize(
    ("query", "code", "problem"),
    [
        ({"sendInitialEvents": "true"}, 422, "sendInitialEvents"),
        ({"sendInitialEvents": "false"}, 422, "sendInitialEvents"),
        ({"resourceVersionMatch": "NotOlderThan"}, 422, "resourceVersionMatch"),
        ({"resourceVersion": "abc"}, 400, 'resourceVersion: Invalid value: "abc"'),
        ({"resourceVersion": "-1"}, 400, 'resourceVersion: Invalid value: "-1"'),
        ({"timeoutSeconds": "soon"}, 400, 'timeoutSeconds: Invalid value: "soon"'),
        ({"fieldSelector": "nope=1"}, 400, "field label not supported: nope"),
        ({"resourceVersion": "999999999999"}, 410, "too large resource version"),
    ],
)
def test_what_it_can_not_do_it_refuses(api: Api, query: dict[str, str], code: int, problem: str) -> None:
    with api.watch("Workflow", **query) as watch:
        assert problem in message(watch.response, code)


def test_a_watch_whose_client_went_away_is_forgotten(api: Api) -> None:
    until(lambda: watchers(api) == 0, "those of other tests are forgotten")
    for _ in range(3):
        with api.watch("Workflow"):
            until(lambda: watchers(api) == 1, "it is counted")
        until(lambda: watchers(api) == 0, "it is forgotten")
