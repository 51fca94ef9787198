"""Why is this job waiting? The whole answer, from the job and what stands around it, by the rules of placement.

Nothing is left open: each robot counts under the first rule that keeps it from the job, so that with those that are
free the numbers add up to the fleet; what else holds the job up (a time, a key, a quota, a turn, a place in the queue)
stands beside it. Robots are named that serve the job's namespace, that live in it, or that the reader sees anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import nsmallest
from typing import NamedTuple

from casare_api.decisions import lacking, lifecycle, reasons
from casare_api.decisions.lacking import lacks
from casare_api.decisions.reasons import ABLE, Alone, Asked, Crowd, Reason, Share, Shares, in_words
from casare_api.decisions.requirements import Robot, serves
from casare_api.kinds.job import FINAL, JOB, LIVE, JobPhase
from casare_api.kinds.kind import Object, dig
from casare_api.machinery import times

KIND = "JobExplanation"
NEAREST = 3  # robots
MOST_NAMED = 20  # robots that would serve it
_ALMOST_A_SECOND = timedelta(microseconds=999_999)  # what is written is cut to whole seconds
_LATEST = lifecycle.END_OF_TIME - _ALMOST_A_SECOND
MAX_HOLDERS = 10  # jobs that have its concurrency key
# The obstacles of robots that are not what is asked for, however they fare.
_LACKING = ("namespace", "robotName", "environment", "capabilities", "tags", "selector", "taints")


class Place(NamedTuple):
    """How many jobs come before one by rank, and how many its namespace has waiting; exact or at least so many."""

    ahead: int
    is_exact: bool
    queued: int
    queued_is_exact: bool


class Holders(NamedTuple):
    """Jobs that have a concurrency key now: how many, and the names of some."""

    live: int
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Contest:
    """The robots as they look to one job, and the queues that want the same ones.

    ``rules`` has the obstacle of each crowd; ``queues`` are those of the queues it was made of that compete.
    """

    asked: Asked
    crowds: Sequence[Crowd]
    rules: Sequence[str]
    queues: Sequence[Asked]

    @classmethod
    def of(cls, asked: Asked, robots: Iterable[Robot], queues: Sequence[Asked]) -> Contest:
        """Looks at each robot once. Queues that no robot could serve compete only where they ask for the same."""
        crowds = reasons.crowds([asked, *queues], robots)
        rules = reasons.obstacles(asked, crowds)
        fit = [crowd.robot for crowd, rule in zip(crowds, rules, strict=True) if rule not in _LACKING]
        return cls(asked, crowds, rules, [each for each in queues if each == asked or _competes(each, fit)])

    def pairs(self) -> Iterator[tuple[Crowd, str]]:
        """Each crowd with its obstacle."""
        return zip(self.crowds, self.rules, strict=True)

    def robots(self, rule: str) -> Iterator[Robot]:
        """The robots with this obstacle."""
        return (robot for crowd, found in self.pairs() if found == rule for robot in crowd.members)

    def count(self) -> Counter[str]:
        """How many robots there are by their obstacle."""
        found: Counter[str] = Counter()
        for crowd, rule in self.pairs():
            found[rule] += len(crowd.members)
        return found

    def full(self) -> list[Robot]:
        """Some of the robots that only need room."""
        return nsmallest(MOST_NAMED, self.robots("slots"), key=_by_name)


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around a waiting job.

    ``shares`` are of its namespace and of those of its rivals, ``ends`` says in how long a full robot usually has room,
    by its uid, where that is known. ``sees_all``: the reader may see every robot. ``unattended``: what is said of all
    jobs where no controller looks after them.
    """

    contest: Contest
    place: Place
    holders: Holders = field(default_factory=lambda: Holders(0, ()))
    shares: Shares = field(default_factory=dict)
    ends: Mapping[str, timedelta] = field(default_factory=dict)
    sees_all: bool = False
    unattended: Reason | None = None

    @property
    def share(self) -> Share:
        return self.shares.get(self.contest.asked[0], Alone())


