"""Lists and watches as informers read them: pages of one moment, lists within watches, bookmarks, and what is too old."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import psycopg
import pytest

from casare_api.kinds import KINDS

from ..api.conftest import Api, Watch, message
from ..conftest import until

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
ONE = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
WATCHLIST = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
LISTED = {"k8s.io/initial-events-end": "true"}
FUTURE = "99999999999"


def ask(api: Api, path: str | None = None, **params: str) -> httpx2.Response:
    return api.call("GET", path or api.path("Robot"), params=params)


def robots(api: Api, *names: str, **labels: str) -> None:
    for name in names:
        api.create("Robot", name, labels=labels)


def names(page: Any) -> list[str]:
    return [item["metadata"]["name"] for item in page["items"]]


def next_page(api: Api, page: Any, **params: str) -> httpx2.Response:
    return ask(api, **{"limit": "2", "continue": page["metadata"]["continue"], **params})


def pages(api: Api, limit: int, **params: str) -> Iterator[Any]:
    """All pages of a list."""
    page = api.list("Robot", limit=limit, **params)
    yield page
    while page["metadata"].get("continue"):
        page = next_page(api, page, limit=str(limit), **params).json()
        yield page


@contextmanager
def writing(api: Api) -> Iterator[None]:
    """Robots come, change and go beside what the test does, as fast as they can."""
    stop, written = threading.Event(), threading.Event()

    def run() -> None:
        other = api.of(api.key)
        for number in range(10_000):
            name = f"w{number % 7}"
            if stop.is_set():
                break
            if other.find("Robot", name) is None:
                other.create("Robot", name, labels={"n": str(number)})
            elif number % 3:
                other.changed("Robot", name, {"metadata": {"labels": {"n": str(number)}}})
            else:
                other.delete("Robot", name)
            if number > 7:
                written.set()
        other.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert written.wait(20), "it writes"
        yield
    finally:
        stop.set()
        thread.join()


# -- pages -----------------------------------------------------------------------------------------------------------


def test_all_pages_show_the_moment_of_the_first(api: Api) -> None:
    robots(api, "a", "b", "c", "d", "e")
    first = api.list("Robot", limit=2)
    moment = first["metadata"]["resourceVersion"]
    before = at(api, moment)
    api.changed("Robot", "c", {"metadata": {"labels": {"changed": "yes"}}})
    api.delete("Robot", "d")
    robots(api, "cc", "z")
    second = next_page(api, first).json()
    third = next_page(api, second).json()
    assert [names(page) for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
    assert {page["metadata"]["resourceVersion"] for page in (first, second, third)} == {moment}
    assert [item["metadata"] for item in second["items"]] == [item["metadata"] for item in before[2:4]]
    assert not third["metadata"].get("continue")


def test_pages_are_of_one_moment_while_others_write(api: Api) -> None:
    """Page by page it is what a list of that very moment says."""
    robots(api, *(f"r{number}" for number in range(20)))
    with writing(api):
        for _ in range(5):
            found = list(pages(api, 4))
            (rv,) = {page["metadata"]["resourceVersion"] for page in found}
            whole = api.list("Robot", resourceVersion=rv, resourceVersionMatch="Exact")
            assert whole["metadata"]["resourceVersion"] == rv
            paged = [item["metadata"] for page in found for item in page["items"]]
            assert paged == [item["metadata"] for item in whole["items"]]
            assert len(paged) >= 20


def test_what_is_left_is_counted_but_not_of_a_selection(api: Api) -> None:
    robots(api, "a", "b", "c", "d", "e", site="berlin")
    assert [page["metadata"].get("remainingItemCount") for page in pages(api, 2)] == [3, 1, None]
    selected = list(pages(api, 2, labelSelector="site=berlin"))
    assert [names(page) for page in selected] == [["a", "b"], ["c", "d"], ["e"]]
    assert all("remainingItemCount" not in page["metadata"] for page in selected)


def test_namespaces_come_one_after_the_other(api: Api) -> None:
    other = Api(api.server, f"{api.namespace}-2")
    other.create("Namespace", other.namespace, {})
    for one in (other, api):
        robots(one, "b", "a", of=api.namespace)
    listed = ask(api, KINDS["Robot"].path(), labelSelector=f"of={api.namespace}").json()["items"]
    assert [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in listed] == [
        (api.namespace, "a"), (api.namespace, "b"), (other.namespace, "a"), (other.namespace, "b")
    ]  # fmt: skip


def test_a_page_that_is_too_late_is_expired_and_says_how_to_go_on(api: Api) -> None:
    robots(api, "a", "b", "c", "d")
    first = api.list("Robot", limit=2)
    api.delete("Robot", "c")
    forget_history(api)
    late = next_page(api, first)
    assert "The provided continue parameter is too old" in message(late, 410)
    assert late.json()["reason"] == "Expired"
    fresh = late.json()["metadata"]["continue"]
    on = ask(api, limit="2", **{"continue": fresh}).json()
    assert names(on) == ["d"], "as it is now"
    assert int(on["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])


def test_a_past_list_that_is_too_old_is_expired(api: Api) -> None:
    robots(api, "a")
    rv = api.rv()
    assert names(ask(api, resourceVersion=rv, resourceVersionMatch="Exact").json()) == ["a"]
    api.delete("Robot", "a")
    assert names(ask(api, resourceVersion=rv, resourceVersionMatch="Exact").json()) == ["a"]
    forget_history(api)
    late = ask(api, resourceVersion=rv, resourceVersionMatch="Exact")
    assert message(late, 410) == "The resourceVersion for the provided list is too old." and late.json()["reason"] == "Expired"


def forget_history(api: Api) -> None:
    """Compacts the log up to now, as its keeper does every few minutes, once the server has read it all."""
    with api.watch("ConfigMap", resourceVersion=api.rv()) as watch:
        read = api.create("ConfigMap", "marker", {})["metadata"]["resourceVersion"]
        assert watch.take(1) == [("ADDED", "marker")]
    with psycopg.connect(api.server.database) as connection:
        connection.execute("UPDATE heads SET compacted_rv = %s", (read,))


# -- what can not be listed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"continue": "garbage"}, "continue"),
        ({"continue": base64.urlsafe_b64encode(b'{"v":1}').decode()}, "continue"),
        ({"resourceVersion": "garbage"}, "resourceVersion"),
        ({"resourceVersion": "-1"}, "resourceVersion"),
        ({"resourceVersion": "1.5"}, "resourceVersion"),
        ({"limit": "garbage"}, "limit"),
        ({"labelSelector": "a b"}, "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ({"labelSelector": "a in b"}, "unable to parse requirement"),
        ({"fieldSelector": "spec.mode=x"}, "field label not supported: spec.mode"),
        ({"fieldSelector": "metadata.name"}, "invalid field selector"),
    ],
)
def test_garbage_is_refused(api: Api, query: dict[str, str], problem: str) -> None:
    refused = ask(api, **query)
    assert problem in message(refused, 400) and refused.json()["reason"] == "BadRequest"


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"resourceVersionMatch": "Exact"}, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ({"resourceVersionMatch": "NotOlderThan"}, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, 'resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'),
        ({"resourceVersionMatch": "Newest", "resourceVersion": "1"}, 'Unsupported value: "Newest"'),
        ({"sendInitialEvents": "true"}, "sendInitialEvents: Forbidden"),
        ({"watch": "true", "sendInitialEvents": "true"}, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        ({"watch": "true", "sendInitialEvents": "true", "resourceVersionMatch": "Exact"}, "to NotOlderThan"),
        ({"watch": "true", "resourceVersionMatch": "NotOlderThan"}, "resourceVersionMatch is forbidden for watch unless sendInitialEvents"),
    ],
)
def test_rules_of_versions_are_kept(api: Api, query: dict[str, str], problem: str) -> None:
    refused = ask(api, **query)
    assert message(refused, 422).startswith('ListOptions.meta.k8s.io "" is invalid: ') and problem in message(refused, 422)
    details = refused.json()["details"]
    assert (refused.json()["reason"], details["kind"], details["group"]) == ("Invalid", "ListOptions", "meta.k8s.io")
    assert details["causes"][0]["field"] in ("resourceVersionMatch", "sendInitialEvents")


def test_a_continued_list_takes_no_version_of_its_own(api: Api) -> None:
    robots(api, "a", "b", "c")
    first = api.list("Robot", limit=2)
    rv = first["metadata"]["resourceVersion"]
    assert "specifying resource version is not allowed when using continue" in message(next_page(api, first, resourceVersion=rv), 400)
    matched = next_page(api, first, resourceVersion=rv, resourceVersionMatch="Exact")
    assert "resourceVersionMatch is forbidden when continue is provided" in message(matched, 422)
    assert names(next_page(api, first, resourceVersion="0").json()) == ["c"]


@pytest.mark.parametrize("query", [{}, {"resourceVersionMatch": "NotOlderThan"}, {"resourceVersionMatch": "Exact"}, {"watch": "true", **WATCHLIST}])
def test_what_is_to_come_can_not_be_read_yet(api: Api, query: dict[str, str]) -> None:
    early = ask(api, resourceVersion=FUTURE, **query)
    assert message(early, 504).startswith(f"Too large resource version: {FUTURE}, current: ")
    body = early.json()
    assert body["reason"] == "Timeout" and early.headers["retry-after"] == "1" and body["details"]["retryAfterSeconds"] == 1
    assert [cause["reason"] for cause in body["details"]["causes"]] == ["ResourceVersionTooLarge"]


@pytest.mark.parametrize("query", [{}, {"resourceVersionMatch": "NotOlderThan"}])
def test_a_list_is_not_older_than_what_was_asked_for(api: Api, query: dict[str, str]) -> None:
    robots(api, "a")
    version = api.get("Robot", "a")["metadata"]["resourceVersion"]
    for rv in ("0", "1", version):
        assert names(ask(api, resourceVersion=rv, **query).json()) == ["a"]


# -- lists within watches --------------------------------------------------------------------------------------------


@contextmanager
def watching(api: Api, kind: str = "Robot", accept: str = "application/json", **params: str) -> Iterator[Watch]:
    """A watch in a form of its own."""
    headers = {"authorization": f"Bearer {api.key}", "accept": accept}
    with api.http.stream("GET", api.path(kind), params={"watch": "true", **params}, headers=headers, timeout=20) as response:
        assert response.status_code == 200
        yield Watch(response)


def meta_of(event: Any) -> Any:
    """The metadata of the object that an event is about; of a table's only row, for a table's own can't hold much."""
    is_table = event["object"]["kind"] == "Table"
    assert not is_table or set(event["object"]["metadata"]) == {"resourceVersion"}
    return (event["object"]["rows"][0]["object"] if is_table else event["object"])["metadata"]


