"""The apiserver started by itself: what it says when it can't serve."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from ..conftest import Server, free_port, until


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


def test_https_is_trusted_by_whoever_has_the_authority_and_by_nobody_else(database: str, tmp_path: Path) -> None:
    server = Server(database, tmp_path, tls_port=free_port())
    server.run("apiserver", "-m", "casare_apiserver")
    try:
        until(server.is_ready, "the apiserver is ready")
        place = f"https://127.0.0.1:{server.tls_port}/healthz"
        trusting = ssl.create_default_context(cafile=str(tmp_path / "pki" / "ca.crt"))
        with urllib.request.urlopen(place, context=trusting, timeout=20) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(place, context=ssl.create_default_context(), timeout=20)
    finally:
        server.stop()