def _competes(queue: Asked, robots: Iterable[Robot]) -> bool:
    return any(reasons.obstacle(*queue, robot) not in _LACKING for robot in robots)


def explain(job: Object, around: Around) -> Object:
    """The JobExplanation of a job that is Queued."""
    found, share = _found(job, around), around.share
    shared = dig(job, "spec", "concurrency") or {}
    said: Object = {
        **_head(job, _message(around, found)),
        "place": _place(around.place),
        "reasons": found,
        "robots": _robots(around.contest),
        "nearest": _nearest(around),
        "wouldServe": _would_serve(around),
    }
    if shared.get("key") is not None:
        live, names = around.holders
        limit = shared.get("limit") or 1
        said["concurrency"] = {"key": shared["key"], "limit": limit, "live": live, "holders": list(names)}
    if share.max_running is not None:
        said["quota"] = {"maxRunning": share.max_running, "running": share.running, "weight": share.weight}
    return {**said, "rank": times.to_text(lifecycle.rank(job), micro=True), "boundedBy": _bound(job)}


def explain_settled(job: Object) -> Object:
    """The JobExplanation of a job that waits for no robot: it has one, or is over."""
    status = job["status"]
    phase, robot = lifecycle.phase(job), status.get("robotName")
    if phase is JobPhase.ASSIGNED:
        what = f"it was given to {robot} at {_clock(status['assignedTime'])}, which has not begun yet"
    elif phase is JobPhase.RUNNING:
        what = f"it runs on {robot} since {_clock(status['startedTime'])}, attempt {status.get('attempt')}"
    else:
        what = f"it is over: {phase} at {_clock(status['finishedTime'])}"
        what += f", because {status['message']}" if status.get("message") and phase is not JobPhase.SUCCEEDED else ""
    if phase in LIVE and status.get("cancelTime"):
        what += f"; it was asked to end at {_clock(status['cancelTime'])}"
    return _head(job, what)


def is_settled(job: Object) -> bool:
    """Whether there is nothing that it waits for."""
    return lifecycle.phase(job) in LIVE | FINAL


def _head(job: Object, message: str) -> Object:
    meta = job["metadata"]
    names = {key: meta[key] for key in ("namespace", "name", "uid") if meta.get(key)}
    phase = lifecycle.phase(job).value
    return {"apiVersion": JOB.api_version, "kind": KIND, "metadata": names, "phase": phase, "message": message}


# -- the reasons -------------------------------------------------------------------------------------------------------

_FIRST = ("controller", "notBefore", "backoff", "concurrency", "quota")  # what holds it up whatever else is so
_LAST = ("fairShare", "queue", "placement")


def _found(job: Object, around: Around) -> list[Reason]:
    """All that holds it up: what is said of times, keys and quotas, of robots, and of the queue."""
    contest, share = around.contest, around.share
    apart = [around.unattended] if around.unattended is not None else []
    apart += [*_held(job), *_key_is_full(job, around.holders)]
    apart += [reasons.used_up(contest.asked[0], share)] if reasons.is_used_up(share) else []
    away = reasons.elsewhere(contest.asked[0], contest.crowds, contest.rules)
    robots = reasons.excluding(contest.asked, contest.crowds, contest.rules, around.ends)
    turn = [] if "slots" not in contest.rules or "" in contest.rules or reasons.is_used_up(share) else _turn(around)
    return [*apart, *away, *robots, *turn, *_queue(around, is_free=not apart)]


def _held(job: Object) -> list[Reason]:
    until = dig(job, "status", "heldUntil")
    if not until:
        return []
    past = dig(job, "status", "attempts")
    if past:
        what = f"attempt {past[-1].get('number')} ended as {past[-1].get('phase')}; it is tried again"
        return [Reason(rule="backoff", message=f"{what} at {_clock(until)}", robots=0)]
    return [Reason(rule="notBefore", message=f"it waits for its notBefore, {_clock(until)}", robots=0)]