@pytest.mark.parametrize("accept", ["application/json", TABLE, ONE])
@pytest.mark.parametrize("kind", ["Robot", "Secret", "ConfigMap", "Lease"])
def test_a_watch_that_begins_with_a_list_says_where_the_list_ends(api: Api, kind: str, accept: str) -> None:
    for name in ("a", "b"):
        api.create(kind, name, {})
    with watching(api, kind, accept, **WATCHLIST) as watch:
        listed, mark = [watch.next(), watch.next()], watch.next()
        last = api.create(kind, "c", {})["metadata"]["resourceVersion"]
        live = next(event for event in iter(watch.next, None) if event["type"] != "BOOKMARK")  # one comes every 30 s
    assert [(one["type"], meta_of(one)["name"]) for one in listed] == [("ADDED", "a"), ("ADDED", "b")]
    assert (mark["type"], meta_of(mark)["annotations"]) == ("BOOKMARK", LISTED)
    assert int(meta_of(listed[-1])["resourceVersion"]) <= int(meta_of(mark)["resourceVersion"]) < int(last)
    assert (live["type"], meta_of(live)["name"], meta_of(live)["resourceVersion"]) == ("ADDED", "c", last)


def test_the_mark_is_of_the_kind_that_is_watched_and_holds_nothing_else(api: Api) -> None:
    with watching(api, **WATCHLIST) as watch:
        mark = watch.next()["object"]
    assert (mark["kind"], mark["apiVersion"]) == ("Robot", "fleet.casare.net/v1") and set(mark) == {"kind", "apiVersion", "metadata"}
    assert {key for key, value in mark["metadata"].items() if value} == {"resourceVersion", "annotations"}


