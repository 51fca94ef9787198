"""`casare pause`, `resume`, `drain`, `restart`: say whether robots may take work. Each is one patch of their spec."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from casare_cli import options, session

if TYPE_CHECKING:
    from casare_cli import steering

Robots = Annotated[list[str] | None, typer.Argument(metavar="[robot/]NAME...", help="The robots.")]
All = Annotated[bool, typer.Option("--all", help="All robots of the namespace; asks before.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="With --all: do not ask.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("pause", help="Give robots nothing new; they finish the jobs they have.")(_plain("pause", _paused))
    app.command("resume", help="Let robots take work again that were paused or drained.")(_plain("resume", _active))
    app.command("drain")(drain)
    restart = "Restart the agents of robots, each when its jobs are over; until then it gets nothing new."
    app.command("restart", help=restart)(_plain("restart", _new_word))


def _paused() -> dict[str, Any]:
    return {"desiredState": "Paused"}


def _active() -> dict[str, Any]:
    return {"desiredState": "Active"}


def _new_word() -> dict[str, Any]:
    """A word that differs from the last one: nobody compares it with a clock."""
    from casare_api.machinery import times

    return {"restartRequestedAt": times.to_text(datetime.now(UTC), micro=True)}


def _plain(verb: str, spec: Callable[[], dict[str, Any]]) -> Callable[..., int]:
    """A command that has no options but those of all four."""

    def command(
        context: typer.Context,
        robots: Robots = None,
        labels: options.Labels = "",
        everything: All = False,
        yes: Yes = False,
        namespace: options.Namespace = None,
    ) -> int:
        from casare_cli import steering

        chosen = steering.Choice(tuple(robots or ()), labels, everything, yes)
        return _do(context, steering.Wanted(verb, spec()), chosen, namespace)

    return command


def drain(
    context: typer.Context,
    robots: Robots = None,
    labels: options.Labels = "",
    everything: All = False,
    yes: Yes = False,
    deadline: Annotated[
        str | None, typer.Option(metavar="15m", help="How long running jobs may go on; else as before, else 15m.")
    ] = None,
    then: Annotated[
        Literal["Wait", "Requeue", "Cancel"] | None,
        typer.Option(case_sensitive=False, help="What becomes of those that run then; else as before, else Requeue."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when nothing runs on them any more.")] = False,
    namespace: options.Namespace = None,
) -> int:
    """Give robots nothing new, and take back the jobs they have."""
    from casare_cli import steering

    said = {key: value for key, value in (("deadline", deadline), ("then", then)) if value is not None}
    wanted = steering.Wanted("drain", {"desiredState": "Drained"} | ({"drain": said} if said else {}), wait)
    return _do(context, wanted, steering.Choice(tuple(robots or ()), labels, everything, yes), namespace)


def _do(context: typer.Context, wanted: steering.Wanted, chosen: steering.Choice, namespace: str | None) -> int:
    from casare_cli import steering

    steering.check(wanted, chosen)
    with session.of(context).client(namespace) as client:
        return steering.steer(client, wanted, chosen)