def _key_is_full(job: Object, holders: Holders) -> list[Reason]:
    shared = dig(job, "spec", "concurrency") or {}
    limit = shared.get("limit") or 1
    if shared.get("key") is None or holders.live < limit:
        return []
    names = [*holders.names, *(["others"] if holders.live > len(holders.names) else [])]
    who = f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'}"
    message = f'{who} the concurrency key "{shared["key"]}", which {limit} may have at a time'
    return [Reason(rule="concurrency", message=message, robots=0)]


def _turn(around: Around) -> list[Reason]:
    contest = around.contest
    rivals = {namespace for namespace, _ in contest.queues}
    first = reasons.next_in_turn(contest.asked[0], rivals, around.shares)
    if first is None:
        return []
    theirs = around.shares.get(first, Alone())
    return [reasons.anothers_turn(around.share, theirs, first if around.sees_all else None)]


def _queue(around: Around, is_free: bool) -> list[Reason]:
    """The jobs before it, unless there is room for them and for it."""
    place, free = around.place, [crowd for crowd, rule in around.contest.pairs() if not rule]
    room = sum(robot.free_slots for crowd in free for robot in crowd.members)
    if place.ahead and place.ahead >= room and any(rule in ABLE for rule in around.contest.rules):
        at_least = "" if place.is_exact else "more than "
        jobs = "1 job is" if place.ahead == 1 else f"{at_least}{place.ahead} jobs are"
        slots = f", for {room} free {'slot' if room == 1 else 'slots'}" if room else ""
        return [Reason(rule="queue", message=f"{jobs} before it for the same robots{slots}", robots=0)]
    return [reasons.soon(free)] if free and is_free else []


def _message(around: Around, found: Sequence[Reason]) -> str:
    """One sentence: the reason that matters most."""
    said = {each["rule"]: each["message"] for each in found}
    first = next((said[rule] for rule in _FIRST if rule in said), None)
    return first if first is not None else _about_robots(around, said)


def _about_robots(around: Around, said: Mapping[str, str]) -> str:
    counts, then = around.contest.count(), next((said[rule] for rule in _LAST if rule in said), "")
    matching = sorted(rule for rule in counts if rule not in _LACKING)
    if not matching:
        return said["namespace"] if counts["namespace"] == counts.total() else _nobody(around)
    if counts[""]:
        return then
    if counts["slots"]:
        return f"all robots that could run it now are full{_soonest(around)}" + (f"; {then}" if then else "")
    states = ", ".join(f"{_are(counts[rule])} {reasons.state_words(rule)}" for rule in matching)
    return f"no robot that has all it asks for can take it: {states}"


def _are(count: int) -> str:
    return f"{count} {'is' if count == 1 else 'are'}"


def _nobody(around: Around) -> str:
    near = next(iter(_nearest(around)), None)
    lacking = f"; {near['name']} is nearest and lacks {' and '.join(near['lacks'])}" if near else ""
    return f"no robot that serves namespace {around.contest.asked[0]} has all that it asks for{lacking}"


def _soonest(around: Around) -> str:
    known = [around.ends[each.uid] for each in around.contest.robots("slots") if each.uid in around.ends]
    return f"; one usually has room in {in_words(min(known))}" if known else ""


# -- the parts ---------------------------------------------------------------------------------------------------------


def _place(place: Place) -> Object:
    return {
        "position": place.ahead + 1,
        "ahead": place.ahead,
        "isExact": place.is_exact,
        "queued": place.queued,
        "queuedIsExact": place.queued_is_exact,
    }


def _robots(contest: Contest) -> Object:
    counts = contest.count()
    total, matching = counts.total(), sum(count for rule, count in counts.items() if rule not in _LACKING)
    return {
        "total": total,
        "serving": total - counts["namespace"],
        "matching": matching,
        "online": matching - counts["offline"],
        "free": counts[""],
    }


