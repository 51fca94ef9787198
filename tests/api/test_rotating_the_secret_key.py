"""The key of Secrets is rotated while two apiservers serve: nobody sees it, and the command says when the old one may go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psycopg
import pytest

from casare_store import embedded, resealing

from ..conftest import drop_database, new_database, until
from ..history import nothing_is_written, until_somebody_waits
from .commands import Run, ran
from .conftest import Api, QuickServer

OLD, NEW, THIRD = (f"{name} of the texts that Secrets are sealed with" for name in ("first", "second", "third"))
PATH = "/apis/fleet.casare.net/v1/sealing"
DATA = {"pw": "aHVudGVyMg=="}


class Pair:
    """Two apiservers on one database, each with keys of its own; no controller."""

    def __init__(self, postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> None:
        self.database = new_database(postgres)
        self.one = QuickServer(self.database, tmp_path_factory.mktemp("one"))
        self.two = QuickServer(self.database, tmp_path_factory.mktemp("two"), self.one.admin_key)
        self.capsys = capsys
        self.apis: dict[int, Api] = {}

    def restart(self, server: QuickServer, key: str, fallbacks: str = "") -> Api:
        """The server with these keys, from a log of its own."""
        self.stop(server)
        (server.directory / "apiserver.log").unlink(missing_ok=True)
        server.run("apiserver", "-m", "casare_apiserver", CASARE_SECRET_KEY=key, CASARE_SECRET_KEY_FALLBACKS=fallbacks)
        until(server.is_ready, lambda: f"the apiserver is ready; {server.log('apiserver')}")
        self.apis[server.port] = Api(server)
        return self.apis[server.port]

    def stop(self, server: QuickServer) -> None:
        if server.port in self.apis:
            self.apis.pop(server.port).close()
        server.stop()

    def casare(self, *words: str, at: QuickServer) -> Run:
        return ran(self.capsys, "--server", at.url, "--key", at.admin_key, *words)


@pytest.fixture
def pair(postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> Iterator[Pair]:
    found = Pair(postgres, tmp_path_factory, capsys)
    yield found
    found.stop(found.one)
    found.stop(found.two)
    drop_database(postgres, found.database)


def shown(api: Api, **params: str) -> list[object]:
    """All Secrets as an admin reads them."""
    answer = api.call("GET", api.path("Secret"), params=params)
    assert answer.status_code == 200, answer.text
    items: list[object] = answer.json()["items"]
    return items


def test_from_the_first_key_to_the_second_with_no_apiserver_missing(pair: Pair) -> None:
    one, two = pair.restart(pair.one, OLD), pair.restart(pair.two, OLD)
    for n in range(3):
        one.create("Secret", f"s{n}", {"data": DATA})
    one.delete("Secret", "s2")

    # An apiserver that can't open what the other would seal: nothing is done.
    two = pair.restart(pair.two, NEW, OLD)
    assert "sealed with a fallback key" in pair.two.log("apiserver")
    refused = pair.casare("secrets", "reseal", at=pair.two)
    assert refused.code == 1 and "CASARE_SECRET_KEY_FALLBACKS and restart it first" in refused.err, refused.err
    assert len(refused.err.splitlines()) == 1

    # Both open both, and seal with different keys: nobody notices, and the command says what is missing.
    one = pair.restart(pair.one, OLD, NEW)
    one.create("Secret", "by-one", {"data": DATA})
    two.create("Secret", "by-two", {"data": DATA})
    two.changed("Secret", "by-one", {"metadata": {"labels": {"by": "two"}}})
    assert shown(one) == shown(two) and len(shown(one)) == 4
    early = pair.casare("secrets", "reseal", at=pair.two)
    assert early.code == 1 and "apiservers seal with different keys" in early.out, early.out + early.err
    assert early.lines[-1] == "no key may be taken away yet"
    one.changed("Secret", "s0", {"metadata": {"labels": {"by": "one"}}})  # under the old key once more

    # Both seal with the new one.
    one = pair.restart(pair.one, NEW, OLD)
    before, at = shown(one), one.rv()
    with one.watch("Secret", resourceVersion=at) as watch:
        done = pair.casare("secrets", "reseal", at=pair.one)
        assert done.code == 0, done.out + done.err
        assert done.lines[0].startswith("1 Secret and 1 entry of the log are sealed anew"), done.out
        assert "no other key is needed any more" in done.lines[1]
        again = pair.casare("secrets", "reseal", at=pair.two)
        assert again.code == 0 and again.lines[0].startswith("0 Secrets and 0 entries")
        assert one.rv() == at, "no version was made"
        two.create("Secret", "later", {"data": DATA})
        assert watch.next()["object"]["metadata"]["name"] == "later", "nobody who watches saw anything of it"
    two.delete("Secret", "later")

    # The old key is gone.
    for api in (pair.restart(pair.one, NEW), pair.restart(pair.two, NEW)):
        assert shown(api) == before
        assert shown(api, resourceVersion=at, resourceVersionMatch="Exact") == before
        assert all(obj["data"] == DATA for obj in before)  # type: ignore[index]
    for server in (pair.one, pair.two):
        assert "sealed with" not in server.log("apiserver") and OLD not in server.log("apiserver")
    listed = pair.casare("secrets", "status", at=pair.one)
    assert listed.code == 0 and len(listed.lines) == 2 and listed.lines[1].split()[1] == "4", listed.out
    verified = pair.casare("audit", "verify", at=pair.one)
    assert verified.code == 0, verified.out
    rows = json.loads(pair.casare("audit", "-o", "json", at=pair.one).out)["items"]
    resealed = [row for row in rows if row.get("effect") == "resealed"]
    assert {(row["actor"], row["verb"], row["kind"], row["part"]) for row in resealed} == {
        ("admin", "reseal", "Secret", "secrets"), ("admin", "reseal", "Secret", "log")
    }  # fmt: skip
    assert len(pair.casare("audit", at=pair.one).lines) > len(rows)


def test_what_no_apiserver_opens_is_told_at_the_start_and_by_the_command(pair: Pair) -> None:
    pair.restart(pair.one, THIRD).create("Secret", "lost", {"data": DATA})
    api = pair.restart(pair.one, NEW)
    log = pair.one.log("apiserver")
    assert "Secrets are sealed with another key" in log and "CASARE_SECRET_KEY_FALLBACKS" in log
    api.create("Secret", "mine", {"data": DATA})
    done = pair.casare("secrets", "reseal", at=pair.one)
    assert done.code == 1 and "1 Secret and 1 entry of the log are still sealed with the key" in done.lines[1], done.out
    assert "name it in CASARE_SECRET_KEY_FALLBACKS" in done.lines[1] and done.lines[2] == "no key may be taken away yet"
    listed = pair.casare("secrets", "status", at=pair.one)
    assert [line.split()[1:3] for line in listed.lines[1:]] == [["1", "1"], ["1", "1"]]


def test_a_secret_that_was_broken_is_deleted_and_then_no_other_key_is_needed(pair: Pair) -> None:
    one = pair.restart(pair.one, OLD)
    one.create("Secret", "mine", {"data": DATA})
    with psycopg.connect(pair.database) as connection:
        connection.execute("UPDATE secrets SET head = regexp_replace(head, '(\"sealed\":\"v1:[0-9a-f]+:).{8}', '\\1AAAAAAAA')")
    one = pair.restart(pair.one, NEW, OLD)
    said = pair.casare("secrets", "reseal", at=pair.one)
    assert said.code == 1 and "which does not open default/mine (changed in the database): delete it" in said.out, said.out
    for found in (one.call("GET", one.path("Secret", "mine")), one.patch("Secret", "mine", {"data": {"pw": "eA=="}})):
        assert found.status_code == 500 and "delete it" in found.json()["message"], found.text
    assert one.delete("Secret", "mine").status_code == 200
    done = pair.casare("secrets", "reseal", at=pair.one)
    assert done.code == 0 and "no other key is needed any more" in done.lines[-1], done.out + done.err
    assert "1 entry of the log is broken" in done.lines[1], done.out


def test_an_apiserver_that_is_killed_on_the_way_has_lost_nothing(pair: Pair) -> None:
    names = [f"s{n:03}" for n in range(resealing.MOST + 20)]
    one = pair.restart(pair.one, OLD)
    for name in names:
        one.create("Secret", name, {"data": DATA})
    one = pair.restart(pair.one, NEW, OLD)
    before = shown(one)
    first = one.call("POST", PATH).json()
    assert first["resealed"] == resealing.MOST and first["metadata"]["continue"].startswith("secrets:")
    with ThreadPoolExecutor(1) as beside, nothing_is_written(pair.database):
        second = beside.submit(one.call, "POST", PATH, params={"continue": first["metadata"]["continue"]})
        until_somebody_waits(pair.database)  # the second step has sealed and is to write
        pair.one.kill("apiserver")
        with pytest.raises(httpx2.TransportError):
            second.result(timeout=30)
    one = pair.restart(pair.one, NEW, OLD)
    assert shown(one) == before and len(before) == len(names)
    done = pair.casare("secrets", "reseal", at=pair.one)
    said = f"20 Secrets and {len(names)} entries of the log are sealed anew"
    assert done.code == 0 and said in done.out, done.out + done.err
    assert shown(pair.restart(pair.one, NEW)) == before


def test_without_a_key_there_is_nothing_to_seal_with(pair: Pair) -> None:
    pair.stop(pair.one)
    pair.one.run("apiserver", "-m", "casare_apiserver", CASARE_SECRET_KEY="")
    until(pair.one.is_ready, lambda: f"the apiserver is ready; {pair.one.log('apiserver')}")
    for command in ("status", "reseal"):
        refused = pair.casare("secrets", command, at=pair.one)
        assert refused.code == 1 and "set its CASARE_SECRET_KEY" in refused.err


def test_what_it_does_not_know_is_refused(api: Api) -> None:
    for method, path, params, status in (
        ("GET", PATH, {"continue": "x"}, 400), ("POST", PATH, {"continue": "log:x"}, 400), ("PUT", PATH, {}, 405),
        ("DELETE", PATH, {}, 405), ("GET", f"{PATH}/x", {}, 404), ("POST", f"{PATH}/x", {}, 404),
        ("GET", PATH.replace("/sealing", "/namespaces/default/sealing"), {}, 404),
    ):  # fmt: skip
        answer = api.call(method, path, params=params)
        assert (answer.status_code, answer.json()["kind"]) == (status, "Status"), (method, path, answer.text)
    first = api.call("GET", PATH).json()
    assert first["part"] == "secrets" and first["resealed"] == 0 and first["key"] == first["opens"][0]
    assert api.call("HEAD", PATH).status_code == 200
