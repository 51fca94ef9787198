"""The processes of one peer: how they are started, told what to do, heard, and ended.

Always holds: what a crew started is gone when its block is left; nobody is waited for longer than ANSWER_WITHIN.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from system import HERE, STOP_WITHIN, BenchmarkError

ANSWER_WITHIN = 15.0  # seconds
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT")  # nobody's settings of the libraries come in


@dataclass(slots=True)
class Crew:
    """Processes of one program that share a pipe for what they say, one JSON line a piece."""

    processes: list[subprocess.Popen[bytes]]
    voices: int  # file descriptor
    log: Path
    _rest: bytes = field(default=b"")

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """Tells everybody, and hears an answer from each; gives the last one. Raises BenchmarkError when it went wrong."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(orjson.dumps({"do": do, **what}) + b"\n")
            process.stdin.flush()
        return self.hear_all()

    def hear_all(self) -> dict[str, Any]:
        return [self.hear() for _ in self.processes][-1]

    def hear(self, within: float = ANSWER_WITHIN) -> dict[str, Any]:
        """What is said next. Raises BenchmarkError when that is an error, the end, or nothing within so many seconds."""
        deadline = time.monotonic() + within
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.voices], [], [], max(deadline - time.monotonic(), 0))
            data = os.read(self.voices, 65536) if ready else b""
            if not data:
                raise BenchmarkError(self._last_words() if ready else f"no word from it for {within:.0f} s")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = orjson.loads(line)
        if "error" in found:
            raise BenchmarkError(found["error"])
        return found

    def _last_words(self) -> str:
        return (self.log.read_text(errors="replace").strip().splitlines() or ["it ended without a word"])[-1]


@contextlib.contextmanager
def crew(program: str, python: str, number: int, database: Mapping[str, str], directory: Path) -> Iterator[Crew]:
    """That many processes of bench/`program`.py, each of which has said who it is (see `peers_work`)."""
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    env["BENCH_DATABASE"] = orjson.dumps(dict(database)).decode()
    log = directory / f"{program}-{secrets.token_hex(3)}.log"
    hearing, saying = os.pipe()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("ab") as output, os.fdopen(saying, "wb") as pipe:
            for _ in range(number):
                processes.append(
                    subprocess.Popen(
                        [python, str(HERE / f"{program}.py")], env=env, cwd=directory, stdin=subprocess.PIPE,
                        stdout=pipe, stderr=output,
                    )
                )  # fmt: skip
        yield Crew(processes, hearing, log)
    finally:
        for process in processes:
            _end(process)
        os.close(hearing)


def _end(process: subprocess.Popen[bytes]) -> None:
    """It ends when its input does; where it does not, it is made to."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(timeout=STOP_WITHIN / 5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
