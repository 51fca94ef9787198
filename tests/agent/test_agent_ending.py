"""Wishes to end: who hears them while one agent follows another in a process, or one program another."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.skipif(os.name == "nt", reason="no process becomes another one there")
def test_what_comes_after_an_agent_has_left_is_for_the_program_that_takes_its_place() -> None:
    first = """
        import os, sys
        from casare_agent.ending import Ending
        ending = Ending()
        ending.listen(to_input=True)
        ending.leave_to_next()
        print("left", flush=True)
        os.read(int(sys.argv[1]), 1)
        os.execv(sys.executable, [sys.executable, "-c", "import os; print(os.read(0, 9), os.read(0, 9))"])
    """
    gate, opened = os.pipe()
    command = [sys.executable, "-c", textwrap.dedent(first), str(gate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[gate]) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"left\n"
        process.stdin.write(b"\n")
        process.stdin.close()
        os.write(opened, b"x")
        assert process.stdout.read().strip() == rb"b'\n' b''"
    os.close(gate)
    os.close(opened)
