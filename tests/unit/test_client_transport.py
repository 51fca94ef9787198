"""What comes of a request: against a small server of this file's own, on a real socket."""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from casare_api.kinds import KINDS
from casare_api.machinery.errors import ApiError
from casare_client import RELIST, Client, Config, NoServer, Unreachable, WatchEvent

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers as the test's function does."""

    protocol_version = "HTTP/1.1"
    answer: Answer

    def _any(self) -> None:
        type(self).answer(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _any

    def log_message(self, format: str, *args: object) -> None:
        pass

    def send(self, body: bytes, status: int = 200, content_type: str = "application/json") -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> None:
        """An answer without an end: what follows is `part`s."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def part(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def cut(self) -> None:
        """Breaks the connection in the middle."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[str]:
    handler = type("H", (Handler,), {"answer": staticmethod(answer)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def client(url: str, **more: float) -> Client:
    return Client(Config(url, "crpa_secret", timeout=more.get("timeout", 10.0)), "test/1")


@contextlib.contextmanager
def connected(answer: Answer, **more: float) -> Iterator[Client]:
    """A client of a server that answers so."""
    with serving(answer) as url, client(url, **more) as found:
        yield found


def line(kind: str, version: int) -> bytes:
    return json.dumps({"type": kind, "object": {"metadata": {"resourceVersion": str(version)}}}).encode() + b"\n"


def test_a_request_says_who_it_is_and_strips_nothing_of_a_name() -> None:
    seen: dict[str, str] = {}

    def answer(handler: Handler) -> None:
        seen.update(handler.headers)
        seen["path"] = handler.path
        handler.send(b'{"a": 1}')

    with serving(answer) as url, client(url) as found:
        assert found.get("Job", "../x", "ns") == {"a": 1}
    assert seen["path"] == "/apis/fleet.casare.net/v1/namespaces/ns/jobs/..%2Fx"
    assert (seen["Authorization"], seen["User-Agent"]) == ("Bearer crpa_secret", "test/1")


def test_a_status_is_an_api_error_with_its_causes() -> None:
    body = ApiError(422, "Invalid", "spec.x: wrong", {"causes": [{"field": "spec.x", "message": "wrong"}]}).body()
    refusal = json.dumps(body).encode()
    with (
        connected(lambda handler: handler.send(refusal, 422)) as found,
        pytest.raises(ApiError, match="wrong") as caught,
    ):
        found.create({"kind": "Job", "metadata": {"name": "a"}})
    assert (caught.value.status, caught.value.causes[0].field) == (422, "spec.x")


@pytest.mark.parametrize("status", [302, 404, 502])
def test_a_page_of_something_else_says_who_said_it(status: int) -> None:
    page = connected(lambda handler: handler.send(b"<html>x</html>", status, "text/html"))
    with page as found, pytest.raises(ApiError, match=f"127.0.0.1:[0-9]+ answered {status}"):
        found.get("Job", "a")


def test_an_answer_that_is_no_json_is_no_casare_server() -> None:
    page = connected(lambda handler: handler.send(b"<html>x</html>"))
    with page as found, pytest.raises(Unreachable, match="not as a Casare server does"):
        found.get("Job", "a")


def test_nobody_there_is_unreachable_and_names_the_server_without_a_key() -> None:
    with client("http://127.0.0.1:1") as found, pytest.raises(Unreachable, match="refused") as caught:
        found.get("Job", "a")
    assert caught.value.refused
    assert "crpa_secret" not in str(caught.value)
    with (
        client("http://no-such-host.invalid") as found,
        pytest.raises(Unreachable, match="cannot reach http://no-such"),
    ):
        found.get("Job", "a")


def test_silence_is_unreachable() -> None:
    over = threading.Event()

    def silent(handler: Handler) -> None:
        over.wait(20)

    with connected(silent, timeout=0.2) as found, pytest.raises(Unreachable, match=r"no answer within 0\.2 s"):
        found.get("Job", "a")
    over.set()


def test_a_read_survives_a_kept_connection_that_was_closed_a_write_is_not_repeated() -> None:
    counts = {"GET": 0, "POST": 0}

    def answer(handler: Handler) -> None:
        counts[handler.command] += 1
        if counts[handler.command] == 1:
            handler.cut()
        else:
            handler.send(b"{}")

    with serving(answer) as url, client(url) as found:
        assert found.get("Job", "a") == {}
        with pytest.raises(Unreachable, match="the connection was cut"):
            found.create({"kind": "Job", "metadata": {"name": "a"}})
    assert counts == {"GET": 2, "POST": 1}


def test_connections_are_reused_by_all_threads() -> None:
    ports: set[int] = set()

    def answer(handler: Handler) -> None:
        ports.add(handler.client_address[1])
        handler.send(b"{}")

    with serving(answer) as url, client(url) as found:
        for _ in range(5):
            found.get("Job", "a")
        assert len(ports) == 1
        threads = [threading.Thread(target=found.get, args=("Job", "a")) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(ports) <= 9


def test_all_pages_are_joined() -> None:
    pages = {"": (["a", "b"], "t1"), "t1": (["c"], "t2"), "t2": (["d"], "")}

    def answer(handler: Handler) -> None:
        token = handler.path.partition("continue=")[2]
        items, more = pages[token]
        handler.send(json.dumps({"metadata": {"resourceVersion": "7", "continue": more}, "items": items}).encode())

    with serving(answer) as url, client(url) as found:
        assert found.list("Job")["items"] == ["a", "b", "c", "d"]
        assert [page["items"] for page in found.pages("Job")] == [["a", "b"], ["c"], ["d"]]
        assert found.list("Job", limit=2)["metadata"]["continue"] == "t1"


def test_following_goes_on_through_a_cut_connection() -> None:
    asked: list[str] = []

    def answer(handler: Handler) -> None:
        asked.append(handler.path.partition("resourceVersion=")[2])
        if "watch=true" not in handler.path:
            handler.send(b'{"metadata": {"resourceVersion": "5"}, "items": []}')
            return
        handler.begin()
        version = int(asked[-1])
        handler.part(line("MODIFIED", version + 1)[:9])
        handler.part(line("MODIFIED", version + 1)[9:])
        handler.part(line("MODIFIED", version + 2)[:9])
        handler.cut()

    with serving(answer) as url, client(url) as found:
        events = found.follow("Job")
        versions = [next(events).object["metadata"]["resourceVersion"] for _ in range(3)]
        assert versions == ["5", "6", "7"]
    assert asked == ["", "5", "6"]


def test_closing_the_client_ends_a_silent_watch_of_another_thread() -> None:
    quiet = threading.Event()

    def answer(handler: Handler) -> None:
        if "watch=true" not in handler.path:
            handler.send(b'{"metadata": {"resourceVersion": "5"}, "items": []}')
            return
        handler.begin()
        handler.part(line("ADDED", 6))
        quiet.wait(60)

    seen: list[WatchEvent] = []
    with serving(answer) as url:
        found = client(url)
        started = threading.Event()

        def read() -> None:
            for event in found.follow("Job"):
                seen.append(event)
                if event.type != RELIST:
                    started.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        assert started.wait(20)
        begun = time.monotonic()
        found.close()
        reader.join(20)
        assert not reader.is_alive()
        assert time.monotonic() - begun < 10
        quiet.set()
    assert [event.type for event in seen] == [RELIST, "ADDED"]


def test_a_watch_from_before_a_silence_is_renewed_at_its_last_version_and_a_newer_one_left_alone() -> None:
    quiet = threading.Event()
    asked: queue.Queue[str] = queue.Queue()

    def answer(handler: Handler) -> None:
        asked.put(version := handler.path.partition("resourceVersion=")[2])
        handler.begin()
        handler.part(line("ADDED", int(version) + 1))
        quiet.wait(60)

    with serving(answer) as url, client(url) as found:
        seen: queue.Queue[WatchEvent] = queue.Queue()
        events = found.follow("Job", resource_version="5", longest=lambda: 0.1)
        threading.Thread(target=lambda: [seen.put(event) for event in events], daemon=True).start()
        before = time.monotonic()
        assert (asked.get(timeout=20), seen.get(timeout=20).type) == ("5", "ADDED")
        found.renew(time.monotonic())
        assert (asked.get(timeout=20), seen.get(timeout=20).type) == ("6", "ADDED")
        found.renew(before)
        assert asked.empty(), "this one was opened since"
        found.renew(time.monotonic())
        assert asked.get(timeout=20) == "7", "in its turn, and none was opened between"
        quiet.set()


def test_a_watch_is_not_waited_for_until_it_begins_but_may_be_silent_then() -> None:
    over, begins = threading.Event(), threading.Event()

    def answer(handler: Handler) -> None:
        if not begins.is_set():
            over.wait(20)
            return
        handler.begin()
        over.wait(0.6)
        handler.part(line("ADDED", 6))

    with connected(answer, timeout=0.2) as found:
        with pytest.raises(Unreachable, match=r"no answer within 0\.2 s"):
            next(found.watch("Job", resource_version="5"))
        begins.set()
        assert next(found.watch("Job", resource_version="5")).type == "ADDED"
    over.set()


def test_a_followed_log_is_taken_up_where_it_was_cut() -> None:
    whole = "eins ü zwei\ndrei\n".encode()
    calls: list[int] = []

    def answer(handler: Handler) -> None:
        calls.append(1)
        handler.begin()
        end = (6, 6, 12, len(whole))[len(calls) - 1]  # the first cut is in the middle of the ü
        for start in range(0, end, 4):
            handler.part(whole[start : min(start + 4, end)])
        if len(calls) < 4:
            handler.cut()
        else:
            handler.part(b"")

    with serving(answer) as url, client(url) as found:
        assert "".join(found.read_log("ns", "job", 1, follow=True)) == whole.decode()
    assert len(calls) == 4


def test_files_are_sent_once_and_checked_when_they_come_back() -> None:
    kept: dict[str, bytes] = {}
    sent: list[str] = []

    def answer(handler: Handler) -> None:
        digest = handler.path.rpartition("/")[2]
        sent.append(handler.command)
        if handler.command == "PUT":
            kept[digest] = handler.rfile.read(int(handler.headers["Content-Length"]))
            handler.headers.replace_header("Content-Length", "0")
        found = handler.command == "PUT" or digest in kept
        body = b"damaged" if handler.command == "GET" else b"" if handler.command == "HEAD" else b"{}"
        handler.send(body, 200 if found else 404)

    with serving(answer) as url, client(url) as found:
        digest = found.put_blob("ns", b"data")
        assert digest == hashlib.sha256(b"data").hexdigest() == found.put_blob("ns", b"data")
        assert (sent, kept) == (["HEAD", "PUT", "HEAD"], {digest: b"data"})
        with pytest.raises(Unreachable, match="other bytes"):
            found.get_blob("ns", digest)


def test_no_redirect_carries_the_key_away() -> None:
    got: list[str | None] = []

    def thief(handler: Handler) -> None:
        got.append(handler.headers.get("Authorization"))
        handler.send(b"{}")

    with serving(thief) as other:

        def answer(handler: Handler) -> None:
            handler.send_response(307)
            handler.send_header("Location", other)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with serving(answer) as url, client(url) as found, pytest.raises(ApiError, match="answered 307"):
            found.get("Job", "a")
    assert got == []


def test_something_that_speaks_no_http_is_unreachable() -> None:
    class Rude(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(b"220 mail ready\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Rude) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        port = server.server_address[1]
        for scheme in ("http", "https"):
            said = f"cannot reach {scheme}://127.0.0.1:{port}: "
            with client(f"{scheme}://127.0.0.1:{port}", timeout=5.0) as found, pytest.raises(Unreachable, match=said):
                found.get(KINDS["Job"], "a")
        server.shutdown()


def test_certificates_that_can_not_be_read_are_said_before_any_request() -> None:
    with pytest.raises(NoServer, match="cannot read the certificates in /nowhere"):
        Client(Config("https://127.0.0.1:1", ca_file="/nowhere"))


def test_a_client_does_not_show_its_key() -> None:
    with client("http://127.0.0.1:1") as found:
        assert "crpa_secret" not in repr(found)
