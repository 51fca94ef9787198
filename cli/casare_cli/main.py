"""How does `casare ...` become an exit code?

A command's module is imported when it is typed. Whatever goes wrong is one line on standard error: 1 for an error,
2 for a command typed wrongly, 130 after Ctrl-C. A reader that went away (`| head`) is no news.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from casare_cli.session import Session

# Command -> the module that has it. The order is that of the help.
_COMMANDS = {
    **dict.fromkeys(("up", "down", "status"), "casare_cli.up"),
    **{name: f"casare_cli.commands.{name}" for name in ("get", "describe", "apply", "delete", "run")},
    **{name: f"casare_cli.commands.{name}" for name in ("why", "logs", "artifacts", "cancel", "retry")},
    **dict.fromkeys(("pause", "resume", "drain", "restart"), "casare_cli.commands.steer"),
    "keys": "casare_cli.commands.keys",
    "secrets": "casare_cli.commands.secrets",
    "audit": "casare_cli.commands.audit",
    **dict.fromkeys(("join-tokens", "approve"), "casare_cli.commands.enrolment"),
    **dict.fromkeys(("migrate", "apiserver", "controller", "agent", "dashboard"), "casare_cli.commands.components"),
    "version": "casare_cli.commands.version",
}


class Lazy(TyperGroup):
    """The commands by name; a module is imported for the one that is typed, all of them for the help alone."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in _COMMANDS if self._load(name) is not None]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = self._load(cmd_name)
        if command is None and not ctx.resilient_parsing and not cmd_name.startswith("-"):
            ctx.fail(_unknown(cmd_name))
        return command

    def _load(self, name: str) -> Any:
        if name not in self.commands and name in _COMMANDS:
            self.commands.update(_commands_of(importlib.import_module(_COMMANDS[name])))
        return self.commands.get(name)


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, _COMMANDS, n=1)
    return f'there is no command "{name}"' + (f'; did you mean "{near[0]}"?' if near else ": see casare --help")


def _commands_of(module: Any) -> dict[str, Any]:
    app = typer.Typer(add_completion=False)
    app.callback()(lambda: None)  # so that one command is a group of one
    register = getattr(module, "register", None)
    if register is None:
        return {}
    register(app)
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


app = typer.Typer(
    cls=Lazy,
    name="casare",
    help="Declare robots and their jobs, run them, and see what becomes of them.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _global_options(
    context: typer.Context,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="The server, such as http://127.0.0.1:8000.")
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="The API key to use with it.")] = None,
    kubeconfig: Annotated[str | None, typer.Option(metavar="FILE", help="Take both from this kubeconfig.")] = None,
    data_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Where 'casare up' keeps its data.")] = None,
    ca_file: Annotated[str | None, typer.Option(metavar="FILE", help="Certificates (PEM) to trust for https.")] = None,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    context.obj = Session(server, key, kubeconfig, data_dir, ca_file)
    if version:
        from casare_cli.versions import own

        print(f"casare {own()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; the console script `casare`."""
    for stream in (sys.stdout, sys.stderr):
        # What a terminal can't show becomes "?": no message is worth a UnicodeEncodeError.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python flushes standard output once more when it exits: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: list[str]) -> int:
    try:
        result = typer.main.get_command(app).main(args=arguments, prog_name="casare", standalone_mode=False)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        said = _explained(error)
        if said is None:
            raise
        print(f"error: {said[0]}", file=sys.stderr)
        return said[1]
    return result if isinstance(result, int) else 0


def _explained(error: Exception) -> tuple[str, int] | None:
    """The line and the exit code for what a person can do something about; None for a bug."""
    from casare_cli.failures import Failure

    if isinstance(error, Failure):
        return str(error), error.exit_code
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # typer's own: a wrong option, no argument
        return _one_line(error.format_message()), error.exit_code
    if isinstance(error, typer.Abort):
        return "aborted", 1
    return _from_client(error)


def _from_client(error: Exception) -> tuple[str, int] | None:
    from casare_api.machinery.errors import ApiError
    from casare_client.errors import NoServer, Unreachable

    if isinstance(error, Unreachable):
        return f"{error}" + (" (is it running? 'casare up' starts one here)" if error.refused else ""), 1
    if isinstance(error, ApiError | NoServer):
        return _one_line(unauthorized(error) or str(error)), 1
    return None


def unauthorized(error: Exception) -> str | None:
    """What to do about an answer to a bad key or to none, None for anything else."""
    if getattr(error, "status", None) == 403 and 'User "system:anonymous"' in str(error):
        return "the server wants an API key: give one with --key or CASARE_ORCHESTRATOR_API_KEY"
    if getattr(error, "status", None) != 401:
        return None
    return "the server does not accept this API key (unknown, expired or revoked): give another with --key"


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
