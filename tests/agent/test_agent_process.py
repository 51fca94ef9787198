"""Processes: started in their own group, ended with everything they started. All real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from casare_agent.leftovers import Mark, kill_marked
from casare_agent.process import Child, Command, Exit
from casare_agent.supervisor import Stopped, StopReason, Supervisor

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and process groups are POSIX; Windows has its own")

MARK = Mark(f"test-{os.getpid()}", 1)
Python = Callable[..., Command]
Until = Callable[..., None]
Alive = Callable[[int], bool]

# A parent, a child in its group, and a grandchild that makes a session of its own; each says its pid.
TREE = """
import os, subprocess, sys, time
here = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
away = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(os.getpid(), here.pid, away.pid)
{then}
"""


class Output:
    """What a child printed."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, piece: bytes) -> None:
        self.data += piece

    def pids(self) -> list[int]:
        return [int(word) for word in self.data.split()]


def start(command: Command) -> tuple[Child, Output]:
    output = Output()
    return Child(command, MARK, output), output


def test_output_of_both_streams_arrives_whole_and_stdin_is_empty(python: Python) -> None:
    text = "import sys; print(sys.stdin.read() == ''); sys.stdout.flush(); sys.stderr.write('x' * 200_000)"
    child, output = start(python(text))
    assert child.wait() == Exit(0)
    assert output.data == b"True\n" + b"x" * 200_000


def test_exit_codes_and_signals_are_told_apart(python: Python) -> None:
    assert start(python("raise SystemExit(7)"))[0].wait() == Exit(7)
    dead = start(python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))[0].wait()
    assert dead == Exit(128 + signal.SIGSEGV, "SIGSEGV")


def test_a_program_that_is_not_there_is_an_os_error(python: Python, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        Child(Command((str(tmp_path / "no"),), {}, tmp_path / "nowhere"), MARK, Output())


def test_stopping_ends_the_whole_tree_also_what_left_the_group(python: Python, until: Until, alive: Alive) -> None:
    child, output = start(python(TREE.format(then="time.sleep(600)"), **MARK.variables()))
    until(lambda: len(output.pids()) == 3, "three processes")
    child.stop(10)
    assert child.wait().signal == "SIGTERM"
    until(lambda: not any(map(alive, output.pids())), "all of them ended")


def test_what_a_process_leaves_behind_is_ended_with_it(python: Python, until: Until, alive: Alive) -> None:
    child, output = start(python(TREE.format(then=""), **MARK.variables()))
    assert child.wait() == Exit(0)
    until(lambda: not any(map(alive, output.pids())), "nothing is left")


def test_the_grace_period_is_given_and_then_over(python: Python, until: Until) -> None:
    patient = "import signal, time; signal.signal(15, lambda *a: print('asked')); print('up')\nwhile 1: time.sleep(60)"
    child, output = start(python(patient))
    until(lambda: b"up" in output.data)
    begun = time.monotonic()
    child.stop(0.5)
    assert child.wait() == Exit(137, "SIGKILL")
    assert b"asked" in output.data
    assert time.monotonic() - begun >= 0.5


def test_a_child_may_use_the_grace_that_its_parent_does_not(python: Python, until: Until) -> None:
    slow = "import signal, sys, time\\nsignal.signal(15, lambda *a: (time.sleep(0.3), print('saved'), sys.exit()))"
    inner = f"{slow}\\nprint('up')\\ntime.sleep(600)"
    text = f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', \"{inner}\"])\ntime.sleep(600)"
    child, output = start(python(text))
    until(lambda: b"up" in output.data)
    child.stop(10)
    assert child.wait().signal == "SIGTERM"
    assert b"saved" in output.data


def test_a_second_stop_may_shorten_the_grace(python: Python, until: Until) -> None:
    child, output = start(python("import signal; signal.signal(15, signal.SIG_IGN); print('up'); signal.pause()"))
    until(lambda: b"up" in output.data)
    child.stop(600)
    child.stop(0)
    assert child.wait() == Exit(137, "SIGKILL")


def test_processes_are_found_by_their_mark_and_by_nothing_less(python: Python, until: Until, alive: Alive) -> None:
    ours = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=MARK.variables())
    other = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**MARK.variables(), "CASARE_ATTEMPT": "11"}
    )
    until(lambda: kill_marked(MARK), "found")  # its environment is there once it has been started
    assert ours.wait() == -signal.SIGKILL
    assert alive(other.pid)
    other.kill()
    other.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a process to the life of another")
def test_a_job_does_not_outlive_a_killed_agent(python: Python, until: Until, alive: Alive, tmp_path: Path) -> None:
    agent = (
        "import sys, threading; from pathlib import Path\n"
        "from casare_agent.process import Child, Command\nfrom casare_agent.leftovers import Mark\n"
        "sleep = (sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(600)')\n"
        "up = threading.Event()\n"
        "child = Child(Command(sleep, {}, Path('.')), Mark('x', 1), lambda _: up.set())\n"
        "up.wait(); print(child.pid, flush=True); child.wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", agent], stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = int(process.stdout.readline())  # by now it runs, so it is tied to the agent
    assert alive(pid)
    process.kill()
    process.wait()
    until(lambda: not alive(pid), "the job ended with its agent")
    process.stdout.close()


def test_a_stopped_attempt_starts_no_further_process(python: Python) -> None:
    supervisor = Supervisor(MARK, Output(), grace=5)
    assert supervisor.run(python("print(1)")) == Exit(0)
    supervisor.stop(StopReason.CANCELLED)
    supervisor.stop(StopReason.TIMEOUT)
    with pytest.raises(Stopped) as stopped:
        supervisor.run(python("print(1)"))
    assert stopped.value.reason is StopReason.CANCELLED
    with pytest.raises(Stopped):
        supervisor.pause(600)
