"""Assignments: the watch goes on, whatever a server says."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from casare_agent.assignments import Assignments
from casare_api.kinds import Object
from casare_client import Client, Config

Until = Callable[..., None]


@contextmanager
def listing(*lists: Object) -> Iterator[str]:
    """The address of a server that gives one list of jobs after another, and no changes."""
    left = list(lists)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"" if "watch=" in self.path else json.dumps(left.pop(0)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def jobs(*metadata: Object) -> Object:
    return {"kind": "JobList", "metadata": {"resourceVersion": "1"}, "items": [{"metadata": one} for one in metadata]}


def test_a_watch_that_fails_says_so_and_lists_anew(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    closed = threading.Event()
    wrong, right = jobs({"name": "a job without an uid"}), jobs({"name": "job-1", "uid": "u-1"})
    with listing(wrong, right) as url, Client(Config(url, timeout=5.0)) as client:
        assignments = Assignments(client, lambda: None, closed, lambda: 6.0)
        assignments.start({"metadata": {"uid": "r-1"}})
        until(assignments.wanted, "the second list")
        closed.set()
    assert list(assignments.wanted()) == ["u-1"]
    failures = [one for one in caplog.records if one.name == "casare.agent" and one.levelno == logging.ERROR]
    assert len(failures) == 1
    assert failures[0].exc_info is not None
