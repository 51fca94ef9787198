"""Placement: what a robot must be, who gets the slots, and what people are told."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.decisions.placement import (
    Assignment,
    Queue,
    Requirements,
    Robot,
    Taint,
    matches,
    place,
    reasons,
    reasons_for,
    serves,
)
from casare_api.machinery.errors import ApiError


def robot(name: str, **traits: Any) -> Robot:
    words = {key: frozenset(traits.pop(key, ())) for key in ("capabilities", "tags")}
    return Robot(**({"uid": f"uid-{name}", "name": name, "namespace": "default"} | words | traits))


def needs(**spec: Any) -> Requirements:
    return Requirements.from_dict(spec)


def queue(*jobs: str, namespace: str = "default", **spec: Any) -> Queue[str]:
    """Jobs that are their own ranks: `a` before `b`."""
    return Queue(namespace, needs(**spec), [(job, job) for job in jobs])


def placed(queues: list[Queue[str]], robots: list[Robot]) -> list[tuple[str, str]]:
    return [(each.job, each.robot.name) for each in place(queues, robots)]


# -- requirements ---------------------------------------------------------------------------------------------------

FULL = {
    "environment": "production",
    "capabilities": ["desktop", "browser", "browser"],
    "tags": ["sap", "finance"],
    "robotSelector": [
        {"key": "site", "operator": "In", "values": ["paris", "berlin"]},
        {"key": "old", "operator": "DoesNotExist"},
    ],
    "tolerations": [{"key": "certified", "operator": "Exists"}, {"key": "a", "value": "b"}],
    "robotName": "pc-01",
    "prefer": [{"sameRobot": True}],
}


def test_requirements_written_differently_are_one_value() -> None:
    shuffled = {key: list(reversed(value)) if isinstance(value, list) else value for key, value in FULL.items()}
    one, other = Requirements.from_dict(FULL), Requirements.from_dict(shuffled)
    assert one == other and hash(one) == hash(other)
    assert one.canonical() == other.canonical() and one.digest() == other.digest()
    assert needs() == needs(environment=None, capabilities=[], tags=None, robotSelector=[], robotName="")


def test_the_canonical_text_gives_them_back() -> None:
    one = Requirements.from_dict(FULL)
    assert Requirements.from_dict(json.loads(one.canonical())) == one
    assert needs().canonical() == "{}"


def test_the_digest_fits_a_signed_64_bit_column_and_stays_the_same_for_ever() -> None:
    assert needs().digest() == 4905387166444775306  # what is in indexes must not change with a release
    digests = {needs(capabilities=[str(each)]).digest() for each in range(200)}
    assert len(digests) == 200 and min(digests) < 0 < max(digests)
    assert all(-(2**63) <= each < 2**63 for each in digests)


def test_a_malformed_selector_is_refused() -> None:
    with pytest.raises(ApiError):
        needs(robotSelector=[{"key": "a", "operator": "Maybe"}])


# -- matching -------------------------------------------------------------------------------------------------------

PC = robot(
    "pc-01",
    environment="production",
    capabilities=["browser", "desktop"],
    tags=["sap"],
    labels={"site": "berlin", "floor": "2"},
)


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ({}, None),
        ({"environment": "production", "capabilities": ["browser"], "tags": ["sap"], "robotName": "pc-01"}, None),
        ({"robotName": "pc-02"}, "robotName"),
        ({"environment": "staging"}, "environment"),
        ({"capabilities": ["browser", "gpu"]}, "capabilities"),
        ({"capabilities": ["Browser"]}, "capabilities"),
        ({"tags": ["finance"]}, "tags"),
        ({"robotSelector": [{"key": "site", "operator": "In", "values": ["berlin"]}]}, None),
        ({"robotSelector": [{"key": "floor", "operator": "Gt", "values": ["2"]}]}, "selector"),
        ({"robotName": "x", "environment": "x", "tags": ["x"]}, "robotName"),
    ],
)
def test_the_first_rule_that_fails(spec: dict[str, Any], rule: str | None) -> None:
    assert matches(needs(**spec), PC) == rule


@pytest.mark.parametrize(
    ("tolerations", "rule"),
    [
        ([], "taints"),
        ([{"key": "certified", "operator": "Exists"}], None),
        ([{"operator": "Exists"}], None),
        ([{"key": "certified", "value": "no"}], None),
        ([{"key": "certified", "operator": "Equal", "value": "no"}], None),
        ([{"key": "certified", "value": "yes"}], "taints"),
        ([{"key": "other", "operator": "Exists"}], "taints"),
    ],
)
def test_taints_keep_jobs_away_that_do_not_tolerate_them(tolerations: list[Any], rule: str | None) -> None:
    tainted = robot("pc-01", taints=(Taint("certified", "no"),))
    assert matches(needs(tolerations=tolerations), tainted) == rule


def test_a_robot_serves_its_own_namespace_or_those_it_names() -> None:
    assert serves(robot("a"), "default") and not serves(robot("a"), "finance")
    assert serves(robot("a", serves=("finance",)), "finance") and not serves(robot("a", serves=("finance",)), "default")
    assert serves(robot("a", serves=("*",)), "anything")


def test_a_robot_from_its_resource() -> None:
    obj = {
        "metadata": {"uid": "u", "name": "pc-01", "namespace": "default", "labels": {"site": "berlin"}},
        "spec": {
            "serves": ["*"],
            "environment": "production",
            "capabilities": ["browser"],
            "tags": ["sap"],
            "maxConcurrentJobs": 3,
            "taints": [{"key": "certified", "value": "no", "effect": "NoPlace"}],
        },
    }
    made = Robot.from_object(obj, used_slots=1)
    assert (made.free_slots, made.total_slots, made.schedulable, made.why_not) == (2, 3, True, "")
    assert made.taints == (Taint("certified", "no"),) and made.serves == ("*",)
    assert Robot.from_object(obj, used_slots=9).free_slots == 0
    assert Robot.from_object(obj, online=False).why_not == "offline"
    paused = Robot.from_object({**obj, "spec": {"desiredState": "Paused"}})
    assert (paused.schedulable, paused.why_not, paused.environment) == (False, "paused", "default")


# -- placing --------------------------------------------------------------------------------------------------------


def test_jobs_are_served_in_order_of_rank_over_all_queues() -> None:
    queues = [queue("b", "d"), queue("a", "c", namespace="finance")]
    assert placed(queues, [robot("r", serves=("*",), free_slots=3, total_slots=3)]) == [
        ("a", "r"),
        ("b", "r"),
        ("c", "r"),
    ]


def test_the_least_capable_robot_that_fits_then_the_least_loaded_then_by_name() -> None:
    robots = [
        robot("a-rich", capabilities=["browser", "gpu"]),
        robot("busy", capabilities=["browser"], free_slots=2, total_slots=4),
        robot("idle-2", capabilities=["browser"], free_slots=2, total_slots=2),
        robot("idle-1", capabilities=["browser"], free_slots=1, total_slots=1),
        robot("plain"),
    ]
    jobs = queue(*"abcdefg", capabilities=["browser"])
    names = [name for _, name in placed([jobs], robots)]
    assert names == ["idle-1", "idle-2", "busy", "idle-2", "busy", "a-rich"]


def test_scarce_robots_stay_free_for_those_who_need_them() -> None:
    robots = [robot("gpu", capabilities=["gpu"]), robot("plain")]
    assert placed([queue("a"), queue("b", capabilities=["gpu"])], robots) == [("a", "plain"), ("b", "gpu")]


def test_work_that_nobody_can_do_holds_nobody_up() -> None:
    stuck = queue(*(f"a{number}" for number in range(50)), capabilities=["quantum"])
    assert placed([stuck, queue("b")], [robot("r")]) == [("b", "r")]


def test_a_named_robot_and_no_other() -> None:
    robots = [robot("pc-01", free_slots=1), robot("pc-02", free_slots=5, total_slots=5)]
    assert placed([queue("a", "b", robotName="pc-01")], robots) == [("a", "pc-01")]
    assert placed([queue("a", robotName="pc-09")], robots) == []


def test_robots_that_are_away_or_full_get_nothing() -> None:
    robots = [robot("off", schedulable=False, why_not="offline"), robot("full", free_slots=0)]
    assert placed([queue("a")], robots) == []
    assert placed([], [robot("r")]) == [] and placed([queue()], [robot("r")]) == [] and placed([queue("a")], []) == []


def test_a_queue_whose_better_robots_others_used_up_goes_on_to_the_next() -> None:
    robots = [robot("a", tags=["sap"]), robot("b", tags=["sap", "x"])]
    assert placed([queue("1", tags=["sap"]), queue("2")], robots) == [("1", "a"), ("2", "b")]
    assert placed([queue("1", "2", tags=["sap"]), queue("3")], robots) == [("1", "a"), ("2", "b")]


def test_of_several_groups_the_best_robot_comes_next_also_after_the_first() -> None:
    robots = [robot("a", labels={"site": "berlin"}), robot("z", labels={"site": "berlin"}), robot("m")]
    in_berlin = queue("4", robotSelector=[{"key": "site", "operator": "Exists"}])
    assert placed([queue("1", "2", "3"), in_berlin], robots) == [("1", "a"), ("2", "m"), ("3", "z")]


def test_robots_of_one_name_in_two_namespaces_are_two() -> None:
    robots = [robot("r", namespace=each, uid=each, serves=("*",)) for each in ("b", "a")]
    assert [each.robot.uid for each in place([queue("1", "2", "3")], robots)] == ["a", "b"]


WORDS = st.frozensets(st.sampled_from(["browser", "gpu", "x"]), max_size=3)
SITES = st.sampled_from([{}, {"site": "berlin"}, {"site": "paris", "floor": "2"}])
TAINTS = st.sampled_from([(), (), (Taint("certified", "no"),), (Taint("old"), Taint("certified", "no"))])
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "environment": st.sampled_from(["production", "staging"]),
        "capabilities": st.lists(st.sampled_from(["browser", "gpu", "y"]), max_size=2),
        "tags": st.lists(st.sampled_from(["sap", "x"]), max_size=1),
        "robotName": st.sampled_from(["r0", "r1", "nobody"]),
        "robotSelector": st.sampled_from(
            [
                [{"key": "site", "operator": "In", "values": ["berlin"]}],
                [{"key": "site", "operator": "DoesNotExist"}],
                [{"key": "floor", "operator": "Gt", "values": ["1"]}, {"key": "site", "operator": "Exists"}],
            ]
        ),
        "tolerations": st.sampled_from([[{"operator": "Exists"}], [{"key": "certified", "value": "no"}]]),
    },
)


@st.composite
def fleets(draw: st.DrawFn) -> list[Robot]:
    robots = []
    for number in range(draw(st.integers(0, 8))):
        total = draw(st.integers(1, 4))
        robots.append(
            Robot(
                uid=f"u{number}",
                name=f"r{number // 2}",
                namespace=draw(st.sampled_from(["a", "b"])),
                serves=draw(st.sampled_from([(), ("*",), ("a",), ("b", "c")])),
                environment=draw(st.sampled_from(["production", "staging", "default"])),
                capabilities=draw(WORDS),
                tags=draw(st.frozensets(st.sampled_from(["sap", "x"]), max_size=2)),
                labels=draw(SITES),
                taints=draw(TAINTS),
                free_slots=draw(st.integers(0, total)),
                total_slots=total,
                schedulable=draw(st.sampled_from([True, True, True, False])),
            )
        )
    return robots


@st.composite
def backlogs(draw: st.DrawFn) -> list[Queue[int]]:
    keys = draw(st.lists(st.tuples(st.sampled_from("abc"), SPECS.map(Requirements.from_dict)), max_size=6, unique=True))
    jobs: dict[Any, list[tuple[int, int]]] = {key: [] for key in keys}
    for job in range(draw(st.integers(0, 20)) if keys else 0):
        jobs[draw(st.sampled_from(keys))].append((job, job))
    return [Queue(namespace, wanted, jobs[namespace, wanted]) for namespace, wanted in keys]


@settings(max_examples=400, deadline=None)
@given(backlogs(), fleets())
def test_the_laws_of_placement(queues: list[Queue[int]], robots: list[Robot]) -> None:
    result = place(queues, robots)
    home = {job: backlog for backlog in queues for _, job in backlog.jobs}
    used = Counter(each.robot.uid for each in result)
    # no job twice, in each namespace in order of rank, never more than the free slots
    assert len(result) == len({each.job for each in result})
    for namespace in {backlog.namespace for backlog in queues}:
        jobs = [each.job for each in result if home[each.job].namespace == namespace]
        assert jobs == sorted(jobs)
    assert all(used[each.uid] <= each.free_slots for each in robots)
    # only where it may be
    for each in result:
        assert each.robot.schedulable and serves(each.robot, home[each.job].namespace)
        assert matches(home[each.job].requirements, each.robot) is None
    # nobody who could be served is left behind, and within a queue the first come first
    done = {each.job for each in result}
    left = [each for each in robots if each.schedulable and used[each.uid] < each.free_slots]
    for backlog in queues:
        jobs = [job for _, job in backlog.jobs]
        waiting = [job for job in jobs if job not in done]
        assert waiting == jobs[len(jobs) - len(waiting) :]
        able = [each for each in left if serves(each, backlog.namespace) and not matches(backlog.requirements, each)]
        assert not (waiting and able)


@settings(max_examples=200, deadline=None)
@given(backlogs(), fleets())
def test_it_does_what_looking_at_every_robot_for_every_job_would_do(
    queues: list[Queue[int]], robots: list[Robot]
) -> None:
    """The definition, spelled out slowly."""
    free = {each.uid: each.free_slots for each in robots if each.schedulable}

    def liking(each: Robot) -> tuple[Any, ...]:
        share = 1 - free[each.uid] / each.total_slots
        return len(each.capabilities) + len(each.tags), share, each.name, each.namespace, each.uid

    def able(namespace: str, wanted: Requirements) -> list[Robot]:
        return [each for each in robots if free.get(each.uid) and serves(each, namespace) and not matches(wanted, each)]

    expected: list[Assignment[int]] = []
    placed: Counter[str] = Counter()
    jobs = [(job, backlog.namespace, backlog.requirements) for backlog in queues for _, job in backlog.jobs]
    while possible := [each for each in jobs if able(*each[1:])]:
        job, namespace, wanted = min(possible, key=lambda each: (placed[each[1]], each[0]))
        best = min(able(namespace, wanted), key=liking)
        free[best.uid] -= 1
        placed[namespace] += 1
        jobs.remove((job, namespace, wanted))
        expected.append(Assignment(job, best))
    assert place(queues, robots) == expected


@settings(deadline=None)
@given(backlogs(), fleets(), st.randoms(use_true_random=False))
def test_the_order_of_the_arguments_does_not_matter(
    queues: list[Queue[int]], robots: list[Robot], rng: random.Random
) -> None:
    tied = [Queue(each.namespace, each.requirements, [(0, job) for _, job in each.jobs]) for each in queues]
    for given_ in (queues, tied):
        assert place(rng.sample(given_, len(given_)), rng.sample(robots, len(robots))) == place(given_, robots)


# -- saying why -----------------------------------------------------------------------------------------------------


def test_each_robot_counts_under_the_first_rule_it_fails() -> None:
    robots = [
        robot("a", environment="staging"),
        robot("b", environment="production"),
        robot("c", environment="production"),
        robot("d", environment="production", capabilities=["browser"], schedulable=False, why_not="paused"),
        robot("e", environment="production", capabilities=["browser"], schedulable=False, why_not="offline"),
        robot("f", environment="production", capabilities=["browser"], free_slots=0),
        robot("g", namespace="elsewhere"),
    ]
    assert reasons(needs(environment="production", capabilities=["browser"]), "default", robots) == [
        {"rule": "environment", "message": "1 of 6 robots is not in environment production", "robots": 1},
        {"rule": "capabilities", "message": "2 of 6 robots lack browser", "robots": 2},
        {"rule": "offline", "message": "1 of 6 robots is offline", "robots": 1},
        {"rule": "paused", "message": "1 of 6 robots is paused", "robots": 1},
        {"rule": "slots", "message": "1 of 6 robots is full", "robots": 1},
    ]


@pytest.mark.parametrize(
    ("spec", "robots", "rule", "message"),
    [
        ({}, [], "namespace", "no robot has registered yet"),
        ({}, [robot("a", namespace="x")], "namespace", "no robot serves namespace default"),
        ({"robotName": "pc-09"}, [robot("a"), robot("b")], "robotName", "no robot named pc-09 serves this namespace"),
        (
            {"robotName": "b"},
            [robot("a"), robot("b", namespace="x")],
            "robotName",
            "no robot named b serves this namespace",
        ),
        ({"capabilities": ["gpu", "x"]}, [robot("a"), robot("b")], "capabilities", "all 2 robots lack gpu or x"),
        ({"capabilities": ["gpu"]}, [robot("a")], "capabilities", "the only robot, a, lacks gpu"),
        ({"tags": ["sap"]}, [robot("a")], "tags", "the only robot, a, lacks tag sap"),
        (
            {"robotSelector": [{"key": "site", "operator": "In", "values": ["paris", "berlin"]}]},
            [robot("a"), robot("b")],
            "selector",
            "all 2 robots do not match site in (berlin,paris)",
        ),
        (
            {},
            [robot("a", taints=(Taint("certified", "no"), Taint("old")))],
            "taints",
            "the only robot, a, has a taint the job does not tolerate (certified=no, old)",
        ),
        ({}, [robot("a", schedulable=False, why_not="drained")], "drained", "the only robot, a, is drained"),
        ({}, [robot("a", schedulable=False)], "unschedulable", "the only robot, a, is unschedulable"),
        ({}, [robot("a", free_slots=0), robot("b", free_slots=0)], "slots", "all 2 robots are full"),
    ],
)
def test_reasons_are_sentences(spec: dict[str, Any], robots: list[Robot], rule: str, message: str) -> None:
    (reason,) = reasons(needs(**spec), "default", robots)
    assert (reason["rule"], reason["message"]) == (rule, message)


def test_a_named_robot_that_is_full() -> None:
    found = reasons(needs(robotName="a"), "default", [robot("a", free_slots=0), robot("b"), robot("c")])
    assert [(each["rule"], each["message"], each["robots"]) for each in found] == [
        ("robotName", "the job asks for a and no other robot", 2),
        ("slots", "1 of 3 robots is full", 1),
    ]


@settings(deadline=None)
@given(SPECS.map(Requirements.from_dict), fleets())
def test_there_is_a_reason_exactly_when_nobody_can_take_it(wanted: Requirements, robots: list[Robot]) -> None:
    found = reasons(wanted, "a", robots)
    assert bool(found) == (place([Queue("a", wanted, [(0, 0)])], robots) == [])
    if found and found[0]["rule"] != "namespace":
        assert sum(each["robots"] for each in found) == sum(serves(each, "a") for each in robots)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), SPECS.map(Requirements.from_dict)), max_size=4), fleets())
def test_the_reasons_of_many_are_those_of_each(asked: list[tuple[str, Requirements]], robots: list[Robot]) -> None:
    assert reasons_for(asked, robots) == [reasons(wanted, namespace, robots) for namespace, wanted in asked]
    assert reasons_for(asked, robots[::-1]) == reasons_for(asked, robots)
