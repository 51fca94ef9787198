"""The files that a job leaves behind: which are sent, what becomes of others, and that no result is lost for them."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from casare_agent import artifacts, recovery, result
from casare_agent.artifacts import Deadline, Left
from casare_agent.assignment import Assignment
from casare_agent.attempt import Attempt
from casare_agent.leftovers import Mark
from casare_agent.logs import JobLog
from casare_agent.plan import Stage
from casare_agent.result import Result
from casare_agent.supervisor import StopReason, Supervisor
from casare_agent.workshop import Workshop
from casare_api.machinery.errors import ApiError
from casare_client import Unreachable

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and pipes in here are POSIX's")
Until = Callable[..., None]
TOO_LARGE = ApiError(413, "RequestEntityTooLarge", "no room")


class Counter:
    """Takes files as a server does, and says what it is told to say, once for each of these answers."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.taken: dict[str, bytes] = {}
        self.asked: list[str] = []

    def __call__(self, name: str, size: int, sha256: str, pieces: Iterable[bytes]) -> None:
        content = b"".join(pieces)
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, sha256)
        self.asked.append(name)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.taken[name] = content


class Folder:
    """A directory of files that a job left, and all that sending them takes."""

    def __init__(self, place: Path) -> None:
        self.path = place / "artifacts"
        self.path.mkdir()
        self.log = JobLog(place / "output.log")
        self.supervisor = Supervisor(Mark("u-1", 1), self.log.write, grace=5)
        self.closed = threading.Event()

    def send(self, send: artifacts.Send, seconds: float = 20, most: int = 2**20) -> dict[str, str]:
        deadline = Deadline(seconds, self.supervisor, self.closed)
        return Left.look(self.path).within(most, "some").send(send, deadline, self.log)

    @property
    def printed(self) -> str:
        return (self.path.parent / "output.log").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# -- which files -------------------------------------------------------------------------------------------------


def test_files_are_sent_as_they_are(folder: Folder) -> None:
    wanted = {"a.bin": os.urandom(200_000), "empty": b"", "Übersicht.csv": b"x"}
    for name, content in wanted.items():
        (folder.path / name).write_bytes(content)
    server = Counter()
    assert folder.send(server) == {} and folder.printed == ""
    assert server.taken == wanted


