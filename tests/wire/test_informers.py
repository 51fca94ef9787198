"""Informers: whoever lists once and then watches holds the truth, however often it is cut off or history goes."""

from __future__ import annotations

import json
import random
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.informer import SharedInformer

from casare_store.connection import CHANNEL, HISTORY_LOCK

from ..api.conftest import Api
from ..conftest import Server, until
from .conftest import kubeconfig

WRITERS, ROUNDS = 4, 12
Event = dict[str, Any]


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    """The admin in a namespace of this test's own, on this module's own server: its history gets lost."""
    found = Api(server, "n-" + secrets.token_hex(5))
    found.create("Namespace", found.namespace, {})
    yield found
    found.close()


def lose_history(server: Server) -> None:
    """What happened until now is forgotten, as it is after a week: everybody has to list again."""
    with psycopg.connect(server.database) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (HISTORY_LOCK,))  # between two batches, as all that counts
        connection.execute("UPDATE heads SET rv = rv + 1, compacted_rv = rv + 1")
        connection.execute(f"NOTIFY {CHANNEL}")


class Informer:
    """As client-go's reflector: a list, then watches, each from where the one before ended; a new list after 410.

    It hangs up after a few events, again and again. What it holds comes from nothing else.
    """

    def __init__(self, api: Api) -> None:
        self.api = Api(api.server, api.namespace)
        self.cache: dict[str, str] = {}
        self.history: list[tuple[str, str]] = []  # type and version of each event since the last list
        self.lists = 0
        self.version = ""
        self.stopping = threading.Event()
        self.chance = random.Random(1)

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                if not self.version:
                    self.begin()
                self.follow()
            except Gone:
                self.version = ""
        self.api.close()

    def begin(self) -> None:
        found = self.api.list("Workflow")
        self.restart({item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in found["items"]})
        self.version = found["metadata"]["resourceVersion"]

    def restart(self, cache: dict[str, str]) -> None:
        self.cache, self.history, self.lists = cache, [], self.lists + 1

    def follow(self) -> None:
        patience = self.chance.randrange(1, 12)
        for event in self.events(resourceVersion=self.version):
            self.take(event)
            patience -= 1
            if not patience:
                return

    def take(self, event: Event) -> None:
        type_, meta = event["type"], event["object"]["metadata"]
        self.version = meta["resourceVersion"]
        if type_ == "BOOKMARK":
            return
        self.history.append((type_, self.version))
        if type_ == "DELETED":
            del self.cache[meta["name"]]
        else:
            self.cache[meta["name"]] = self.version

    def events(self, **params: str) -> Iterator[Event]:
        """The events of one watch; Gone where the server says 410, in either way."""
        with self.api.watch("Workflow", timeoutSeconds="1", allowWatchBookmarks="true", **params) as opened:
            if opened.response.status_code == 410:
                raise Gone
            assert opened.response.status_code == 200, opened.response.text
            for line in opened.response.iter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    assert event["object"]["code"] == 410 and event["object"]["reason"] == "Expired", event
                    raise Gone
                yield event


class Gone(Exception):
    """410: history does not reach back that far."""


class WatchListInformer(Informer):
    """As client-go's since 1.35: the list comes within the watch, and a bookmark says where it ends."""

    def begin(self) -> None:
        first: dict[str, str] = {}
        for event in self.events(sendInitialEvents="true", resourceVersionMatch="NotOlderThan", resourceVersion=""):
            meta = event["object"]["metadata"]
            if event["type"] == "BOOKMARK" and (meta.get("annotations") or {}).get("k8s.io/initial-events-end") == "true":
                self.restart(first)
                self.version = meta["resourceVersion"]
                return
            assert event["type"] in ("ADDED", "BOOKMARK"), event
            if event["type"] == "ADDED":
                first[meta["name"]] = meta["resourceVersion"]
        raise AssertionError("the watch ended before it had said where the list ends")


def connected(api: Api) -> Any:
    """The Python client of a server that speaks plain HTTP."""
    place = Path(api.server.directory / "kubeconfig")
    place.write_text(kubeconfig(api.server, api.key, api.namespace).replace("https://127.0.0.1:0", api.server.url))
    return config.new_client_from_config(str(place))  # type: ignore[no-untyped-call]


class PythonInformer(Informer):
    """The loop that everybody writes around the Python client's Watch."""

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.python = client.CustomObjectsApi(connected(api))

    def events(self, **params: str) -> Iterator[Event]:
        where = ("fleet.casare.net", "v1", self.api.namespace, "workflows")
        how = {"resource_version": params["resourceVersion"], "timeout_seconds": 1}
        watcher: Any = watch.Watch()  # type: ignore[no-untyped-call]
        try:
            yield from watcher.stream(self.python.list_namespaced_custom_object, *where, **how)
        except ApiException as error:
            assert error.status == 410, error
            raise Gone from None


INFORMERS = [Informer, WatchListInformer, PythonInformer]


@contextmanager
def informed(informer: Informer) -> Iterator[Informer]:
    """An informer that runs beside the test, and has its first list."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(informer.run)
        try:
            until(lambda: informer.lists or running.done(), "the first list")
            yield informer
        finally:
            informer.stopping.set()
        running.result()


def write(api: Api, writer: int) -> list[tuple[str, str]]:
    """One writer's life of several objects: the type and version of each change that it was told of."""
    told, mine = [], Api(api.server, api.namespace)
    for number in range(ROUNDS):
        name = f"w{writer}-{number % 3}"
        if mine.find("Workflow", name) is None:
            told.append(("ADDED", mine.create("Workflow", name)["metadata"]["resourceVersion"]))
        change = {"metadata": {"labels": {"round": str(number)}}}
        told.append(("MODIFIED", mine.changed("Workflow", name, change)["metadata"]["resourceVersion"]))
        if number % 4 == 3:
            assert mine.delete("Workflow", name).status_code == 200
    mine.close()
    return told