def _nearest(around: Around) -> list[Object]:
    """The robots that lack the least, where none is free; those that only need room lack nothing."""
    contest = around.contest
    if "" in contest.rules:
        return []
    ranked = []
    for crowd, rule in contest.pairs():
        seen = [each for each in crowd.members if _is_visible(each, around)] if rule not in ABLE else []
        if seen:
            found = lacks(*contest.asked, crowd.robot)
            few = nsmallest(NEAREST, seen, key=_by_name)
            built_in = sum(lack.rule in _LACKING for lack in found)  # what only has to be switched on is nearer
            ranked += [(len(found), built_in, *_by_name(each), each) for each in few]
    return [_near(around, each) for *_, each in nsmallest(NEAREST, ranked, key=lambda one: one[:4])]


def _near(around: Around, robot: Robot) -> Object:
    found = lacks(*around.contest.asked, robot)
    return {
        **_named(around, robot),
        "lacks": [each.what for each in found],
        "changes": [each.change for each in found],
    }


def _would_serve(around: Around) -> list[Object]:
    """Robots that match, those first that will have room soonest; with what is to be said of each."""
    robots = (each for crowd, rule in around.contest.pairs() if rule not in _LACKING for each in crowd.members)
    first = nsmallest(MOST_NAMED, robots, key=lambda each: (*_readiness(each, around), *_by_name(each)))
    return [_serving(around, each) for each in first]


def _readiness(robot: Robot, around: Around) -> tuple[int, timedelta]:
    if not robot.schedulable:
        return 3 if robot.why_not == "offline" else 2, timedelta.max
    return (0 if robot.free_slots else 1), around.ends.get(robot.uid, timedelta.max)


def _serving(around: Around, robot: Robot) -> Object:
    used = robot.free_slots < robot.total_slots
    state = (robot.why_not or "unschedulable").capitalize() if not robot.schedulable else "Busy" if used else "Idle"
    return {
        **_named(around, robot),
        "state": state,
        "freeSlots": robot.free_slots,
        "message": _fares(robot, around.ends.get(robot.uid)),
    }


def _fares(robot: Robot, end: timedelta | None) -> str:
    if not robot.schedulable:
        (state,) = lacking.state(robot)
        until = f" until {reasons.clock(robot.until)}" if robot.until else ""
        return f"is {reasons.state_words(state.rule)}{until}: {state.change}"
    if robot.free_slots:
        return f"is free for {robot.free_slots} of {robot.total_slots} jobs"
    return f"is full; its jobs usually end in {in_words(end)}" if end is not None else "is full"


def _named(around: Around, robot: Robot) -> Object:
    """Its name; with its namespace where that is another one."""
    elsewhere = robot.namespace != around.contest.asked[0]
    return {"name": robot.name} | ({"namespace": robot.namespace} if elsewhere else {})


def _is_visible(robot: Robot, around: Around) -> bool:
    namespace = around.contest.asked[0]
    return around.sees_all or robot.namespace == namespace or serves(robot, namespace)


def _by_name(robot: Robot) -> tuple[str, str]:
    return robot.name, robot.namespace


def _bound(job: Object) -> str:
    """Until when anything may come before it, and when it gives up."""
    deadline = lifecycle.due({**job, "status": {**job["status"], "heldUntil": None}})
    ends = f"; it expires at {_clock_of(deadline)} unless it has started" if deadline is not None else ""
    if lifecycle.aging_interval(job) <= timedelta(0) and dig(job, "spec", "priority"):
        return f"jobs of a more urgent priority come before it whenever they are submitted: ageing is off{ends}"
    last = _clock_of(min(lifecycle.rank(job), _LATEST) + _ALMOST_A_SECOND)
    return f"no job of its namespace that is submitted after {last} comes before it, whatever its priority{ends}"


def _clock(text: str) -> str:
    return _clock_of(times.from_text(text))


def _clock_of(moment: datetime) -> str:
    return f"{times.to_text(moment)[:-1].replace('T', ' ')} UTC"
