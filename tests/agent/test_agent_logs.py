"""Logs: numbered chunks that are repeated until the server has them, and never more than the limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from casare_agent.logs import CHUNK, JobLog, LogShipper
from casare_api.machinery.errors import ApiError
from casare_client import Unreachable

Until = Callable[..., None]


class Server:
    """Takes chunks, after as many failures as it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.asked: list[int] = []
        self.chunks: dict[int, str] = {}

    def __call__(self, number: int, text: str) -> None:
        self.asked.append(number)
        if self.failures:
            raise self.failures.pop(0)
        assert number not in self.chunks
        self.chunks[number] = text

    @property
    def text(self) -> str:
        assert list(self.chunks) == list(range(len(self.chunks)))
        return "".join(self.chunks.values())


@pytest.fixture
def log(tmp_path: Path) -> JobLog:
    return JobLog(tmp_path / "output.log")


def test_what_is_printed_arrives_in_order_and_in_chunks_of_bounded_size(log: JobLog) -> None:
    server = Server()
    shipper = LogShipper(log, server, "test", threading.Event())
    lines = [f"line {number}\n" for number in range(40_000)]
    for line in lines:
        log.write(line.encode())
    log.close()
    assert shipper.finished(30)
    assert server.text == "".join(lines)
    assert max(len(chunk) for chunk in server.chunks.values()) <= CHUNK


def test_a_little_output_does_not_wait_for_more(log: JobLog, until: Until) -> None:
    server = Server()
    LogShipper(log, server, "test", threading.Event())
    log.write(b"hello\n")
    until(lambda: server.chunks == {0: "hello\n"}, "sent while the job goes on")
    log.close()


def test_a_chunk_is_repeated_under_its_number_until_it_is_taken(log: JobLog) -> None:
    server = Server(Unreachable("away"), ApiError.unavailable("starting"))
    shipper = LogShipper(log, server, "test", threading.Event())
    log.write(b"once")
    log.close()
    assert shipper.finished(30)
    assert server.asked == [0, 0, 0]
    assert server.text == "once"


def test_a_refused_log_is_given_up_and_holds_nothing_back(log: JobLog) -> None:
    server = Server(ApiError(409, "Conflict", "attempt 1 is over"))
    shipper = LogShipper(log, server, "test", threading.Event())
    log.write(b"x" * CHUNK * 3)
    log.close()
    assert shipper.finished(30)
    assert server.asked == [0]


def test_a_log_that_fails_otherwise_is_given_up_aloud_and_holds_nothing_back(
    log: JobLog, caplog: pytest.LogCaptureFixture
) -> None:
    shipper = LogShipper(log, Server(OSError(5, "Input/output error")), "test", threading.Event())
    log.write(b"x")
    log.close()
    assert shipper.finished(30)
    assert "log-test: the rest of this log does not get to the server" in caplog.text


def test_characters_are_whole_wherever_chunks_are_cut_and_rubbish_is_replaced(log: JobLog) -> None:
    server = Server()
    shipper = LogShipper(log, server, "test", threading.Event())
    text = "a" + "ü€🙂" * CHUNK
    log.write(text.encode() + b"\xff\0end\xe2\x82")
    log.close()
    assert shipper.finished(30)
    assert server.text == text + "\ufffd\ufffdend\ufffd"


def test_a_log_is_cut_at_its_limit_and_says_so_in_its_last_line(log: JobLog) -> None:
    log.limit_to(1000, "1k")
    server = Server()
    shipper = LogShipper(log, server, "test", threading.Event())
    for _ in range(100):
        log.write(b"0123456789" * 10)
    log.close()
    assert shipper.finished(30)
    assert server.text.startswith("0123456789" * 100 + "\n[")
    assert server.text.splitlines()[-1] == "[the log is cut here: it has reached its limit of 1k]"


def test_the_last_line_is_known_also_beyond_the_limit(log: JobLog) -> None:
    log.limit_to(10, "10")
    log.write(b"one line that is long\n")
    log.write(b"ValueError: bad month\n\n  \n")
    assert log.last_line() == "ValueError: bad month"
    assert log.last_line() != ""
    log.close()


def test_writers_in_many_threads_lose_nothing(log: JobLog) -> None:
    server = Server()
    shipper = LogShipper(log, server, "test", threading.Event())

    def write() -> None:
        for _ in range(2000):
            log.write(b"12345678\n")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert shipper.finished(30)
    assert server.text == "12345678\n" * 8000
