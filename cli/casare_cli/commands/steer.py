"""`casare pause`, `resume`, `drain`, `restart`: say whether robots may take work. Each is one patch of their spec."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from casare_cli import options, session

Robots = Annotated[list[str] | None, typer.Argument(metavar="[robot/]NAME...", help="The robots.")]
All = Annotated[bool, typer.Option("--all", help="All robots of the namespace; asks before.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="With --all: do not ask.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("drain")(drain)
    app.command("restart")(restart)


def pause(
    context: typer.Context,
    robots: Robots = None,
    labels: options.Labels = "",
    everything: All = False,
    yes: Yes = False,
    namespace: options.Namespace = None,
) -> int:
    """Give robots nothing new; they finish the jobs they have."""
    from casare_cli import steering

    wanted = steering.Wanted("pause", {"desiredState": "Paused"})
    return _do(context, wanted, robots, labels, everything, yes, namespace)


def resume(
    context: typer.Context,
    robots: Robots = None,
    labels: options.Labels = "",
    everything: All = False,
    yes: Yes = False,
    namespace: options.Namespace = None,
) -> int:
    """Let robots take work again that were paused or drained."""
    from casare_cli import steering

    wanted = steering.Wanted("resume", {"desiredState": "Active"})
    return _do(context, wanted, robots, labels, everything, yes, namespace)


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
    return _do(context, wanted, robots, labels, everything, yes, namespace)


def restart(
    context: typer.Context,
    robots: Robots = None,
    labels: options.Labels = "",
    everything: All = False,
    yes: Yes = False,
    namespace: options.Namespace = None,
) -> int:
    """Restart the agents of robots, each when its jobs are over; until then it gets nothing new."""
    from datetime import UTC, datetime

    from casare_api.machinery import times
    from casare_cli import steering

    # A word that differs from the last one: nobody compares it with a clock.
    wanted = steering.Wanted("restart", {"restartRequestedAt": times.to_text(datetime.now(UTC), micro=True)})
    return _do(context, wanted, robots, labels, everything, yes, namespace)


def _do(
    context: typer.Context,
    wanted: object,
    robots: list[str] | None,
    labels: str,
    everything: bool,
    yes: bool,
    namespace: str | None,
) -> int:
    from casare_cli import steering

    assert isinstance(wanted, steering.Wanted)
    chosen = steering.Choice(tuple(robots or ()), labels, everything, yes)
    steering.check(wanted, chosen)
    with session.of(context).client(namespace) as client:
        return steering.steer(client, wanted, chosen)
