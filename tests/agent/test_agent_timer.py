"""Timers: of any length, and never early."""

from __future__ import annotations

import threading
import time

import pytest

from casare_agent import timer
from casare_agent.timer import Timer


def test_a_time_longer_than_one_wait_may_be_is_waited_for_until_it_is_cancelled() -> None:
    acted = threading.Event()
    long = Timer(threading.TIMEOUT_MAX * 2, acted.set)
    long.start()
    long.join(0.2)
    assert long.is_alive()
    long.cancel()
    long.join(30)
    assert not long.is_alive()
    assert not acted.is_set()


def test_a_wait_in_pieces_is_as_long_as_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "_LONGEST", 0.01)
    acted, begun = threading.Event(), time.monotonic()
    Timer(0.1, acted.set).start()
    assert acted.wait(30)
    assert time.monotonic() - begun >= 0.1
