"""`casare apiserver` and its like: run a part of the system in this process, as `python -m` does.

What follows the command goes to the program as it is, `--help` too. The packages are only looked for when one is run.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from casare_cli import session

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Component:
    """A program of the system: its package, and the extra that brings what it needs."""

    package: str
    extra: str
    help: str
    takes_arguments: bool = False


COMPONENTS = {
    "migrate": Component("casare_migrations", "server", "Bring the database to this version's tables."),
    "apiserver": Component("casare_apiserver", "server", "Run an apiserver."),
    "controller": Component("casare_controller", "server", "Run a controller."),
    "agent": Component("casare_agent", "agent", "Run the agent of a robot.", takes_arguments=True),
    "dashboard": Component("casare_dashboard", "dashboard", "Run the dashboard."),
}
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": list[str]()}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for name, component in COMPONENTS.items():
        app.command(name, help=component.help, context_settings=dict[str, Any](_PASS_ON), add_help_option=False)(
            _command(name, component)
        )


def _command(name: str, component: Component) -> Callable[[typer.Context], int]:
    def command(context: typer.Context) -> int:
        session.of(context).export()
        return run(name, component, context.args)

    return command


def run(name: str, component: Component, arguments: list[str]) -> int:
    """Runs a component to its end and returns its exit code. Raises Failure where it is not installed."""
    from casare_cli.failures import Failure

    if arguments and not component.takes_arguments:
        if {"--help", "-h"} & set(arguments):
            print(f"usage: casare {name}\n\n{component.help} Its settings are environment variables: docs/settings.md.")
            return 0
        raise Failure(f"'casare {name}' takes no arguments, found {arguments[0]}: its settings are in the environment")
    missing = f"'casare {name}' needs more than is installed: pip install \"casare-fleet[{component.extra}]\""
    if importlib.util.find_spec(component.package) is None:
        raise Failure(missing)
    sys.argv = [f"casare {name}", *arguments]
    try:
        runpy.run_module(component.package, run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("casare_"):
            raise
        raise Failure(f"{missing} (there is no {error.name})") from None
    except SystemExit as end:
        return _code(end)
    return 0


def _code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1