def test_only_what_is_selected_is_listed_within_the_watch(api: Api) -> None:
    robots(api, "a", site="berlin")
    robots(api, "b", site="paris")
    for query in ({"labelSelector": "site=berlin"}, {"fieldSelector": "metadata.name=a"}):
        with watching(api, **WATCHLIST, **query) as watch:
            assert watch.take(1) == [("ADDED", "a")] and watch.next()["type"] == "BOOKMARK"


@pytest.mark.parametrize("start", [{}, {"resourceVersion": ""}, {"resourceVersion": "0"}])
def test_the_list_within_a_watch_is_of_now_whatever_version_it_begins_at(api: Api, start: dict[str, str]) -> None:
    robots(api, "a")
    with watching(api, **WATCHLIST, **start) as watch:
        assert watch.take(1) == [("ADDED", "a")] and watch.next()["type"] == "BOOKMARK"


def test_a_watch_that_wants_no_list_begins_now(api: Api) -> None:
    robots(api, "a")
    asked = {"sendInitialEvents": "false", "resourceVersionMatch": "NotOlderThan"}
    with watching(api, **asked) as watch:
        robots(api, "b")
        assert watch.take(1) == [("ADDED", "b")]


@pytest.mark.parametrize("accept", ["application/json", ONE])
def test_nothing_is_lost_or_told_twice_between_the_list_and_what_follows(api: Api, accept: str) -> None:
    """Whoever applies the events in order has what there is, while others write all the time."""
    with writing(api):
        for number in range(6):
            with watching(api, "Robot", accept, **WATCHLIST) as watch:
                known, versions = read_until(watch, lambda event, end=f"end-{number}": robots_of(api, event, end))
            assert len(versions) == len(set(versions)), "no change is told twice"
            assert known == {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in at(api, versions[-1])}


