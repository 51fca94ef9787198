"""Watches hold what they promise when there are many, when a client does not read, and when a server goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import psutil
import psycopg
import pytest

from casare_api.kinds import KINDS
from casare_apiserver.watch import SLOW, Watcher
from casare_store import embedded

from ..conftest import running, until
from .conftest import Api, Watch, dumps

WATCHERS, EVENTS = 50, 1_000
BIG = 100_000  # bytes of an annotation


def test_a_thousand_events_reach_fifty_watchers_none_lost_none_twice_all_in_order(api: Api) -> None:
    names = [f"w{number}" for number in range(50)]
    for name in names:
        api.create("Workflow", name)
    start = api.rv()
    headers = {"authorization": f"Bearer {api.key}", "content-type": "application/merge-patch+json"}
    limits = httpx2.Limits(max_connections=WATCHERS + 20)

    async def write(client: httpx2.AsyncClient, name: str) -> None:
        for number in range(EVENTS // len(names)):
            change = dumps({"metadata": {"labels": {"n": str(number)}}})
            answer = await client.patch(api.path("Workflow", name), content=change)
            assert answer.status_code == 200, answer.text

    async def watch(client: httpx2.AsyncClient) -> list[tuple[int, str]]:
        seen: list[tuple[int, str]] = []
        params = {"watch": "true", "resourceVersion": start}
        async with client.stream("GET", api.path("Workflow"), params=params) as response:
            async for line in response.aiter_lines():
                meta = json.loads(line)["object"]["metadata"]
                seen.append((int(meta["resourceVersion"]), f"{meta['name']} {meta['labels']['n']}"))
                if len(seen) == EVENTS:
                    break
        return seen

    async def everything() -> list[list[tuple[int, str]]]:
        async with httpx2.AsyncClient(base_url=api.server.url, headers=headers, timeout=60, limits=limits) as client:
            watching = [asyncio.create_task(watch(client)) for _ in range(WATCHERS)]
            await asyncio.gather(*(write(client, name) for name in names))
            return await asyncio.gather(*watching)

    all_seen = asyncio.run(asyncio.wait_for(everything(), 100))
    expected = {f"{name} {number}" for name in names for number in range(EVENTS // len(names))}
    first = all_seen[0]
    assert {what for _, what in first} == expected
    assert [version for version, _ in first] == sorted({version for version, _ in first})
    assert all(seen == first for seen in all_seen)


@pytest.mark.parametrize("how", ["watch alone", "list, then watch"])
def test_whenever_a_watch_begins_each_object_is_told_once(api: Api, how: str) -> None:
    """Watches that begin one after another while 300 objects are made: from list to live events there is no seam."""
    names = [f"w{number:03}" for number in range(300)]
    writer = api.of(api.key)
    thread = threading.Thread(target=lambda: [writer.create("Workflow", name) for name in names])
    with contextlib.ExitStack() as stack:
        thread.start()
        begun: list[tuple[Watch, list[str]]] = []
        while thread.is_alive() and len(begun) < 40:
            listed = None if how == "watch alone" else api.list("Workflow")
            version = listed["metadata"]["resourceVersion"] if listed else "0"
            watch = stack.enter_context(api.watch("Workflow", resourceVersion=version, limit="3"))
            begun.append((watch, [item["metadata"]["name"] for item in listed["items"]] if listed else []))
        for watch, found in begun:
            while len(found) < len(names):
                ((type_, name),) = watch.take(1)
                assert type_ == "ADDED"
                found.append(name)
            assert found == names
        assert len(begun) > 3
    thread.join()
    writer.close()


class SlowClient:
    """A watch on a bare socket with a small buffer, that reads only when it is told to."""

    def __init__(self, api: Api, path: str, version: str, buffer: int = 4096) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.connect(("127.0.0.1", api.server.port))
        self.socket.settimeout(30)
        request = (
            f"GET {path}?watch=true&resourceVersion={version} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.key}"
        )
        self.socket.sendall(f"{request}\r\n\r\n".encode())
        self.received = b""
        while b"\r\n\r\n" not in self.received:
            self.received += self.socket.recv(100)

    def read(self, size: int) -> bool:
        """Reads so many bytes, or up to the end of the watch; False when it has ended."""
        while size > 0 and not self.received.endswith(b"0\r\n\r\n"):
            data = self.socket.recv(min(size, 65536))
            if not data:
                return False
            size -= len(data)
            self.received = (self.received + data)[-5000:]
        return not self.received.endswith(b"0\r\n\r\n")

    def __enter__(self) -> SlowClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def grow(api: Api, number: int) -> None:
    """One big event."""
    api.changed("Workflow", "w", {"metadata": {"annotations": {"big": f"{number}{'x' * BIG}"}}})


def test_a_client_that_does_not_read_is_cut_off_and_costs_little(api: Api) -> None:
    """40 MB of events for each of five clients that never read: their connections end, memory stays bounded."""
    api.create("Workflow", "w")
    process = psutil.Process(api.server.processes["apiserver"].pid)
    before = process.memory_info().rss
    clients = [SlowClient(api, api.path("Workflow"), api.rv()) for _ in range(5)]
    try:
        with api.watch("Workflow") as healthy:
            for number in range(400):
                grow(api, number)
                healthy.next()
            assert process.memory_info().rss - before < 150e6, "the ring and a bounded wait for each client"
            connections = [client.socket.getsockname()[1] for client in clients]

            def are_cut() -> bool:
                open_now = {link.raddr.port for link in process.net_connections() if link.raddr}
                return not open_now.intersection(connections)

            until(are_cut, "the server hung up on each of them")
            grow(api, 1000)
            assert healthy.next()["type"] == "MODIFIED", "the others go on"
    finally:
        for client in clients:
            client.socket.close()


def test_a_client_that_reads_too_slowly_is_told_to_list_again(api: Api) -> None:
    api.create("Workflow", "w")
    with SlowClient(api, api.path("Workflow"), api.rv(), buffer=100_000) as client:
        for number in range(250):  # 25 MB come in, half of it goes out
            grow(api, number)
            if not client.read(BIG // 2):
                break
        client.read(50_000_000)
    last = re.findall(rb'\{"type":"ERROR".*\}', client.received)[-1]
    error = json.loads(last)["object"]
    assert (error["kind"], error["code"], error["reason"]) == ("Status", 410, "Expired")
    assert "too slow" in error["message"]


def test_a_watcher_that_has_read_everything_gets_the_longest_line() -> None:
    async def body() -> None:
        watcher = Watcher(KINDS["Workflow"], None, None, None, 0)
        watcher.offer(b"x" * (SLOW + 1))
        assert not watcher.ended and len(watcher.take()[0]) == SLOW + 1
        watcher.offer(b"x")
        watcher.offer(b"x" * SLOW)
        assert watcher.ended and b"too slow" in watcher.take()[-1]

    asyncio.run(body())


@pytest.fixture
def own(postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that this test may stop, start and rob of its history."""
    with running(postgres, tmp_path_factory.mktemp("own")) as server:
        found = Api(server)
        yield found
        found.close()
        assert "Traceback" not in (server.directory / "apiserver.log").read_text()


