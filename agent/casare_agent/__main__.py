"""How is an agent started? `python -m casare_agent [--config FILE]`: settings in, exit code out.

Exit codes: 0 it was told to end, 1 the server or this computer does not let it run, 2 a mistake in the settings or on
the command line, 4 its robot was deleted, 5 it was asked to restart and this program can't be started again.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from casare_agent import capabilities, config, keyring, telemetry
from casare_agent.loop import ENDED, REFUSED, RESTART, Agent
from casare_agent.workshop import InUse, Workshop, locked
from casare_client import Client, Config, NoServer

USAGE = 2
_log = logging.getLogger("casare.agent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs an agent; its exit code. One that is asked to restart becomes a new process of the same number."""
    while (code := _once(arguments)) == RESTART:
        _log.info("restarting")
        if sys.platform == "win32":  # no process can become another there: all but the program itself is made anew
            continue
        try:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the very program that runs
        except OSError as error:
            return _complain(f"can't be started again: {error.strerror or error}", RESTART)
    return code


def _once(arguments: Sequence[str] | None) -> int:
    given = _arguments(arguments)
    if len(given.config) > 1:
        return _complain("one agent is one robot: start one agent for each --config FILE", USAGE)
    try:
        settings = config.load(*given.config)
    except config.ConfigError as error:
        return _complain(str(error), USAGE)
    _set_up_log(given.verbose)
    try:
        with locked(settings.directory):
            return _run(settings)
    except (InUse, NoServer) as error:
        return _complain(str(error), REFUSED)
    except OSError as error:
        why = f"{settings.directory} cannot be used: {error.strerror or error}; CASARE_AGENT_DIR names another place"
        return _complain(why, REFUSED)


def _run(settings: config.Settings) -> int:
    connection = Config(
        server=settings.orchestrator_url,
        key=keyring.load(settings.directory, settings.api_key.get_secret_value()),
        ca_file=str(settings.ca_file) if settings.ca_file else None,
        namespace=settings.namespace,
        timeout=10.0,
    )
    with Client(connection, f"casare-agent/{telemetry.agent_version()}") as client:
        workshop = Workshop(settings.directory, client)
        agent = Agent(settings, client, workshop, capabilities.detect(settings.capabilities))
        for number in _ending_signals():
            signal.signal(number, lambda number, frame: agent.end())
        try:
            code = agent.run()
            if code == RESTART:  # from here on a signal ends the process at once; one that came before counts
                for number in _ending_signals():
                    signal.signal(number, signal.SIG_DFL)
            return ENDED if agent.is_ending and code == RESTART else code
        finally:
            workshop.close()


def _ending_signals() -> list[signal.Signals]:
    if sys.platform == "win32":
        return [signal.SIGTERM, signal.SIGINT, signal.SIGBREAK]
    return [signal.SIGTERM, signal.SIGINT]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="casare agent", description="Runs this computer as a robot of the fleet.")
    parser.add_argument(
        "--config", type=Path, action="append", default=[], metavar="FILE", help="settings, as .env lines or YAML"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say more")
    return parser.parse_args(arguments)


def _set_up_log(verbose: bool) -> None:
    """Lines with a time in UTC, to standard error."""
    form = logging.Formatter("%(asctime)sZ %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S")
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