def robots_of(api: Api, event: Any, end: str) -> bool:
    """Whether the watch has come to `end`, which is made when its list has ended."""
    if event["type"] == "BOOKMARK" and meta_of(event).get("annotations") == LISTED:
        robots(api, end)
    return bool(event["type"] == "ADDED" and meta_of(event)["name"] == end)


def read_until(watch: Watch, is_over: Any) -> tuple[dict[str, str], list[str]]:
    """What a client knows that applies the events, and the versions of the changes that it was told of."""
    known: dict[str, str] = {}
    versions: list[str] = []
    while True:
        event = watch.next()
        meta = meta_of(event)
        if event["type"] == "DELETED":
            del known[meta["name"]]
        elif event["type"] != "BOOKMARK":
            assert (event["type"] == "ADDED") == (meta["name"] not in known), event
            known[meta["name"]] = meta["resourceVersion"]
        if event["type"] != "BOOKMARK":
            versions.append(meta["resourceVersion"])
        if is_over(event):
            return known, versions


def at(api: Api, rv: str) -> Any:
    """The robots as they were."""
    return api.list("Robot", resourceVersion=rv, resourceVersionMatch="Exact")["items"]


# -- watches ---------------------------------------------------------------------------------------------------------


def test_a_watch_ends_cleanly_with_a_bookmark_for_who_wants_them(api: Api) -> None:
    robots(api, "a")
    with watching(api, timeoutSeconds="1", allowWatchBookmarks="true", resourceVersion=api.rv()) as watch:
        robots(api, "b")
        moved = api.rv()
        told = watch.rest()
    mark = told[-1]  # before it, there may be those that come every 30 seconds
    assert mark["type"] == "BOOKMARK" and [one["type"] for one in told if one["type"] != "BOOKMARK"] == ["ADDED"]
    assert int(mark["object"]["metadata"]["resourceVersion"]) >= int(moved) and "annotations" not in mark["object"]["metadata"]
    with watching(api, timeoutSeconds="1", resourceVersion=mark["object"]["metadata"]["resourceVersion"]) as watch:
        assert watch.rest() == []


@pytest.mark.parametrize("accept", ["application/json", TABLE, ONE])
def test_a_watch_from_what_is_forgotten_is_told_so_in_one_line(api: Api, accept: str) -> None:
    """200 with an ERROR, and not an answer of 410: so clients know it."""
    since = api.rv()
    push_out_of_memory(api)
    with watching(api, "Robot", accept, resourceVersion=since, timeoutSeconds="10") as watch:
        (error,) = watch.rest()
    assert error["type"] == "ERROR"
    told = error["object"]
    assert (told["kind"], told["code"], told["reason"], told["status"]) == ("Status", 410, "Expired", "Failure")
    assert told["message"].startswith(f"too old resource version: {since} (")


def push_out_of_memory(api: Api) -> None:
    """As many large changes as no server keeps at hand for who comes back."""
    api.create("ConfigMap", "large", {"data": {"a": ""}})
    for number in range(18):
        api.changed("ConfigMap", "large", {"data": {"a": f"{number:02}" + "x" * 1_000_000}})
    api.delete("ConfigMap", "large")
    until(lambda: api.find("ConfigMap", "large") is None, "it is gone")


def test_garbage_starts_no_watch(api: Api) -> None:
    for query in ({"resourceVersion": "garbage"}, {"labelSelector": "a b"}, {"fieldSelector": "x=y"}, {"timeoutSeconds": "soon"}):
        assert message(ask(api, watch="true", **query), 400)
    assert json.loads(ask(api, watch="false").text)["kind"] == "RobotList"
