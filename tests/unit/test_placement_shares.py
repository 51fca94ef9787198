"""Placement between namespaces, concurrency keys and jobs with wishes: shares, limits, and the bound on the wait."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.decisions import lifecycle
from casare_api.decisions.fleet import Fleet
from casare_api.decisions.placement import Assignment, Queue, Requirements, Robot, Share, matches, place, serves
from casare_api.kinds import Object
from casare_api.machinery import times
from casare_api.machinery.durations import format_duration

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


def robot(name: str, slots: int = 1, **traits: Any) -> Robot:
    words = {"capabilities": frozenset(traits.pop("capabilities", ()))}
    more = {"serves": ("*",), "free_slots": slots, "total_slots": slots} | words | traits
    return Robot(uid=f"uid-{name}", name=name, namespace="default", **more)


def needs(**spec: Any) -> Requirements:
    return Requirements.from_dict(spec)


def queue(*jobs: str, namespace: str = "default", **spec: Any) -> Queue[str]:
    """Jobs that are their own ranks: `a` before `b`."""
    return Queue(namespace, needs(**spec), [(job, job) for job in jobs])


def placed(queues: list[Queue[str]], robots: list[Robot], *more: Any) -> dict[str, str]:
    return {each.job: each.robot.name for each in place(queues, robots, *more)}


# -- shares ---------------------------------------------------------------------------------------------------------


def test_the_next_slot_is_for_the_namespace_that_has_the_least_for_its_weight() -> None:
    queues = [queue(*"abcdef", namespace="small"), queue(*"uvwxyz", namespace="big")]
    shares = {"big": Share(weight=2), "small": Share()}
    assert sorted(placed(queues, [robot("r", 6)], shares)) == ["a", "b", "u", "v", "w", "x"]


def test_what_a_namespace_has_already_counts() -> None:
    queues = [queue(*"abc", namespace="busy"), queue(*"xyz", namespace="idle")]
    assert sorted(placed(queues, [robot("r", 3)], {"busy": Share(running=2)})) == ["a", "x", "y"]


def test_a_namespace_at_its_limit_leaves_its_share_to_others() -> None:
    queues = [queue(*"abc", namespace="limited"), queue(*"xyz", namespace="other")]
    shares = {"limited": Share(weight=100, running=1, max_running=2)}
    assert sorted(placed(queues, [robot("r", 4)], shares)) == ["a", "x", "y", "z"]


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=2),
    st.integers(1, 60),
)
def test_where_all_may_have_every_slot_nobody_is_more_than_one_job_ahead(
    asked: dict[str, tuple[int, int]], slots: int
) -> None:
    shares = {name: Share(weight, running) for name, (weight, running) in asked.items()}
    queues = [Queue(name, needs(), [(at, f"{name}{at}") for at in range(slots)]) for name in asked]
    got = Counter(each.job[0] for each in place(queues, [robot("r", slots)], shares))
    assert got.total() == slots
    for one, mine in shares.items():
        for other, theirs in shares.items():
            if got[one]:  # what it has beside its last job is no more than what anybody else has, by weight
                before = mine.running + got[one] - 1
                assert before * theirs.weight <= (theirs.running + got[other]) * mine.weight


# -- concurrency keys -----------------------------------------------------------------------------------------------


def test_a_job_whose_key_is_full_is_passed_over_and_holds_nobody_up() -> None:
    jobs = [(number, job) for number, job in enumerate("abcd")]
    keyed = {"a": ("login", 1), "b": ("login", 1), "c": ("login", 2)}
    one = Queue("default", needs(), jobs, keyed)
    assert sorted(placed([one], [robot("r", 4)])) == ["a", "c", "d"]
    assert sorted(placed([one], [robot("r", 4)], None, {("default", "login"): 1})) == ["c", "d"]
    assert sorted(placed([one], [robot("r", 4)], None, {("elsewhere", "login"): 9})) == ["a", "c", "d"]


def test_nothing_is_placed_that_might_have_to_wait_for_a_job_that_was_not_read() -> None:
    cut = Queue("default", needs(), [(1, "a"), (3, "b")], more=True)
    rest = Queue("default", needs(capabilities=["x"]), [(2, "c"), (4, "d")])
    robots = [robot("r", 9, capabilities=["x"])]
    assert list(placed([cut, rest], robots)) == ["a", "c", "b"]
    assert list(placed([cut, rest], [robot("q", 2), *robots])) == ["a", "c", "b"]
    # where nobody could take it, what was not read is no matter
    full = Queue("default", needs(robotName="q"), [(1, "a")], more=True)
    assert list(placed([full, rest], [robot("q"), *robots])) == ["a", "c", "d"]


# -- wishes ---------------------------------------------------------------------------------------------------------


def test_the_most_important_preference_counts_first() -> None:
    robots = [
        robot("plain"),
        robot("near", labels={"site": "berlin"}, capabilities=["x", "y"]),
        robot("new", labels={"os": "11"}, capabilities=["x"]),
        robot("both", labels={"site": "berlin", "os": "11"}, capabilities=["x", "y", "z"]),
    ]
    likes = [{"labels": {"site": "berlin"}}, {"labels": {"os": "11"}}]
    assert list(placed([queue(*"abcd", prefer=likes)], robots).values()) == ["both", "near", "new", "plain"]
    assert list(placed([queue(*"abcd", prefer=likes[::-1])], robots).values()) == ["both", "new", "near", "plain"]


@pytest.mark.parametrize(
    ("likes", "expected"),
    [
        ([{"sameRobot": True}], ["again", "first", "near"]),
        ([{"sameRobot": True}, {"labels": {"site": "berlin"}}], ["again", "near", "first"]),
        ([{"labels": {"site": "berlin"}}, {"sameRobot": True}], ["near", "again", "first"]),
    ],
)
def test_the_same_robot_again_where_it_is_free(likes: list[Any], expected: list[str]) -> None:
    robots = [robot("first"), robot("again", capabilities=["x"]), robot("near", labels={"site": "berlin"})]
    wishes = Queue("default", needs(prefer=likes), [(n, n) for n in range(3)], last=dict.fromkeys(range(3), "uid-again"))
    assert [each.robot.name for each in place([wishes], robots)] == expected


def test_a_robot_that_does_not_match_is_not_had_again() -> None:
    robots = [robot("old"), robot("gpu", capabilities=["gpu"])]
    wishes = needs(capabilities=["gpu"], prefer=[{"sameRobot": True}])
    one = Queue("default", wishes, [(1, "a"), (2, "b")], last={"a": "uid-old", "b": "uid-gone"})
    assert placed([one], robots) == {"a": "gpu"}


# -- all of it, against the definition spelled out slowly -----------------------------------------------------------

LIKES = st.lists(
    st.sampled_from([{"labels": {"site": "berlin"}}, {"labels": {"site": "berlin", "os": "1"}}, {"sameRobot": True}]),
    max_size=3,
)
SPECS = st.fixed_dictionaries(
    {},
    optional={"capabilities": st.sampled_from([["x"], ["x", "y"]]), "robotName": st.just("r1"), "prefer": LIKES},
)


@st.composite
def fleets(draw: st.DrawFn) -> list[Robot]:
    robots = []
    for number in range(draw(st.integers(0, 6))):
        total = draw(st.integers(1, 4))
        robots.append(
            Robot(
                uid=f"u{number}",
                name=f"r{number // 2}",
                namespace=draw(st.sampled_from("ab")),
                serves=draw(st.sampled_from([(), ("*",), ("*",), ("b", "c")])),
                capabilities=draw(st.frozensets(st.sampled_from("xyz"))),
                labels=draw(st.dictionaries(st.sampled_from(["site", "os"]), st.sampled_from(["berlin", "1"]))),
                free_slots=draw(st.integers(0, total)),
                total_slots=total,
                schedulable=draw(st.sampled_from([True, True, True, False])),
            )
        )
    return robots


@st.composite
def backlogs(draw: st.DrawFn) -> list[Queue[int]]:
    asked = st.tuples(st.sampled_from("abc"), SPECS.map(Requirements.from_dict))
    jobs: dict[Any, list[tuple[int, int]]] = {key: [] for key in draw(st.lists(asked, max_size=5, unique=True))}
    keyed: dict[int, tuple[str, int]] = {}
    last: dict[int, str] = {}
    for job in range(draw(st.integers(0, 16)) if jobs else 0):
        jobs[draw(st.sampled_from(list(jobs)))].append((job // 2, job))
        if draw(st.booleans()):
            keyed[job] = draw(st.sampled_from("kl")), draw(st.integers(1, 3))
        if draw(st.booleans()):
            last[job] = f"u{draw(st.integers(0, 6))}"
    return [Queue(*key, waiting, keyed, last) for key, waiting in jobs.items()]


SHARES = st.dictionaries(
    st.sampled_from("abc"),
    st.builds(Share, st.integers(1, 3), st.integers(0, 4), st.none() | st.integers(0, 6)),
)
LIVE = st.dictionaries(st.tuples(st.sampled_from("abc"), st.sampled_from("kl")), st.integers(0, 2))


class Slowly:
    """What `place` says, of every job and every robot."""

    def __init__(self, robots: list[Robot], shares: Mapping[str, Share], live: Mapping[tuple[str, str], int]) -> None:
        self.robots = [each for each in robots if each.schedulable]
        self.free = {each.uid: each.free_slots for each in self.robots}
        self.shares, self.live, self.got = shares, Counter(live), Counter[str]()

    def able(self, one: Queue[int], job: int) -> list[Robot]:
        """The robots that could take the job now."""
        share = self.shares.get(one.namespace, Share())
        key, limit = one.keyed.get(job, ("", 99))
        if share.max_running is not None and share.running + self.got[one.namespace] >= share.max_running:
            return []
        if self.live[one.namespace, key] >= limit:
            return []
        wanted = one.requirements
        return [r for r in self.robots if self.free[r.uid] and serves(r, one.namespace) and not matches(wanted, r)]

    def best(self, one: Queue[int], job: int) -> Robot:
        return min(self.able(one, job), key=lambda each: self._liking(one, job, each))

    def _liking(self, one: Queue[int], job: int, each: Robot) -> tuple[Any, ...]:
        wishes = [
            one.last.get(job) == each.uid if like.same_robot else dict(like.labels).items() <= each.labels.items()
            for like in one.requirements.prefer
        ]
        used = 1 - self.free[each.uid] / each.total_slots
        return [not came for came in wishes], len(each.capabilities), used, each.name, each.namespace, each.uid

    def load(self, namespace: str) -> float:
        share = self.shares.get(namespace, Share())
        return (share.running + self.got[namespace]) / share.weight

    def run(self, queues: list[Queue[int]]) -> list[Assignment[int]]:
        found = []
        left = [(rank, one, job) for one in queues for rank, job in one.jobs]
        while able := [each for each in left if self.able(*each[1:])]:
            rank, one, job = min(able, key=self._turn)
            left.remove((rank, one, job))
            robot = self.best(one, job)
            self.free[robot.uid] -= 1
            self.got[one.namespace] += 1
            self.live[one.namespace, one.keyed.get(job, ("", 0))[0]] += 1
            found.append(Assignment(job, robot))
        return found

    def _turn(self, each: tuple[int, Queue[int], int]) -> tuple[Any, ...]:
        rank, one, job = each
        return self.load(one.namespace), rank, one.namespace, one.requirements.canonical(), job


@settings(max_examples=150, deadline=None)
@given(backlogs(), fleets(), SHARES, LIVE)
def test_it_does_what_looking_at_every_robot_for_every_job_would_do(
    queues: list[Queue[int]], robots: list[Robot], shares: dict[str, Share], live: dict[tuple[str, str], int]
) -> None:
    slowly = Slowly(robots, shares, live)
    result = place(queues, robots, shares, live)
    assert result == slowly.run(queues)
    # and so nobody is left behind whom somebody could serve
    done = {each.job for each in result}
    assert not [job for one in queues for _, job in one.jobs if job not in done and slowly.able(one, job)]


@settings(max_examples=100, deadline=None)
@given(backlogs(), fleets(), SHARES, LIVE)
def test_no_limit_is_ever_passed(
    queues: list[Queue[int]], robots: list[Robot], shares: dict[str, Share], live: dict[tuple[str, str], int]
) -> None:
    result = place(queues, robots, shares, live)
    home = {job: one for one in queues for _, job in one.jobs}
    used = Counter(each.robot.uid for each in result)
    assert all(used[each.uid] <= each.free_slots for each in robots)
    got = Counter(home[each.job].namespace for each in result)
    for namespace, share in shares.items():
        if got[namespace] and share.max_running is not None:
            assert share.running + got[namespace] <= share.max_running
    now = Counter(live)
    for each in result:
        one = home[each.job]
        if each.job in one.keyed:
            key, limit = one.keyed[each.job]
            assert now[one.namespace, key] < limit
            now[one.namespace, key] += 1


@settings(deadline=None)
@given(backlogs(), fleets(), SHARES, LIVE, st.randoms(use_true_random=False))
def test_the_order_of_the_arguments_does_not_matter(
    queues: list[Queue[int]],
    robots: list[Robot],
    shares: dict[str, Share],
    live: dict[tuple[str, str], int],
    rng: random.Random,
) -> None:
    shuffled = [rng.sample(each, len(each)) for each in (queues, robots)]
    turned = [dict(reversed(each.items())) for each in (shares, live)]
    assert place(*shuffled, *turned) == place(queues, robots, shares, live)  # type: ignore[arg-type]


@settings(deadline=None)
@given(backlogs(), fleets(), SHARES, LIVE, st.integers(0, 8))
def test_a_tick_that_ends_early_has_placed_what_comes_first(
    queues: list[Queue[int]],
    robots: list[Robot],
    shares: dict[str, Share],
    live: dict[tuple[str, str], int],
    most: int,
) -> None:
    whole = place(queues, robots, shares, live)
    assert place(queues, robots, shares, live, most) == whole[:most]
    cut = [Queue(q.namespace, q.requirements, q.jobs[:2], q.keyed, q.last, len(q.jobs) > 2) for q in queues]
    some = place(cut, robots, shares, live)
    assert some == whole[: len(some)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), LIKES), max_size=4), st.integers(0, 5))
def test_among_robots_that_can_do_the_same_wishes_cost_no_job_its_robot(
    asked: list[tuple[int, list[Any]]], robots: int
) -> None:
    fleet = [robot(f"r{n}", 1 + n % 2, labels={"site": ["berlin", "paris"][n % 2]}) for n in range(robots)]
    counts = Counter(needs(prefer=likes) for count, likes in asked for _ in range(count))
    wishes = [
        Queue("default", wanted, [(at, (at, wanted)) for at in range(count)], {}, {(0, wanted): "uid-r1"})
        for wanted, count in counts.items()
    ]
    plain = [Queue("default", needs(), [(at, at) for at in range(counts.total())])]
    assert len(place(wishes, fleet)) == len(place(plain, fleet))


# -- the bound on the wait ------------------------------------------------------------------------------------------


def job(name: str, queued: datetime, priority: int, aging: timedelta) -> Object:
    """A queued job of a namespace whose quota says `aging`."""
    made: Object = {"metadata": {"name": name, "namespace": "default"}, "spec": {"priority": priority}}
    made["status"] = {"phase": "Queued", "queuedTime": times.to_text(queued, micro=True)}
    made["status"]["agingInterval"] = format_duration(aging)
    return made


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 20)), min_size=1, max_size=25),
    st.integers(0, 10),
    st.integers(0, 26),
)
def test_no_job_submitted_20_intervals_later_comes_before_mine(
    submitted: list[tuple[int, int]], minutes: int, slots: int
) -> None:
    aging = timedelta(minutes=minutes)
    jobs = [job(str(n), EPOCH + timedelta(minutes=at), prio, aging) for n, (at, prio) in enumerate(submitted)]
    ranked = sorted((lifecycle.rank(one), n) for n, one in enumerate(jobs))
    got = {each.job for each in place([Queue("default", needs(), ranked)], [robot("r", slots)])}
    for mine, (my_time, my_priority) in enumerate(submitted):
        for other, (time, priority) in enumerate(submitted):
            overtakes = other in got and mine not in got
            if minutes and time > my_time + 20 * minutes:
                assert not overtakes
            if not minutes and (my_priority, my_time) < (priority, time):
                assert not overtakes


def test_the_free_slots_that_somebody_may_have() -> None:
    robots = [robot("a", 3), robot("b", 2, capabilities=["x"]), robot("c", 9, schedulable=False)]
    every, some, none = (("default", needs(capabilities=each)) for each in ([], ["x"], ["y"]))
    fleet = Fleet([every, some, none], robots)
    assert [fleet.slots(each) for each in (every, some, none)] == [5, 2, 0]
