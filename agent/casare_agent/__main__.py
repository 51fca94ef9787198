"""How is an agent started? `python -m casare_agent [--config FILE]...`: settings in, exit code out.

Exit codes: 0 it was told to end, 1 the server or this computer does not let it run, 2 a mistake in the settings or on
the command line, 4 its robot was deleted, 5 it was asked to restart and this program can't be started again. Several
files are several robots: see `crew`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from casare_agent import capabilities, config, keyring, memory, telemetry
from casare_agent.crew import MEMBER, Crew
from casare_agent.ending import Ending
from casare_agent.enrolment import Enrolment
from casare_agent.loop import ENDED, REFUSED, RESTART, Agent
from casare_agent.presence import is_orphaned
from casare_agent.workshop import InUse, Workshop, locked
from casare_api.machinery.errors import ApiError
from casare_client import Client, Config, NoServer, Unreachable

USAGE = 2
ENLIST_AGAIN = "--enlist-again"
_log = logging.getLogger("casare.agent")


def main(arguments: Sequence[str] | None = None, may_exec: bool = sys.platform != "win32") -> int:
    """Runs an agent, or several; the exit code.

    One that is asked to restart becomes a new process in its own place. Where none can (`may_exec` False), all but the
    process itself is made anew. Several never restart together: each of them does for itself.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    said, ending = _arguments(given), Ending()
    if len(said.config) > 1:
        return _crew(said)
    while (code := _once(said, ending)) == RESTART:
        if may_exec:
            ending.leave_to_next()
        if ending.is_asked:
            return ENDED
        _log.info("restarting")
        if may_exec:
            return _become_new()
        said.enlist_again = False
    return code


def _become_new() -> int:
    """Starts this very program in the place of itself; comes back only where that fails."""
    try:
        os.execv(sys.executable, [sys.executable, *again(sys.orig_argv[1:])])  # noqa: S606 - the very program that runs
    except OSError as error:
        return _complain(f"can't be started again: {error.strerror or error}", RESTART)


def again(arguments: Sequence[str]) -> list[str]:
    """What a program is started with that restarts by itself: a robot was to be made again once."""
    return [one for one in arguments if one != ENLIST_AGAIN]


def _crew(given: argparse.Namespace) -> int:
    """Several robots; the worst of their exit codes, which says nothing of what this process has to do."""
    _set_up_log(given.verbose)
    more = [*(["-v"] if given.verbose else []), *([ENLIST_AGAIN] if given.enlist_again else [])]
    try:
        return Crew(given.config, more).run()
    except config.ConfigError as error:
        return _complain(str(error), USAGE)


def _once(given: argparse.Namespace, ending: Ending) -> int:
    """One robot, until it ends or is to restart."""
    try:
        settings = config.load(*given.config)
    except config.ConfigError as error:
        return _complain(str(error), USAGE)
    _set_up_log(given.verbose, settings.name if given.member else "")
    try:
        with locked(settings.directory):
            if given.enlist_again:
                _forget(settings)
            ending.listen(to_input=given.member)
            return _run(settings, ending)
    except (InUse, NoServer) as error:
        return _complain(str(error), REFUSED)
    except OSError as error:
        why = f"{settings.directory} cannot be used: {error.strerror or error}; CASARE_AGENT_DIR names another place"
        return _complain(why, REFUSED)


def _run(settings: config.Settings, ending: Ending) -> int:
    words = capabilities.detect(settings.capabilities)
    try:
        key = _key(settings, words, ending)
    except ApiError as error:
        return _complain(f"the server does not let this computer join: {error}", REFUSED)
    if key is None:
        return ENDED
    known = memory.load(settings.directory)
    if settings.api_key is None and known is not None:  # where the token let it join
        settings = settings.model_copy(update={"namespace": known.namespace})
    with _client(settings, key) as client:
        workshop = Workshop(settings.directory, client)
        agent = Agent(settings, client, workshop, words)
        ending.tell(agent.end)
        try:
            return agent.run()
        finally:
            workshop.close()


def _key(settings: config.Settings, words: list[str], ending: Ending) -> str | None:
    """The robot's key, got by the join token where there is none yet; None where it was told to end before.

    Raises ApiError for a token that is refused, OSError.
    """
    key = _own_key(settings)
    if key is not None:
        return key
    with _client(settings, settings.secret) as client:
        enrolment = Enrolment(settings, client, words)
        ending.tell(enrolment.end)
        return enrolment.run()


def _own_key(settings: config.Settings) -> str | None:
    """The robot's key; None where there is a join token alone, which only whoever joins ever shows. Raises OSError."""
    kept = keyring.kept(settings.directory, settings.secret)
    return settings.secret if kept is None and settings.api_key is not None else kept


def _client(settings: config.Settings, key: str) -> Client:
    connection = Config(
        server=settings.orchestrator_url,
        key=key,
        ca_file=str(settings.ca_file) if settings.ca_file else None,
        namespace=settings.namespace,
        timeout=10.0,
    )
    return Client(connection, f"casare-agent/{telemetry.agent_version()}")


def _forget(settings: config.Settings) -> None:
    """A person says that the robot shall be there again: as a new one, unless it is there still. Raises OSError.

    Where it has no key yet there is nothing to forget: it joins by its token, and is another one then.
    """
    known, key = memory.load(settings.directory), _own_key(settings)
    if known is None or key is None or _is_there(settings, known, key):
        return
    memory.forget(settings.directory)
    if settings.api_key is None:
        keyring.forget(settings.directory)


def _is_there(settings: config.Settings, known: memory.Memory, key: str) -> bool:
    """Whether it is the robot still; a key that nobody can replace is not given away on a suspicion."""
    with _client(settings, key) as client:
        try:
            robot = client.get("Robot", settings.name, known.namespace)
        except ApiError as error:
            if error.status == 401 and not is_orphaned(error):
                _log.warning(
                    "the server does not accept this robot's key, and does not say that the robot was deleted: nothing "
                    "is forgotten; if it was, remove %s", settings.directory,
                )  # fmt: skip
            return error.status != 404 and not is_orphaned(error)
        except Unreachable:
            return True
    return bool(robot["metadata"]["uid"] == known.uid)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="casare agent", description="Runs this computer as a robot of the fleet.", allow_abbrev=False
    )
    parser.add_argument(
        "--config", type=Path, action="append", default=[], metavar="FILE",
        help="settings, as .env lines or YAML; several files are several robots",
    )  # fmt: skip
    parser.add_argument(
        ENLIST_AGAIN, action="store_true", help="make the robot again though it was deleted at the server"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say more")
    parser.add_argument(MEMBER, action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _set_up_log(verbose: bool, name: str = "") -> None:
    """Lines with a time in UTC, and the robot's name where there are several, to standard error."""
    who = f"{name}: ".replace("%", "%%") if name else ""
    form = logging.Formatter(f"%(asctime)sZ %(levelname)-7s {who}%(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    _log.handlers.clear()
    handler = logging.StreamHandler()
    handler.setFormatter(form)
    _log.addHandler(handler)
    _log.setLevel(logging.DEBUG if verbose else logging.INFO)
    _log.propagate = False


def _complain(lines: str, code: int) -> int:
    for line in lines.splitlines():
        print(f"casare agent: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