def write_at_once(api: Api, meanwhile: Callable[[], None] = lambda: None) -> set[tuple[str, str]]:
    """What several writers at a time were told."""
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write, api, number) for number in range(WRITERS)]
        while not all(writer.done() for writer in writers):
            meanwhile()
        return {change for writer in writers for change in writer.result()}


def truth(api: Api, kind: str = "Workflow") -> dict[str, str]:
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in api.list(kind)["items"]}


def versions(history: list[tuple[str, str]]) -> list[int]:
    return [int(version) for _, version in history]


@pytest.mark.parametrize("kind", INFORMERS)
def test_an_informer_that_hangs_up_all_the_time_sees_every_change_once_and_in_order(api: Api, kind: type[Informer]) -> None:
    with informed(kind(api)) as informer:
        told = write_at_once(api)
        until(lambda: informer.cache == truth(api), "the informer holds the truth")
    assert informer.lists == 1, "nothing was lost, so nothing had to be listed again"
    assert versions(informer.history) == sorted(set(versions(informer.history)))
    seen = {change for change in informer.history if change[0] != "DELETED"}
    assert seen == told
    assert len(informer.history) - len(seen) == WRITERS * (ROUNDS // 4), "and every deletion"


@pytest.mark.parametrize("kind", INFORMERS)
def test_an_informer_lists_again_when_history_is_gone_and_holds_the_truth(api: Api, kind: type[Informer]) -> None:
    with informed(kind(api)) as informer:

        def lose() -> None:
            before = informer.lists
            lose_history(api.server)
            until(lambda: informer.lists > before, "the informer listed again")

        write_at_once(api, meanwhile=lose)
        lose()
        until(lambda: informer.cache == truth(api), "the informer holds the truth")
        api.create("Workflow", "afterwards")
        until(lambda: informer.cache == truth(api), "the informer goes on")
    assert informer.lists >= 3
    assert versions(informer.history) == sorted(set(versions(informer.history)))


def test_the_python_clients_own_informer_holds_the_truth_though_history_goes(api: Api) -> None:
    core = client.CoreV1Api(connected(api))
    informer: Any = SharedInformer(core.list_namespaced_config_map, namespace=api.namespace)  # type: ignore[no-untyped-call]

    def held() -> dict[str, str]:
        return {each.metadata.name: each.metadata.resource_version for each in informer.cache.list()}

    informer.start()
    for number in range(9):
        api.create("ConfigMap", f"c{number}")
        api.changed("ConfigMap", f"c{number}", {"data": {"site": "paris"}})
        if number % 3 == 2:
            api.delete("ConfigMap", f"c{number - 1}")
            lose_history(api.server)
            until(lambda: held() == truth(api, "ConfigMap"), "the informer holds the truth")
    assert len(held()) == 6
    with ThreadPoolExecutor(1) as pool:  # it hears that it is to stop at the next event
        stopping = pool.submit(informer.stop)
        until(lambda: api.create("ConfigMap", secrets.token_hex(5)) and stopping.done(), "the informer stopped")


def test_a_watch_from_a_version_that_is_gone_says_so(api: Api) -> None:
    version = api.rv()
    lose_history(api.server)
    until(lambda: is_gone(api, version), "history is gone")


def is_gone(api: Api, version: str) -> bool:
    with api.watch("Workflow", resourceVersion=version, timeoutSeconds="1") as opened:
        said = opened.response.json() if opened.response.status_code == 410 else next(iter(opened.rest()), {}).get("object", {})
    if said:
        assert (said["code"], said["reason"]) == (410, "Expired") and said["message"].startswith("too old resource version: ")
    return bool(said)


def test_the_python_client_raises_410_where_it_was_not_told_to_end(api: Api) -> None:
    """Without a timeout its Watch tries once more on its own, and then says that it can't go on."""
    version = api.rv()
    lose_history(api.server)
    until(lambda: is_gone(api, version), "history is gone")
    python = PythonInformer(api).python
    watcher: Any = watch.Watch()  # type: ignore[no-untyped-call]
    where = ("fleet.casare.net", "v1", api.namespace, "workflows")
    with pytest.raises(ApiException, match="Expired: too old resource version") as gone:
        next(watcher.stream(python.list_namespaced_custom_object, *where, resource_version=version))
    assert gone.value.status == 410


def test_a_page_of_a_lost_moment_is_410_and_offers_to_go_on(api: Api) -> None:
    for name in ("a", "b", "c"):
        api.create("Workflow", name)
    token = api.list("Workflow", limit=2)["metadata"]["continue"]
    lose_history(api.server)
    refused = api.call("GET", api.path("Workflow"), params={"limit": 2, "continue": token})
    assert refused.status_code == 410 and refused.json()["reason"] == "Expired", refused.text
    again = api.list("Workflow", limit=2, **{"continue": refused.json()["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in again["items"]] == ["c"]


def test_a_watch_that_saw_nothing_ends_with_a_bookmark_of_what_others_did(api: Api) -> None:
    version = api.rv()
    other = Api(api.server, "default")
    with api.watch("Workflow", resourceVersion=version, timeoutSeconds="1", allowWatchBookmarks="true") as opened:
        made = other.create("Workflow", secrets.token_hex(5))["metadata"]["resourceVersion"]
        events = opened.rest()
    other.close()
    assert {event["type"] for event in events} == {"BOOKMARK"}
    assert int(events[-1]["object"]["metadata"]["resourceVersion"]) >= int(made) > int(version)