def restart(api: Api) -> None:
    process = api.server.processes["apiserver"]
    process.terminate()
    assert process.wait(timeout=20) == 0, "it stops cleanly"
    api.server.run("apiserver", "-m", "casare_apiserver")
    until(api.server.is_ready, "the apiserver is back")


def execute(api: Api, query: str) -> None:
    with psycopg.connect(api.server.database, autocommit=True) as connection:
        connection.execute(query)


def test_a_restarted_server_goes_on_where_its_clients_were(own: Api) -> None:
    version = own.create("Workflow", "a")["metadata"]["resourceVersion"]
    key = own.issue_key("viewer", "viewer")
    with own.watch("Workflow", resourceVersion=version) as watch:
        own.create("Workflow", "b")
        assert watch.take(1) == [("ADDED", "b")]
        own.create("Job", "j")
        log = {"url": own.path("Job", "j", "log"), "params": {"follow": "true"}, "headers": {"x-api-key": own.key}}
        with own.http.stream("GET", **log) as followed:
            restart(own)
            assert followed.read() == b"", "a server that stops ends its logs cleanly,"
        assert watch.rest() == [], "and its watches"
    own.create("Workflow", "c")
    with own.of(key).watch("Workflow", resourceVersion=version) as watch:
        assert watch.take(2) == [("ADDED", "b"), ("ADDED", "c")]

    # The log is cut: nobody is let go on from before that.
    execute(own, "UPDATE heads SET compacted_rv = rv")
    restart(own)
    with own.watch("Workflow", resourceVersion=version) as watch:
        (last,) = watch.rest()
        assert last["type"] == "ERROR" and last["object"]["code"] == 410
        assert "too old resource version" in last["object"]["message"]


def test_a_restored_store_is_noticed_and_everybody_begins_anew(own: Api) -> None:
    """The head goes back, as after a backup was restored: watches end with 410, keys are read again."""
    key = own.issue_key("viewer", "viewer")
    restored: dict[str, Any] = own.create("Workflow", "a")
    with own.watch("Workflow", resourceVersion=restored["metadata"]["resourceVersion"]) as watch:
        for name in ("b", "c", "d"):
            own.create("Workflow", name)
        assert watch.take(3) == [("ADDED", name) for name in ("b", "c", "d")]
        with psycopg.connect(own.server.database) as connection:
            connection.execute("DELETE FROM apikeys")
            connection.execute("DELETE FROM workflows WHERE name <> 'a'")
            connection.execute("DELETE FROM changes WHERE rv > %s", (restored["metadata"]["resourceVersion"],))
            connection.execute("UPDATE heads SET rv = %s", (restored["metadata"]["resourceVersion"],))
        (last,) = watch.rest()
    assert last["type"] == "ERROR" and last["object"]["code"] == 410
    assert own.names("Workflow") == ["a"]
    until(lambda: own.call("GET", own.path("Workflow"), key=key).status_code == 401, "the key is not in that backup")
    with own.watch("Workflow") as watch:
        own.create("Workflow", "e")
        assert watch.take(1) == [("ADDED", "e")]
