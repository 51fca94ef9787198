"""Why a job waits: the numbers add up, what is said can be carried out, and it agrees with what placement does."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.decisions import explaining, lifecycle, reasons
from casare_api.decisions.explaining import Around, Contest, Holders, Place
from casare_api.decisions.lacking import lacks
from casare_api.decisions.placement import Queue, Requirements, Robot, Taint, Toleration, matches, place, serves
from casare_api.decisions.reasons import Alone, told

Object = dict[str, Any]
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
FIRST = Place(0, True, 1, True)


def robot(name: str, **traits: Any) -> Robot:
    words = {key: frozenset(traits.pop(key, ())) for key in ("capabilities", "tags")}
    return Robot(**({"uid": f"uid-{name}", "name": name, "namespace": "default"} | words | traits))


def away(name: str, why_not: str, **traits: Any) -> Robot:
    return robot(name, schedulable=False, why_not=why_not, **traits)


def job(**spec: Any) -> Object:
    new = {"metadata": {"namespace": "default", "name": "j"}, "spec": {"priority": 10, **spec}}
    return lifecycle.queue(new, NOW)


def explained(job: Object, robots: list[Robot], **around: Any) -> Object:
    asked = (job["metadata"]["namespace"], Requirements.from_dict(job["spec"].get("requirements") or {}))
    rivals = around.pop("queues", [asked])
    return explaining.explain(job, Around(**{"contest": Contest.of(asked, robots, rivals), "place": FIRST, **around}))


def why(spec: Object, robots: list[Robot], **around: Any) -> str:
    return str(explained(job(**spec), robots, **around)["message"])


def rules(said: Object) -> dict[str, int]:
    return {each["rule"]: each["robots"] for each in said["reasons"]}


# -- the sentence ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "robots", "around", "message"),
    [
        ({}, [], {}, "no robot has registered yet"),
        ({}, [robot("a", namespace="x")], {}, "no robot serves namespace default"),
        ({}, [robot("a")], {}, "a is free: it will be placed in a moment"),
        ({}, [robot("a", free_slots=0)], {}, "all robots that could run it now are full"),
        (
            {},
            [robot("a", free_slots=0)],
            {"ends": {"uid-a": timedelta(minutes=4)}},
            "all robots that could run it now are full; one usually has room in 4m",
        ),
        (
            {"requirements": {"capabilities": ["browser"], "tags": ["sap"]}},
            [robot("a"), robot("b", tags=["sap"])],
            {},
            "no robot that serves namespace default has all that it asks for; b is nearest and lacks capability browser",
        ),
        ({}, [away("a", "paused"), away("b", "offline")], {}, "no robot that has all it asks for can take it: 1 is offline, 1 is paused"),
        (
            {},
            [robot("a")],
            {"place": Place(7, True, 8, True)},
            "7 jobs are before it for the same robots, for 1 free slot",
        ),
        (
            {},
            [robot("a", free_slots=0)],
            {"place": Place(10_000, False, 8, True)},
            "all robots that could run it now are full; more than 10000 jobs are before it for the same robots",
        ),
        (
            {"notBefore": "2026-11-23T10:00:00Z"},
            [robot("a")],
            {},
            "it waits for its notBefore, 2026-11-23 10:00:00 UTC",
        ),
        (
            {"concurrency": {"key": "sap", "limit": 1}},
            [robot("a")],
            {"holders": Holders(1, ["other"])},
            'other has the concurrency key "sap", which 1 may have at a time',
        ),
        (
            {"concurrency": {"key": "sap", "limit": 3}},
            [robot("a")],
            {"holders": Holders(3, ["x", "y"])},
            'x and y and others have the concurrency key "sap", which 3 may have at a time',
        ),
        (
            {"concurrency": {"key": "sap", "limit": 2}},
            [robot("a")],
            {"holders": Holders(1, ["x"])},
            "a is free: it will be placed in a moment",
        ),
        (
            {},
            [robot("a")],
            {"shares": {"default": Alone(1, 5, 5)}},
            "namespace default runs 5 jobs, as many as its quota allows (maxRunning 5)",
        ),
    ],
)  # fmt: skip
def test_one_sentence_says_what_matters_most(
    spec: Object, robots: list[Robot], around: dict[str, Any], message: str
) -> None:
    assert why(spec, robots, **around) == message


def test_that_no_controller_runs_comes_before_all_else_and_nothing_is_promised() -> None:
    nobody = {"rule": "controller", "message": "no controller has looked after waiting jobs", "robots": 0}
    said = explained(job(), [robot("a")], unattended=nobody)
    assert (said["message"], said["reasons"]) == (nobody["message"], [nobody]), "though a is free"
    said = explained(job(notBefore="2026-11-23T10:00:00Z"), [away("a", "paused")], unattended=nobody)
    assert said["message"] == nobody["message"] and list(rules(said)) == ["controller", "notBefore", "paused"]


def test_a_retry_that_is_held_back_is_told_apart_from_a_time_that_was_asked_for() -> None:
    policy = {"retry": {"limit": 1, "backoff": {"initial": "1m"}}}
    run = lifecycle.assign(job(notBefore="2026-11-23T08:00:00Z", **policy), "a", "uid-a", NOW)
    back = lifecycle.report(run, "uid-a", {"attempt": 1, "phase": "Failed"}, NOW)
    said = explained(back, [robot("a")])
    assert said["phase"] == "Queued" and list(rules(said)) == ["backoff"]
    assert said["message"].startswith("attempt 1 ended as Failed; it is tried again at 2026-11-23 09:00:")


def test_anothers_turn_is_named_only_to_those_who_see_everything() -> None:
    full = [robot("a", serves=("*",), free_slots=0)]
    shares = {"default": Alone(1, 4), "billing": Alone(2, 2)}
    queues = [("default", Requirements()), ("billing", Requirements())]
    told_all = why({}, full, shares=shares, queues=queues, sees_all=True)
    assert "turn is that of namespace billing" in told_all and "2 at weight 2, against 4 at weight 1" in told_all
    told_some = why({}, full, shares=shares, queues=queues)
    assert "another namespace" in told_some and "billing" not in told_some


def test_a_namespace_whose_quota_is_used_up_is_nobodys_next() -> None:
    shares = {"default": Alone(1, 4), "billing": Alone(1, 2, 2)}
    queues = [("default", Requirements()), ("billing", Requirements())]
    assert "fairShare" not in rules(explained(job(), [robot("a", serves=("*",), free_slots=0)], shares=shares, queues=queues))


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ("Assigned", "it was given to pc-01 at 2026-11-23 09:00:00 UTC, which has not begun yet"),
        ("Running", "it runs on pc-01 since 2026-11-23 09:00:00 UTC, attempt 1"),
        ("Succeeded", "it is over: Succeeded at 2026-11-23 09:00:00 UTC"),
        ("Failed", "it is over: Failed at 2026-11-23 09:00:00 UTC, because no file"),
    ],
)
def test_a_job_that_waits_no_more_says_what_became_of_it(phase: str, message: str) -> None:
    found = lifecycle.assign(job(), "pc-01", "u", NOW)
    if phase != "Assigned":
        found = lifecycle.report(found, "u", {"attempt": 1, "phase": phase, "message": "no file"}, NOW)
    assert explaining.is_settled(found)
    said = explaining.explain_settled(found)
    assert (said["phase"], said["message"]) == (phase, message) and "reasons" not in said


# -- the parts --------------------------------------------------------------------------------------------------------


def test_the_bound_on_its_wait_and_its_end() -> None:
    aged = explained(job(priority=10, startDeadline="2h"), [])
    assert aged["rank"] == "2026-11-23T09:50:00.000000Z"
    assert aged["boundedBy"] == (
        "no job of its namespace that is submitted after 2026-11-23 09:50:00 UTC comes before it, whatever its priority; "
        "it expires at 2026-11-23 11:00:00 UTC unless it has started"
    )
    late = job(priority=0)
    late["status"]["queuedTime"] = "2026-11-23T09:00:00.000001Z"
    assert "after 2026-11-23 09:00:01 UTC" in explained(late, [])["boundedBy"], "never earlier than it is"
    strict = job(priority=1)
    strict["status"]["agingInterval"] = "0"
    assert "ageing is off" in explained(strict, [])["boundedBy"]


def test_of_the_robots_that_would_serve_it_those_come_first_that_have_room_soonest() -> None:
    robots = [
        away("off", "offline"),
        away("paused", "paused"),
        robot("late", free_slots=0),
        robot("soon", free_slots=0),
        robot("half", free_slots=1, total_slots=2),
        robot("other", free_slots=0, tags=["x"]),
    ]
    spec = {"requirements": {"robotSelector": [{"key": "k", "operator": "DoesNotExist"}]}}
    found = explained(job(**spec), robots, ends={"uid-soon": timedelta(seconds=30), "uid-other": timedelta(hours=3)})
    assert [(each["name"], each["state"], each["freeSlots"], each["message"]) for each in found["wouldServe"]] == [
        ("half", "Busy", 1, "is free for 1 of 2 jobs"),
        ("soon", "Busy", 0, "is full; its jobs usually end in under a minute"),
        ("other", "Busy", 0, "is full; its jobs usually end in 3h"),
        ("late", "Busy", 0, "is full"),
        ("paused", "Paused", 1, "is paused: resume robot paused"),
        ("off", "Offline", 1, "is offline: start the agent of robot off"),
    ]


def test_the_nearest_lack_the_least_and_what_is_only_switched_off_is_nearer() -> None:
    robots = [
        robot("far", environment="staging"),
        robot("near", environment="production", tags=["sap"]),
        away("off", "offline", environment="production", tags=["sap"], capabilities=["browser"]),
        robot("full", environment="production", tags=["sap"], capabilities=["browser"], free_slots=0),
        *(robot(f"z{number}") for number in range(5)),
    ]
    spec = {"requirements": {"environment": "production", "tags": ["sap"], "capabilities": ["browser"]}}
    near = explained(job(**spec), robots)["nearest"]
    assert [each["name"] for each in near] == ["off", "near", "far"]
    assert near[1] == {"name": "near", "lacks": ["capability browser"], "changes": ["add capability browser to robot near"]}


def test_robots_that_do_not_serve_the_namespace_are_named_to_those_alone_who_see_them_anyway() -> None:
    robots = [robot("hidden", namespace="b"), robot("own", serves=("b",)), robot("abroad", namespace="b", serves=("*",), tags=["x"])]
    spec = {"requirements": {"tags": ["y"]}}
    assert "hidden" not in str(explained(job(**spec), robots))
    assert [each["name"] for each in explained(job(**spec), robots)["nearest"]] == ["abroad", "own"]
    seen = explained(job(**spec), robots, sees_all=True)["nearest"]
    assert [(each["name"], each.get("namespace")) for each in seen] == [("abroad", "b"), ("hidden", "b"), ("own", None)]
    assert seen[1]["changes"] == ["set serves of robot hidden to [b, default]", "add tag y to robot hidden"]


def test_a_name_says_nothing_of_robots_that_others_have() -> None:
    spec = {"requirements": {"robotName": "hidden"}}
    taken, none = (explained(job(**spec), [robot("a"), robot(name, namespace="b")]) for name in ("hidden", "x"))
    assert taken == none


def test_queues_compete_that_want_one_of_the_robots_that_it_could_have() -> None:
    robots = [robot("a", tags=["x"], serves=("*",)), robot("b", tags=["y"])]
    queues = [("default", Requirements(tags=frozenset(words))) for words in ("x", "y", "xy", "")] + [("other", Requirements())]
    contest = Contest.of(queues[0], robots, queues)
    assert contest.queues == [queues[0], queues[3], queues[4]]
    alone = ("default", Requirements(tags=frozenset("z")))
    assert Contest.of(alone, robots, [*queues, alone]).queues == [alone], "where nobody would do, those that ask the same"


# -- the short form ---------------------------------------------------------------------------------------------------


def short(robots: list[Robot], asked: list[tuple[str, Requirements]] | None = None, **more: Any) -> list[list[str]]:
    found = told(asked or [("default", Requirements())], robots, **more)
    return [[each["message"] for each in one] for one in found]


def test_every_queue_is_told_something() -> None:
    assert short([]) == [["no robot has registered yet"]]
    assert short([robot("a")]) == [["a is free: it will be placed in a moment"]]
    assert short([robot("a"), robot("b")]) == [["2 robots are free: it will be placed in a moment"]]
    full = [robot("pc-01", free_slots=0)]
    assert short(full) == [["the only robot, pc-01, is full"]]
    ends = {"uid-pc-01": timedelta(minutes=3, seconds=10)}
    assert short(full, ends=ends) == [["the only robot, pc-01, is full; its jobs usually end in 4m"]]
    both = [*full, robot("pc-02", free_slots=0)]
    assert short(both, ends=ends) == [["all 2 robots are full; the next slot is usually free in 4m"]]


def test_a_used_up_quota_and_anothers_turn_are_told_before_the_robots() -> None:
    full = [robot("a", free_slots=0, serves=("*",))]
    asked = [("default", Requirements()), ("b", Requirements())]
    (mine, theirs) = short(full, asked, shares={"default": Alone(1, 2, 2), "b": Alone(1, 9)})
    assert mine == ["namespace default runs 2 jobs, as many as its quota allows (maxRunning 2)", "the only robot, a, is full"]
    assert theirs == ["the only robot, a, is full"]
    (mine, theirs) = short(full, asked, shares={"b": Alone(2, 1)})
    assert mine == ["the only robot, a, is full"] and "another namespace" in theirs[0]


def test_room_that_was_given_away_is_room_no_more() -> None:
    left = reasons.with_less_room([robot("a", free_slots=2, total_slots=2), robot("b")], {"uid-a": 2})
    assert [each.free_slots for each in left] == [0, 1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "under a minute"), (60, "under a minute"), (61, "2m"), (599, "10m"), (601, "15m"), (7100, "2h"), (7300, "2h30m")],
)
def test_a_time_is_said_so_coarsely_that_it_stays(seconds: int, words: str) -> None:
    assert reasons.in_words(timedelta(seconds=seconds)) == words


# -- laws -------------------------------------------------------------------------------------------------------------

KEYS, VALUES = ("site", "floor"), ("berlin", "paris", "1", "3")
TERMS = st.one_of(
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": values},
        st.sampled_from(KEYS),
        st.sampled_from(["In", "NotIn"]),
        st.lists(st.sampled_from(VALUES), min_size=1, max_size=2, unique=True),
    ),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator},
        st.sampled_from(KEYS),
        st.sampled_from(["Exists", "DoesNotExist"]),
    ),
    st.builds(
        lambda key, operator, value: {"key": key, "operator": operator, "values": [value]},
        st.sampled_from(KEYS),
        st.sampled_from(["Gt", "Lt"]),
        st.sampled_from(["0", "1", "4"]),
    ),
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "environment": st.sampled_from(["production", "staging"]),
        "capabilities": st.lists(st.sampled_from(["browser", "gpu", "y"]), max_size=3, unique=True),
        "tags": st.lists(st.sampled_from(["sap", "x"]), max_size=2, unique=True),
        "robotName": st.sampled_from(["r0", "r1", "nobody"]),
        "robotSelector": st.lists(TERMS, max_size=3),
        "tolerations": st.sampled_from([[{"operator": "Exists"}], [{"key": "certified", "value": "no"}]]),
    },
)


@st.composite
def fleets(draw: st.DrawFn) -> list[Robot]:
    robots = []
    for number in range(draw(st.integers(0, 7))):
        total, why_not = draw(st.integers(1, 3)), draw(st.sampled_from(["", "", "", "offline", "paused", "drained"]))
        robots.append(
            Robot(
                uid=f"u{number}",
                name=f"r{number}",
                namespace=draw(st.sampled_from(["a", "b"])),
                serves=draw(st.sampled_from([(), ("*",), ("a",), ("b", "c")])),
                environment=draw(st.sampled_from(["production", "staging", "default"])),
                capabilities=draw(st.frozensets(st.sampled_from(["browser", "gpu"]), max_size=2)),
                tags=draw(st.frozensets(st.sampled_from(["sap", "x"]), max_size=2)),
                labels=draw(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=2)),
                taints=draw(st.sampled_from([(), (), (Taint("certified", "no"),), (Taint("old"), Taint("certified", "no"))])),
                free_slots=draw(st.integers(0, total)),
                total_slots=total,
                schedulable=not why_not,
                why_not=why_not,
            )
        )
    return robots


def of(spec: Object, robots: list[Robot], **around: Any) -> Object:
    wanted = job(requirements=spec)
    wanted["metadata"]["namespace"] = "a"
    return explained(wanted, robots, **around)


@settings(max_examples=60, deadline=None)
@given(SPECS, fleets())
def test_the_numbers_add_up(spec: Object, robots: list[Robot]) -> None:
    said = of(spec, robots)
    counts = said["robots"]
    assert sum(each["robots"] for each in said["reasons"]) + counts["free"] == counts["total"] == len(robots)
    assert counts["total"] >= counts["serving"] >= counts["matching"] >= counts["online"] >= counts["free"]
    assert all(each["robots"] > 0 or each["rule"] in ("placement", "namespace") for each in said["reasons"])
    assert len(said["wouldServe"]) == counts["matching"]
    assert said["reasons"] and said["message"] and "\n" not in said["message"]


@settings(max_examples=80, deadline=None)
@given(SPECS, fleets())
def test_it_agrees_with_what_placement_does(spec: Object, robots: list[Robot]) -> None:
    wanted = Requirements.from_dict(spec)
    placed = place([Queue("a", wanted, [(0, "j")])], robots)
    said = of(spec, robots)
    assert bool(placed) == (said["robots"]["free"] > 0) == ("placement" in rules(said))
    able = {each.uid for each in robots if serves(each, "a") and matches(wanted, each) is None}
    assert {f"u{each['name'][1:]}" for each in said["wouldServe"]} == able
    if placed:
        assert said["wouldServe"][0]["freeSlots"] > 0 and said["nearest"] == []


@settings(max_examples=80, deadline=None)
@given(SPECS, fleets())
def test_a_robot_lacks_nothing_exactly_if_it_would_take_it_given_room(spec: Object, robots: list[Robot]) -> None:
    wanted = Requirements.from_dict(spec)
    for each in robots:
        able = serves(each, "a") and matches(wanted, each) is None and each.schedulable
        assert able == (lacks("a", wanted, each) == [])


@settings(max_examples=80, deadline=None)
@given(SPECS, fleets())
def test_with_what_is_said_of_it_carried_out_the_nearest_robot_takes_the_job(spec: Object, robots: list[Robot]) -> None:
    by_name = {each.name: each for each in robots}
    for near in of(spec, robots, sees_all=True)["nearest"]:
        wanted, changed = Requirements.from_dict(spec), by_name[near["name"]]
        assert near["lacks"] and len(near["lacks"]) == len(near["changes"])
        for change in near["changes"]:
            wanted, changed = carried_out(change, wanted, changed)
        changed = replace(changed, free_slots=1)
        assert place([Queue("a", wanted, [(0, "j")])], [changed]), near


@settings(max_examples=80, deadline=None)
@given(SPECS, fleets())
def test_no_other_robot_is_nearer(spec: Object, robots: list[Robot]) -> None:
    wanted, near = Requirements.from_dict(spec), of(spec, robots, sees_all=True)["nearest"]
    if not near:
        return
    short = {each.name: len(lacks("a", wanted, each)) for each in robots}
    missing = {name: count for name, count in short.items() if count}
    assert sorted(len(each["lacks"]) for each in near) == sorted(missing.values())[: explaining.NEAREST]


def carried_out(change: str, wanted: Requirements, robot: Robot) -> tuple[Requirements, Robot]:
    """What a person would do who reads the sentence."""
    name = re.escape(robot.name)

    def said(form: str) -> re.Match[str] | None:
        return re.fullmatch(form.replace("ROBOT", f"robot {name}"), change)

    if found := said(r"set serves of ROBOT to \[(.*)\]"):
        return wanted, replace(robot, serves=tuple(found[1].split(", ")))
    if said(rf"submit the job without robotName, or with {name} as its robotName"):
        return replace(wanted, robot_name=robot.name), robot
    if found := said("set environment of ROBOT to (.*)"):
        return wanted, replace(robot, environment=found[1])
    if found := said("add capability (.*) to ROBOT"):
        return wanted, replace(robot, capabilities=robot.capabilities | {found[1]})
    if found := said("add tag (.*) to ROBOT"):
        return wanted, replace(robot, tags=robot.tags | {found[1]})
    if found := said("set label (.*) of ROBOT to (.*)"):
        assert re.fullmatch("[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", found[2]), "a label's value"
        return wanted, replace(robot, labels={**robot.labels, found[1]: found[2]})
    if found := said("remove label (.*) from ROBOT"):
        return wanted, replace(robot, labels={key: value for key, value in robot.labels.items() if key != found[1]})
    if found := said("submit the job without (.*): no robot can be like that"):
        key = re.split("[^a-z]", found[1].lstrip("!"))[0]
        return replace(wanted, selector=tuple(term for term in wanted.selector if term.key != key)), robot
    if found := said("remove taint (.*) from ROBOT, or submit the job with a toleration of it"):
        key, _, value = found[1].partition("=")
        return replace(wanted, tolerations=(*wanted.tolerations, Toleration(key, "Equal", value))), robot
    assert said("start the agent of ROBOT") or said("resume ROBOT"), change
    return wanted, replace(robot, schedulable=True, why_not="")
