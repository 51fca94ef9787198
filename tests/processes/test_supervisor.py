"""Does the supervisor keep programs running, and end them in order? Tried with small programs of our own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from casare_cli.failures import Failure
from casare_cli.up.child import Process
from casare_cli.up.signals import Signals
from casare_cli.up.supervisor import Ending, Supervisor

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="written with POSIX signals")

WAITS = "import signal; signal.pause()"
SAYS_WHEN_ENDED = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"ended\\n"), sys.exit(0)))
print("ready")
while True: signal.pause()
"""


class Bench:
    """A supervisor and what it said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.signals = Signals()
        self.said: list[str] = []
        self.changes = 0
        self.supervisor = Supervisor(self.signals, self.said.append, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def process(self, name: str, code: str, stage: int = 0, grace: float = 10.0, **more: object) -> Process:
        argv = [sys.executable, "-u", "-c", code]
        log = self.directory / f"{name}.log"
        return Process(name, argv, dict(os.environ), log, self.directory, stage, grace, **more)  # type: ignore[arg-type]

    def until(self, condition: Callable[[], bool]) -> None:
        assert self.supervisor.until(condition, 30), self.said


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    with made.signals.handled():
        yield made
        made.supervisor.stop()


def printed(process: Process) -> list[str]:
    return process.log.read_text().splitlines()


def test_a_child_that_was_killed_is_started_again(bench: Bench) -> None:
    child = bench.process("worker", WAITS)
    bench.supervisor.add(child)
    first = child.pid
    assert first
    os.kill(first, signal.SIGKILL)
    bench.until(lambda: child.pid not in (first, None))
    assert bench.said == ["worker has ended and is started again: killed by signal 9"]
    assert bench.changes >= 2  # it is gone, it is back: up.json follows both


def test_a_child_that_keeps_ending_is_started_ever_more_seldom(bench: Bench) -> None:
    child = bench.process("worker", "import time; print(time.monotonic())")
    bench.supervisor.add(child)
    bench.until(lambda: len(printed(child)) >= 4)
    times = [float(line) for line in printed(child)]
    assert times[3] - times[2] > 1.5 > times[2] - times[1] > 0.8


def test_a_start_that_fails_for_good_says_the_last_line_that_was_printed(bench: Bench) -> None:
    child = bench.process("apiserver", "import sys; print('starting'); sys.exit('error: no such table\\n')")
    bench.supervisor.add(child)
    with pytest.raises(Failure, match=r"^apiserver does not start: error: no such table$"):
        bench.supervisor.until(lambda: False, 30, [child])


def test_a_program_that_is_not_there_is_one_line(bench: Bench) -> None:
    child = Process("worker", ["/nowhere/at-all"], {}, bench.directory / "worker.log", bench.directory)
    with pytest.raises(Failure, match=r"worker can't be started: .*No such file"):
        bench.supervisor.add(child)


def test_a_final_exit_code_is_respected(bench: Bench) -> None:
    child = bench.process("agent", "print('the robot was deleted'); raise SystemExit(4)", final_codes=frozenset({4}))
    bench.supervisor.add(child)
    bench.until(lambda: bool(bench.said))
    bench.supervisor.step(0.1)
    assert child.pid is None
    assert bench.said == ["agent has ended and stays away: the robot was deleted"]


def test_the_stages_end_one_after_another_the_highest_first(bench: Bench) -> None:
    code = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (print(time.monotonic()), sys.exit()))\n"
    code += "print('ready')\nwhile True: signal.pause()"
    children = [bench.process(name, code, stage) for stage, name in enumerate(("database", "server", "agent"))]
    bench.supervisor.add(*children)
    bench.until(lambda: all(printed(child) == ["ready"] for child in children))
    bench.supervisor.stop()
    ends = [float(printed(child)[1]) for child in children]
    assert ends == sorted(ends, reverse=True)
    assert [child.pid for child in children] == [None] * 3


def test_who_does_not_end_in_time_is_killed_with_its_own_children(bench: Bench) -> None:
    code = "import signal, subprocess, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += f"print(subprocess.Popen([sys.executable, '-c', {WAITS!r}]).pid)\n" + WAITS
    child = bench.process("stubborn", code, grace=0.2)
    bench.supervisor.add(child)
    bench.until(lambda: bool(printed(child)))
    grandchild = int(printed(child)[0])
    bench.supervisor.stop()
    assert child.pid is None
    assert "killed" in bench.said[-1]
    wait_until_gone(grandchild)


def test_a_further_wish_to_end_reaches_those_that_are_ending(bench: Bench) -> None:
    code = (
        "import signal, sys\nwishes = []\nsignal.signal(signal.SIGTERM, lambda *_: wishes.append(1))\nprint('ready')\n"
    )
    code += "while len(wishes) < 2: signal.pause()"
    child = bench.process("agent", code, grace=60)
    bench.supervisor.add(child)
    bench.until(lambda: printed(child) == ["ready"])
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    begun = time.monotonic()
    bench.supervisor.stop()
    assert child.code == 0
    assert time.monotonic() - begun < 30


def test_a_wish_to_end_interrupts_whatever_is_waited_for(bench: Bench) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Ending):
        bench.supervisor.until(lambda: False, 30)


def test_children_are_looked_after_while_something_long_runs(bench: Bench) -> None:
    child = bench.process("worker", WAITS)
    bench.supervisor.add(child)
    first = child.pid
    assert first

    def work() -> int:
        os.kill(first, signal.SIGKILL)
        while child.pid in (first, None):
            time.sleep(0.01)
        return 42

    assert bench.supervisor.during(work) == 42


def test_what_goes_wrong_in_something_long_comes_back(bench: Bench) -> None:
    with pytest.raises(ZeroDivisionError):
        bench.supervisor.during(lambda: 1 // 0)


def test_a_program_that_runs_once_is_not_started_again(bench: Bench) -> None:
    child = bench.process("migrations", "print('done'); raise SystemExit(3)")
    assert bench.supervisor.once(child, 30)
    bench.supervisor.step(0.1)
    assert (child.code, printed(child), bench.said) == (3, ["done"], [])


def test_a_program_that_runs_once_is_ended_when_it_takes_too_long(bench: Bench) -> None:
    child = bench.process("migrations", WAITS)
    assert not bench.supervisor.once(child, 0.1)
    assert child.pid is None


def test_a_program_that_runs_once_is_ended_with_a_wish_to_end(bench: Bench) -> None:
    child = bench.process("migrations", WAITS)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Ending):
        bench.supervisor.once(child, 30)
    assert child.pid is None
    assert child.code is not None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child's life to its parent's")
def test_kill_9_of_the_supervisor_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
from casare_cli.up.child import Process
child = Process("worker", [sys.executable, "-c", {WAITS!r}], dict(os.environ), Path("worker.log"), Path("."))
child.start()
print(child.pid, flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until_gone(pid)


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while _runs(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()  # reaped by whoever adopted it
    except OSError:
        return False
