"""`casare pause`, `resume`, `drain`, `restart`: which robots are meant, what is said to them, when are they drained?

Ctrl-C ends the looking, never the drain.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import typer

from casare_api.decisions import draining
from casare_api.kinds import Object, dig
from casare_api.machinery.durations import parse_duration
from casare_api.machinery.errors import ApiError
from casare_cli import progress, targets
from casare_cli.failures import Failure, Misuse
from casare_cli.pump import interruptible
from casare_client import RELIST, Client, WatchEvent

_FATES = {"Requeue": "goes back to the queue", "Cancel": "is cancelled"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A command, and what it writes into the spec of each robot."""

    command: str
    spec: Mapping[str, Any]
    wait: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The robots that are meant: by name, by label, or all."""

    words: Sequence[str] = ()
    labels: str = ""
    all: bool = False
    yes: bool = False

    @property
    def names(self) -> list[str]:
        """Those that are named, each once."""
        return list(dict.fromkeys(targets.one(word, "Robot") for word in self.words))


def check(wanted: Wanted, choice: Choice) -> None:
    """Raises Misuse for what can't be meant."""
    ways = bool(choice.words) + bool(choice.labels) + choice.all
    if ways != 1:
        problem = "which robots?" if not ways else "names, -l and --all exclude each other:"
        raise Misuse(f"{problem} for example: casare {wanted.command} robot/NAME, or -l site=berlin, or --all")
    deadline = dig(dict(wanted.spec), "drain", "deadline")
    try:
        parse_duration(deadline or "0")
    except ValueError as error:
        raise Misuse(f"--deadline: {error}") from None
    assert choice.names or not choice.words


def steer(client: Client, wanted: Wanted, choice: Choice) -> int:
    """Says it to each of them, and waits if that is wanted; 1 where one could not be told or was not drained."""
    names = choice.names or _selected(client, choice.labels)
    if not names:
        print(f"no robot to {wanted.command} in {client.config.namespace}", file=sys.stderr)
        return 0
    if choice.all and not choice.yes:
        _ask(f"{wanted.command} {_count(len(names))} in {client.config.namespace}?")
    told = [robot for name in names if (robot := _tell(client, name, wanted)) is not None]
    code = 0 if len(told) == len(names) else 1
    return max(code, _wait(client, told)) if wanted.wait and told else code


def _selected(client: Client, labels: str) -> list[str]:
    return [robot["metadata"]["name"] for robot in client.list("Robot", labels=labels)["items"]]


def _ask(question: str) -> None:
    """Raises Abort for a no, Failure where nobody can answer."""
    if not sys.stdin.isatty():
        raise Failure(f"{question} Nobody is there to ask: add --yes")
    typer.confirm(question, abort=True, err=True)


def _tell(client: Client, name: str, wanted: Wanted) -> Object | None:
    try:
        robot = client.patch("Robot", name, {"spec": dict(wanted.spec)})
    except ApiError as error:
        if error.status not in (404, 409, 422):
            raise
        print(f"error: {error}", file=sys.stderr)
        return None
    print(f"robot/{name} {said(wanted.command, robot)}", flush=True)
    return robot


def said(command: str, robot: Object) -> str:
    """What has become of a robot that was told this, as after its name."""
    spec, word = robot.get("spec") or {}, draining.state(robot)
    match command:
        case "pause":
            return "is paused: it finishes the jobs it has"
        case "drain":
            return f"is being drained: {_fate(spec.get('drain') or {})}"
        case "restart":
            return "restarts as soon as it has no job"
    until = f" until {word.until}" if word.until else ""
    return "is resumed" + (f"; it is in maintenance{until}" if word.word == "maintenance" else "")


def _fate(drain: Mapping[str, Any]) -> str:
    then, deadline = drain.get("then") or draining.THEN, drain.get("deadline") or draining.DEADLINE
    if then == "Wait":
        return "what runs may go on to its end"
    return f"what runs may go on for {deadline}, then it {_FATES.get(then, then)}"


# -- waiting -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Watching:
    """The robots (uid to name) that are not drained yet, and what went wrong with some."""

    left: dict[str, str]
    wrong: list[str] = field(default_factory=list)

    def see(self, event: WatchEvent) -> Iterator[str]:
        """Takes in what changed; the names of robots that are drained now."""
        if event.type == RELIST:
            there = {robot["metadata"]["uid"]: robot for robot in event.object["items"]}
            for uid in [uid for uid in self.left if uid not in there]:
                self._lose(uid, "was deleted")
            for uid in [uid for uid in self.left if uid in there]:
                yield from self._saw(there[uid])
        elif event.type == "DELETED":
            self._lose(event.object["metadata"]["uid"], "was deleted")
        else:
            yield from self._saw(event.object)

    def _saw(self, robot: Object) -> Iterator[str]:
        uid = robot["metadata"]["uid"]
        if uid not in self.left:
            return
        if dig(robot, "spec", "desiredState") != "Drained":
            self._lose(uid, "was told otherwise before it was drained")
        elif is_drained(robot):
            yield self.left.pop(uid)

    def _lose(self, uid: str, why: str) -> None:
        if uid in self.left:
            self.wrong.append(f"robot/{self.left.pop(uid)} {why}")


def is_drained(robot: Object) -> bool:
    """Whether nothing runs on it any more."""
    found: Iterable[Object] = dig(robot, "status", "conditions") or ()
    return any((one.get("type"), one.get("status")) == ("Drained", "True") for one in found)


def _wait(client: Client, robots: Sequence[Object]) -> int:
    watching = Watching({robot["metadata"]["uid"]: robot["metadata"]["name"] for robot in robots})
    fields = f"metadata.name={robots[0]['metadata']['name']}" if len(robots) == 1 else ""
    events = client.follow("Robot", fields=fields)
    try:
        with progress.waiting("waiting for robots to be drained"):
            for event in interruptible(events):
                for name in watching.see(event):
                    print(f"robot/{name} is drained", flush=True)
                if not watching.left:
                    break
    except KeyboardInterrupt:
        print(f"the drain goes on: {_count(len(watching.left))} left", file=sys.stderr)
        return 130
    for line in watching.wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if watching.wrong else 0


def _count(number: int) -> str:
    return f"{number} {'robot' if number == 1 else 'robots'}"
