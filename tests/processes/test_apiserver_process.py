"""The apiserver started by itself: what it says when it can't serve."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import Server, free_port


@pytest.mark.parametrize("setting", ["CASARE_PORT", "CASARE_TLS_PORT"])
def test_a_port_that_is_taken_is_one_line(database: str, tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = Server(database, tmp_path, tls_port=free_port()).env | {setting: str(port)}
        done = subprocess.run(
            [sys.executable, "-m", "casare_apiserver"], env=env, capture_output=True, text=True, timeout=60, check=False
        )
    why = f"can't serve on 127.0.0.1:{port}: address already in use"
    assert (done.returncode, done.stderr) == (1, f"error: {why}; {setting} names another port\n")
