"""Who asks for much and does not read it costs the others nothing: it is cut off, and all of them share a budget."""

from __future__ import annotations

import base64
import gzip
import json
import random
import socket
from collections.abc import Iterator

import psutil
import pytest

from casare_store import embedded

from ..conftest import Server, drop_database, new_database, until
from .conftest import Api, is_status, message

OBJECT, OBJECTS = 900_000, 10  # bytes of a text that no packing makes small, and how many of them a list has
LIST = OBJECT * OBJECTS
YAML = {"accept": "application/yaml"}


class Raw:
    """A GET on a bare socket with a small buffer, of which nothing is read but the head until it is asked for."""

    def __init__(self, api: Api, query: str = "", buffer: int = 4096) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(30)
        self.socket.connect(("127.0.0.1", api.server.port))
        self.port = self.socket.getsockname()[1]
        request = f"GET {api.path('ConfigMap')}{query} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.key}\r\n\r\n"
        self.socket.sendall(request.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        lines = head.decode().lower().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = dict(line.split(": ", 1) for line in lines[1:] if line)

    def body(self) -> bytes:
        """All of it, in small pieces."""
        size, pieces = int(self.headers["content-length"]), []
        while size:
            pieces.append(self.socket.recv(min(size, 4096)))
            assert pieces[-1], "it was cut"
            size -= len(pieces[-1])
        return b"".join(pieces)

    def is_cut(self, api: Api) -> bool:
        """Whether the server hung up."""
        process = psutil.Process(api.server.processes["apiserver"].pid)
        return self.port not in {link.raddr.port for link in process.net_connections() if link.raddr}

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def fill(api: Api, count: int = OBJECTS) -> Api:
    """Config maps of texts that can't be packed."""
    text = base64.b85encode(random.Random(1).randbytes(OBJECT * 4 // 5)).decode()
    for number in range(count):
        api.create("ConfigMap", f"c{number:02}", {"data": {"text": text}})
    return api


@pytest.fixture
def full(api: Api) -> Api:
    return fill(api)


def moment(api: Api) -> str:
    """A query for what there is now: its answer has the same bytes each time."""
    return f"?resourceVersion={api.rv()}&resourceVersionMatch=Exact"


# -- clients that do not read ----------------------------------------------------------------------------------------


def test_a_list_that_nobody_reads_is_cut_off(full: Api) -> None:
    with Raw(full) as client:
        assert client.status == 200 and int(client.headers["content-length"]) > LIST
        until(lambda: client.is_cut(full), "the server hung up")
    said = [line for line in full.server.log("apiserver").splitlines() if full.path("ConfigMap") in line]
    assert len(said) == 1 and "its client does not read" in said[0]


def test_a_watch_whose_first_list_nobody_reads_is_cut_off(full: Api) -> None:
    with Raw(full, "?watch=true") as client:
        assert client.status == 200
        until(lambda: client.is_cut(full), "the server hung up")


@pytest.mark.parametrize("size", [200_000, 900_000])
def test_answers_that_wait_behind_an_unread_one_are_cut_off_with_it(api: Api, size: int) -> None:
    """Thirty requests on one connection, for answers that go out in one piece or in several."""
    api.create("ConfigMap", "c", {"data": {"text": "x" * size}})
    with Raw(api) as client:
        again = f"GET {api.path('ConfigMap')} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.key}\r\n\r\n"
        client.socket.sendall(again.encode() * 30)
        until(lambda: client.is_cut(api), "the server hung up")


# -- clients that read -----------------------------------------------------------------------------------------------


def test_a_slow_client_that_reads_gets_every_byte(full: Api) -> None:
    query = moment(full)
    whole = full.call("GET", full.path("ConfigMap") + query).content
    with Raw(full, query) as client:
        assert client.body() == whole
    assert [item["metadata"]["name"] for item in json.loads(whole)["items"]] == [f"c{n:02}" for n in range(OBJECTS)]


def test_a_head_has_the_length_and_nothing_else(full: Api) -> None:
    path = full.path("ConfigMap") + moment(full)
    plain = {"accept-encoding": "identity"}
    head, found = full.call("HEAD", path, headers=plain), full.call("GET", path, headers=plain)
    assert head.content == b"" and head.headers["content-length"] == found.headers["content-length"]
    assert len(found.content) == int(found.headers["content-length"])


def test_packed_and_spread_lists_are_whole(full: Api) -> None:
    path = full.path("ConfigMap") + moment(full)
    plain = full.call("GET", path, headers={"accept-encoding": "identity"})
    packed = full.call("GET", path, headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip" and LIST // 2 < int(packed.headers["content-length"]) < LIST
    assert packed.content == plain.content and len(gzip.compress(plain.content, 1)) > LIST // 2
    spread = full.call("GET", path + "&pretty=true", headers={"accept-encoding": "identity"})
    assert spread.json() == plain.json() and spread.content.startswith(b"{\n  ")


def test_a_watch_begins_with_every_large_object(full: Api) -> None:
    stored = full.list("ConfigMap")["items"]
    with full.watch("ConfigMap", resourceVersion="0") as watch:
        told = [watch.next() for _ in stored]
        assert [event["type"] for event in told] == ["ADDED"] * OBJECTS
        assert [event["object"] for event in told] == stored


# -- what all share --------------------------------------------------------------------------------------------------


class Patient(Server):
    """A server that waits for readers for ever: what its budget holds does not depend on how fast anybody is."""

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "CASARE_WATCH_STALL_SECONDS": "100000"}


@pytest.fixture
def own(postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    server = Patient(new_database(postgres), tmp_path_factory.mktemp("own"))
    try:
        server.start()
        found = Api(server)
        yield found
        found.close()
    finally:
        server.stop()
        drop_database(postgres, server.database)
    assert "Traceback" not in (server.directory / "apiserver.log").read_text()


MANY = 45  # objects of a list of 40 MB
ON = ("?watch=true", "")  # a watch that begins with the list, or the list itself


def test_large_answers_share_a_budget(own: Api) -> None:
    """Lists, and watches that begin with one, that nobody reads: at some point one is refused, until others are gone."""
    fill(own, MANY)
    clients: list[Raw] = []
    while not clients or clients[-1].status == 200:
        assert len(clients) < 40, "each of them holds 40 MB"
        clients.append(Raw(own, ON[len(clients) % 2]))
    assert len(clients) > 5, "what fits into the budget is let in"
    refused = clients[-1]
    assert refused.status == 429 and refused.headers["retry-after"] == "1"
    assert json.loads(refused.body())["reason"] == "TooManyRequests"
    assert own.call("GET", own.path("ConfigMap"), params={"limit": "0", "labelSelector": "a=b"}).status_code == 200
    assert own.names("Namespace") == ["default"], "small answers go on"
    for client in clients:
        client.socket.close()
    let_in(own, "").socket.close()  # who hung up gave back what he held


def test_answers_that_nobody_reads_give_back_what_they_hold(api: Api) -> None:
    """Three times as many as fit into the budget are let in: those that do not read are cut off."""
    fill(api, MANY)
    for _ in range(3):
        clients = [let_in(api, query) for query in ON * 3]
        for client in clients:
            until(lambda client=client: client.is_cut(api), "the server hung up", 90)  # type: ignore[misc]
            client.socket.close()


def let_in(api: Api, query: str) -> Raw:
    """A client that is answered; it may have to come a second time."""

    def found() -> Raw | None:
        client = Raw(api, query)
        if client.status == 200:
            return client
        client.socket.close()
        return None

    return until(found, "there is room", 90)  # type: ignore[return-value]


# -- YAML ------------------------------------------------------------------------------------------------------------


def test_a_list_too_large_for_yaml_is_refused_in_words(full: Api) -> None:
    answer = full.call("GET", full.path("ConfigMap"), headers=YAML)
    assert is_status(answer, 406, "NotAcceptable")
    assert "too large for YAML" in message(answer, 406) and "limit" in message(answer, 406)


def test_its_pages_can_be_had_as_yaml(full: Api) -> None:
    answer = full.call("GET", full.path("ConfigMap"), headers=YAML, params={"limit": "1"})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/yaml"
    assert answer.text.startswith("kind: ConfigMapList\n") and "name: c00\n" in answer.text
