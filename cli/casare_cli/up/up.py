"""`casare up`: start everything, say where it is, look after it until somebody wishes it to end."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from casare_cli.failures import Failure
from casare_cli.up import data_dir, probes
from casare_cli.up.data_dir import DataDir
from casare_cli.up.narrator import Narrator
from casare_cli.up.settings import Settings, check_installed
from casare_cli.up.signals import Signals
from casare_cli.up.starting import System
from casare_cli.up.supervisor import Ending
from casare_store import embedded, embedded_child, embedded_windows

DETACHED = "CASARE_UP_DETACHED"  # set by ourselves in the process that stays when the command returns
INTERRUPTED = 130


def up(settings: Settings) -> int:
    """Runs the system in this process. Returns the exit code; raises Failure."""
    check_installed()
    data = DataDir(settings.data_dir)
    if not os.environ.get("DATABASE_URL"):
        try:
            embedded.make_data_dir(data.path)
        except embedded.EmbeddedError as error:
            raise Failure(str(error)) from None
    data.make()
    with data_dir.claimed(data):
        probes.check_ports(settings)
        embedded_child.raise_open_files()
        embedded_windows.join_job()
        return _run(settings, data)


def _run(settings: Settings, data: DataDir) -> int:
    narrator, signals = Narrator(), Signals()
    system = System(settings, data, signals, narrator)
    with signals.handled():
        try:
            narrator.say(f"casare up in {data.path}")
            whole = system.start()
            narrator.say(_announcement(settings, data, narrator.elapsed, whole))
            if os.environ.get(DETACHED):
                _let_go_of_terminal(data)
            system.look_after()
            narrator.say("stopping; running jobs get a moment to finish (Ctrl-C again: none)")
            code = 0
        except Ending:
            narrator.say("stopping before it was ready")
            code = INTERRUPTED
        finally:
            system.stop()
        narrator.say("stopped")
    return code


def _announcement(settings: Settings, data: DataDir, seconds: float, whole: bool) -> str:
    where = "" if _is_default(data) else f"--data-dir {shlex.quote(str(data.path))} "
    lines = [
        f"{'ready' if whole else 'ready, with the warnings above,'} in {seconds:.1f} s",
        "",
        f"  API         {settings.api}",
        *([f"  TLS         {settings.tls}"] if settings.tls else []),
        *([f"  dashboard   {settings.dashboard_url}"] if settings.dashboard else []),
        f"  admin key   {data.admin_key}",
        f"  kubeconfig  {data.kubeconfig}",
        *([f"  old key     {data.old_secret_key}: '{_command()} {where}secrets reseal' says when it can be removed"]
          if data.old_secret_key.exists() else []),
        "",
        f"  {_command()} {where}get robots",
        "",
        f"{_command()} {where}down stops it" if os.environ.get(DETACHED) else "Ctrl-C stops it",
    ]
    return "\n".join(lines)


def _command() -> str:
    """How `casare` is typed here: with its path where the shell would not find it, as in a checkout."""
    beside = Path(sys.executable).with_name("casare")
    found = shutil.which("casare")
    return "casare" if not beside.exists() or (found and beside.samefile(found)) else shlex.quote(str(beside))


def _is_default(data: DataDir) -> bool:
    return data.path == data_dir.default().resolve()


def _let_go_of_terminal(data: DataDir) -> None:
    """From now on our lines go to up.log; whoever started us reads the end of them and returns."""
    log = os.open(data.log("up"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def detach(settings: Settings) -> int:
    """Starts the system in a process that stays; returns when it is ready or has failed."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "casare_cli", "up", *settings.arguments],
        env=os.environ | {DETACHED: "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=sys.platform != "win32",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            sys.stdout.write(line.decode(errors="replace"))
            sys.stdout.flush()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        return INTERRUPTED
    try:
        return process.wait(timeout=0.2)  # it has closed its output: it has ended, or it is ready
    except subprocess.TimeoutExpired:
        return 0
