"""A list is what there was at one moment, selected by labels and fields, page by page where asked for."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest

from .conftest import ALL_KINDS, Api, Robot, is_status, kind_of, message, work


@pytest.fixture
def robots(api: Api) -> Api:
    """Four robots with labels."""
    for name, labels in {
        "a": {"site": "berlin", "floor": "1"},
        "b": {"site": "paris", "floor": "2"},
        "c": {"site": "berlin", "floor": "12"},
        "d": {},
    }.items():
        api.create("Robot", f"{api.namespace}-{name}", {"spec": {}}, labels=labels)
    return api


def letters(api: Api, **params: object) -> str:
    return "".join(name[-1] for name in api.names("Robot", **params))


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("", "abcd"),
        ("site", "abc"),
        ("!site", "d"),
        ("site=berlin", "ac"),
        ("site==berlin,floor=12", "c"),
        ("site!=berlin", "bd"),
        ("site in (berlin,paris)", "abc"),
        ("site notin (berlin)", "bd"),
        ("floor>1", "bc"),
        ("floor<2", "a"),
        ("site=rome", ""),
    ],
)
def test_labels_select(robots: Api, selector: str, found: str) -> None:
    assert letters(robots, labelSelector=selector) == found


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("metadata.name={ns}-b", "b"),
        ("metadata.name!={ns}-b", "acd"),
        ("metadata.namespace={ns}", "abcd"),
        ("metadata.namespace=other", ""),
        ("spec.environment=default", "abcd"),
        ("spec.environment!=default", ""),
        ("status.phase=Pending,metadata.name={ns}-a", "a"),
    ],
)
def test_fields_select(robots: Api, selector: str, found: str) -> None:
    assert letters(robots, fieldSelector=selector.format(ns=robots.namespace)) == found


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_selectable_field_is_known_to_the_store(api: Api, kind: str) -> None:
    name = f"{api.namespace}-x"
    api.create(kind, name)
    for field in kind_of(kind).selectable:
        for operator in ("=", "!="):
            api.list(kind, fieldSelector=f"{field}{operator}x")


def test_jobs_are_selected_as_agents_and_people_do(api: Api, robot: Callable[..., Robot]) -> None:
    rob = robot()
    api.create("Workflow", "w")
    api.create("Job", "mine", work(rob))
    api.create("Job", "other", {"spec": {"workflowRef": {"name": "w"}, "requirements": {"tags": ["none"]}}})
    rob.assigned(api, "mine")
    assert api.names("Job", fieldSelector=f"status.robotUID={rob.uid},status.phase!=Succeeded") == ["mine"]
    assert api.names("Job", fieldSelector=f"status.robotName={rob.name}") == ["mine"]
    assert api.names("Job", fieldSelector="status.phase=Queued") == ["other"]
    assert api.names("Job", fieldSelector="spec.workflowRef.name=w") == ["other"]
    assert api.names("Job", fieldSelector="status.robotUID=") == ["other"]
    assert api.names("Job", fieldSelector="status.robotUID=no-uid") == []


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"labelSelector": "a b"}, "unable to parse requirement: found 'b'"),
        ({"labelSelector": "a in"}, "unable to parse requirement"),
        ({"labelSelector": "a=" + "x" * 64}, "unable to parse requirement"),
        ({"fieldSelector": "spec.colour=red"}, "field label not supported: spec.colour"),
        ({"fieldSelector": "metadata.name"}, "invalid field selector"),
        ({"labelSelector": ",".join(f"a{n}!=b" for n in range(500))}, "no more than 100 conditions"),
        ({"fieldSelector": "metadata.name!=x," * 500}, "no more than 20 conditions"),
        ({"limit": "-1"}, 'limit: Invalid value: "-1": must be a whole number'),
        ({"limit": "many"}, 'limit: Invalid value: "many": must be a whole number'),
        ({"continue": "abc"}, "continue: the token is not one that this server gave out"),
        ({"continue": "é"}, "continue: the token"),
        ({"resourceVersion": "abc"}, 'resourceVersion: Invalid value: "abc": must be a whole number'),
    ],
)
def test_what_can_not_be_selected_is_refused_in_words(api: Api, query: dict[str, str], problem: str) -> None:
    assert problem in message(api.call("GET", api.path("Robot"), params=query), 400)


@pytest.mark.parametrize("after", [None, [], "x", [1], {"a": 1}, [None, None], ["a\x00", "b"]])
def test_a_forged_token_is_refused_or_harmless(api: Api, after: object) -> None:
    token = base64.urlsafe_b64encode(json.dumps({"v": 1, "rv": 1, "after": after}).encode()).decode()
    answer = api.call("GET", api.path("Robot"), params={"limit": "2", "continue": token})
    assert answer.status_code in (200, 400) and (answer.status_code == 200 or is_status(answer, 400))


@pytest.mark.parametrize("rv", [1e308, 1e3, 2**63, 2**70, -2, "1", None, True, [1]])
def test_a_token_of_a_revision_that_there_can_not_be_is_refused(robots: Api, rv: object) -> None:
    token = base64.urlsafe_b64encode(json.dumps({"v": 1, "rv": rv, "after": ["", ""]}).encode()).decode()
    answer = robots.call("GET", robots.path("Robot"), params={"limit": "1", "continue": token})
    assert "continue: the token" in message(answer, 400)


def test_pages_join_to_the_whole_list(robots: Api) -> None:
    token, pages, versions = "", [], set()
    while True:
        page = robots.list("Robot", limit=3, **({"continue": token} if token else {}))
        pages.append([item["metadata"]["name"][-1] for item in page["items"]])
        versions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert pages == [["a", "b", "c"], ["d"]]
    assert len(versions) == 1, "all pages show the first page's version, so that a watch from it misses nothing"


def test_an_object_changed_between_two_pages_is_seen_by_the_watch_behind_them(robots: Api) -> None:
    first = robots.list("Robot", limit=2)
    name = f"{robots.namespace}-a"
    robots.changed("Robot", name, {"metadata": {"labels": {"site": "rome"}}})
    robots.delete("Robot", f"{robots.namespace}-b")
    last = robots.list("Robot", **{"limit": "2", "continue": first["metadata"]["continue"]})
    with robots.watch("Robot", resourceVersion=last["metadata"]["resourceVersion"]) as watch:
        assert watch.take(2) == [("MODIFIED", name), ("DELETED", f"{robots.namespace}-b")]


def test_lists_say_how_things_are_now_or_were_at_a_version(api: Api) -> None:
    def ask(**params: str) -> int:
        return api.call("GET", api.path("Robot"), params=params).status_code

    api.create("Workflow", "old")
    before = api.rv()
    api.create("Workflow", "w")
    now = api.rv()
    assert ask(resourceVersion="0") == ask(resourceVersion=now) == ask(resourceVersion=before) == 200
    assert ask(resourceVersion=now, resourceVersionMatch="NotOlderThan") == 200
    late = api.call("GET", api.path("Robot"), params={"resourceVersion": "999999999999"})
    assert is_status(late, 504, "Timeout") and late.headers["retry-after"] == "1"
    assert ask(resourceVersion=before, resourceVersionMatch="Exact") == 200
    assert ask(resourceVersion="0", resourceVersionMatch="Exact") == 422
    assert ask(resourceVersionMatch="Exact") == 422
    assert ask(resourceVersionMatch="Sometime", resourceVersion="1") == 422
    assert ask(sendInitialEvents="true") == 422


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_list_names_its_kind_and_version(api: Api, kind: str) -> None:
    api.create(kind, f"{api.namespace}-x")
    found = api.list(kind)
    assert found["kind"] == f"{kind}List" and found["apiVersion"] == kind_of(kind).api_version
    assert int(found["metadata"]["resourceVersion"]) >= int(found["items"][-1]["metadata"]["resourceVersion"])
    everywhere = api.call("GET", kind_of(kind).path(None)).json()
    assert f"{api.namespace}-x" in [item["metadata"]["name"] for item in everywhere["items"]]