def test_what_is_no_file_is_left_out_with_a_line(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not of this job")
    (folder.path / "link").symlink_to(tmp_path / "secret")
    (folder.path / "nowhere").symlink_to(tmp_path / "nothing")
    (folder.path / "folder").mkdir()
    os.mkfifo(folder.path / "pipe")
    (folder.path / ".hidden").touch()
    (folder.path / "good").touch()
    server = Counter()
    missing = folder.send(server)
    assert server.asked == ["good"] and missing.keys() == {"link", "nowhere", "folder", "pipe", ".hidden"}
    for line in ("link is not kept: it is a link", "folder is not kept: it is a folder", ".hidden is not kept: its name"):
        assert f"[agent] {line}" in folder.printed


def test_a_file_that_became_a_link_is_not_followed(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not of this job")
    (folder.path / "f").touch()
    left = Left.look(folder.path)
    (folder.path / "f").unlink()
    (folder.path / "f").symlink_to(tmp_path / "secret")
    server = Counter()
    missing = left.send(server, Deadline(20, folder.supervisor, folder.closed), folder.log)
    assert server.asked == [] and "can't be read" in missing["f"]


def test_a_directory_that_is_a_link_is_not_looked_into(folder: Folder, tmp_path: Path) -> None:
    folder.path.rmdir()
    folder.path.symlink_to(tmp_path)
    assert "a link stands in the place" in folder.send(Counter())["artifacts"]


def test_a_directory_that_the_job_took_away_holds_nothing(folder: Folder) -> None:
    folder.path.rmdir()
    assert not Left.look(folder.path)


def test_names_that_no_server_takes_are_left_out_and_can_be_printed(folder: Folder) -> None:
    (Path(os.fsdecode(os.fsencode(folder.path) + b"/bad\xff"))).touch()
    assert len(folder.send(Counter())) == 1 and "is not kept" in folder.printed


def test_what_does_not_fit_is_not_sent_and_the_others_are(folder: Folder) -> None:
    for name, size in (("a", 60), ("b", 50), ("c", 40)):
        (folder.path / name).write_bytes(b"x" * size)
    server = Counter()
    missing = folder.send(server, most=100)
    assert server.asked == ["a", "c"] and list(missing) == ["b"]
    assert "[agent] b is not kept: the files of this job may have some in all" in folder.printed


# -- a server that refuses, or is away -----------------------------------------------------------------------------


def test_a_file_is_sent_again_until_the_server_is_back(folder: Folder) -> None:
    (folder.path / "f").write_bytes(b"content")
    server = Counter(Unreachable("away"), ApiError(503, "ServiceUnavailable", "starting"))
    assert folder.send(server) == {} and server.taken == {"f": b"content"}
    assert server.asked == ["f"] * 3


def test_a_file_that_is_refused_costs_the_others_nothing(folder: Folder) -> None:
    for name in ("a", "b"):
        (folder.path / name).touch()
    server = Counter(TOO_LARGE)
    assert folder.send(server) == {"a": "no room"} and server.asked == ["a", "b"]
    assert folder.printed == "[agent] a is not kept: no room\n"


def test_nothing_more_is_sent_for_an_attempt_that_is_over(folder: Folder) -> None:
    for name in ("a", "b"):
        (folder.path / name).touch()
    server = Counter(ApiError(409, "Conflict", "it is over"))
    assert folder.send(server) == {"a": "it is over", "b": "it is over"} and server.asked == ["a"]


def test_a_server_that_stays_away_is_not_waited_for_for_ever(
    folder: Folder, workshop: Workshop, job: Callable[..., Assignment]
) -> None:
    for name in ("a", "b"):
        (folder.path / name).touch()
    missing = folder.send(workshop.artifacts_of(job({})), seconds=0.2)
    assert missing.keys() == {"a", "b"}
    assert all("could not be sent in time: cannot reach" in why for why in missing.values())


def test_a_job_that_is_withdrawn_meanwhile_sends_no_more(folder: Folder) -> None:
    (folder.path / "f").write_bytes(b"x" * 200_000)

    def send(name: str, size: int, sha256: str, pieces: Iterable[bytes]) -> None:
        next(iter(pieces))
        folder.supervisor.stop(StopReason.WITHDRAWN)
        list(pieces)
        raise AssertionError("it went on")

    assert folder.send(send).keys() == {"f"}


def test_the_result_of_a_job_with_a_timeout_is_there_before_the_server_ends_it() -> None:
    assert artifacts.patience(0, 5000) == artifacts.MOST
    assert artifacts.patience(300, 290) == 10 + artifacts.STOPPED
    assert artifacts.patience(300, 310) == artifacts.STOPPED
    assert artifacts.patience(7200, 10) == artifacts.MOST


def test_a_job_that_is_stopped_has_little_time_left_for_files(folder: Folder) -> None:
    deadline = Deadline(500, folder.supervisor, folder.closed)
    assert deadline.left() > 490
    folder.supervisor.stop(StopReason.CANCELLED)
    assert 0 < deadline.left() <= artifacts.STOPPED


# -- what the result says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("message", "missing", "said"), [
    ("312 of 318", {}, "312 of 318"),
    ("312 of 318", {"a.pdf": "no room"}, "312 of 318; not kept: a.pdf (no room)"),
    ("", {"a": "no room", "b": "no room"}, "not kept: a, b (no room)"),
    ("", {"a": "x", "b": "y", "c": "y", "d": "y", "e": "y"}, "not kept: a, b, c and 2 more (its log says why)"),
    ("good", {".DS_Store": "its name must not start with a dot"}, "good"),
])  # fmt: skip
def test_the_message_says_what_is_missing_and_nothing_else_changes(
    message: str, missing: dict[str, str], said: str
) -> None:
    before = Result("Succeeded", "Completed", message, 0, {"a": 1})
    assert artifacts.noted(before, missing) == Result("Succeeded", "Completed", said, 0, {"a": 1})


def test_a_result_is_safe_before_its_files_are_sent(
    workshop: Workshop, job: Callable[..., Assignment], until: Until
) -> None:
    """The server is away, so that the file waits; the agent dies, and the one after it delivers the result."""
    text = "import os; open(os.environ['CASARE_ARTIFACTS'] + '/f', 'w').write('x')"
    attempt = Attempt(job({"runner": "python", "source": {"inline": text}}), workshop, lambda: None)
    said = attempt.entry()
    assert said is not None
    attempt.answered(said, 200, "")
    until(lambda: (workshop.attempt("u-1", 1) / result.FILE).exists(), "the result is on disk")
    assert attempt.held().stage is Stage.RUNNING, "it is not reported before the file is sent"
    found = recovery.recover(workshop, lambda: None)["u-1"].entry()
    assert found is not None and found["phase"] == "Succeeded"
    assert found["message"] == f"not kept: f ({artifacts.INTERRUPTED})"
    workshop.close()
    until(lambda: attempt.held().stage is Stage.ENDED, "an agent that ends waits no more", 10)
