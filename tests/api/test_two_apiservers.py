"""Two apiservers on one database are one API: nothing that one of them answers depends on which one was asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import until
from .conftest import SAMPLES, Api, QuickServer, Robot, in_phase, work


@pytest.fixture
def other(api: Api, tmp_path: Path) -> Iterator[Api]:
    """The same namespace and key by way of another apiserver."""
    server = QuickServer(api.server.database, tmp_path, api.server.admin_key)  # no controller: there is one
    try:
        server.run("apiserver", "-m", "casare_apiserver")
        until(server.is_ready, "the second apiserver is ready")
        found = Api(server, api.namespace)
        yield found
        found.close()
    finally:
        server.stop()


def test_what_one_wrote_the_other_reads_at_once(api: Api, other: Api) -> None:
    for n in range(20):
        writes, looks = (api, other) if n % 2 else (other, api)
        made = writes.create("Workflow", f"w{n:02}")
        assert looks.get("Workflow", f"w{n:02}") == made
        assert looks.names("Workflow") == [f"w{one:02}" for one in range(n + 1)]


def test_of_two_changes_of_the_same_version_one_is_a_conflict(api: Api, other: Api) -> None:
    seen = api.create("Workflow", "w")
    for first, second, label in ((api, other, "a"), (other, api, "b")):
        seen["metadata"]["labels"] = {"by": label}
        changed = first.call("PUT", first.path("Workflow", "w"), json=seen)
        assert changed.status_code == 200, changed.text
        assert second.call("PUT", second.path("Workflow", "w"), json=seen).json()["reason"] == "Conflict"
        seen = changed.json()


def test_a_watch_goes_on_at_the_other_where_it_ended_at_one(api: Api, other: Api) -> None:
    start = api.rv()
    names = [f"w{n:02}" for n in range(20)]
    for n, name in enumerate(names):
        (api, other)[n % 2].create("Workflow", name)
    with api.watch("Workflow", resourceVersion=start) as watch:
        events = [watch.next() for _ in names[:9]]
    last = events[-1]["object"]["metadata"]["resourceVersion"]
    with other.watch("Workflow", resourceVersion=last) as watch:
        events += [watch.next() for _ in names[9:]]
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [("ADDED", n) for n in names]


def test_a_key_that_was_revoked_at_one_is_cut_off_at_the_other(api: Api, other: Api) -> None:
    key = api.issue_key("k", "viewer")
    holder = other.of(key)
    with holder.watch("Workflow", resourceVersion=api.rv()) as watch:
        api.create("Workflow", "w")
        assert watch.take(1) == [("ADDED", "w")]
        api.patch("ApiKey", "k", {"spec": {"revoked": True}})
        assert not watch.rest()  # it ends by itself, and showed nothing more
    until(lambda: holder.call("GET", holder.path("Workflow")).status_code == 401, "the next request is refused")
    holder.close()


def test_a_binding_that_was_deleted_at_one_ends_what_lives_by_it_at_the_other(api: Api, other: Api) -> None:
    viewer = other.of(api.issue_key("k", "viewer"))
    elsewhere = Api(api.server, api.namespace + "-more")
    elsewhere.create("Namespace", elsewhere.namespace, {})
    subject = {"kind": "User", "name": f"casare:key:{api.namespace}:k"}
    elsewhere.create("RoleBinding", "b", {**SAMPLES["RoleBinding"], "subjects": [subject]})
    with viewer.watch("Workflow", elsewhere.path("Workflow"), resourceVersion=api.rv()) as watch:
        elsewhere.create("Workflow", "w")
        assert watch.take(1) == [("ADDED", "w")]
        elsewhere.delete("RoleBinding", "b")
        assert not watch.rest()
    until(lambda: viewer.call("GET", elsewhere.path("Workflow")).status_code == 403, "the next request is refused")
    assert viewer.call("GET", viewer.path("Workflow")).status_code == 200, "its own role stays"
    viewer.close()


def test_a_robot_may_report_to_any_of_them(api: Api, other: Api) -> None:
    robot = Robot(api, "pc")
    api.create("Job", "j", work(robot))
    job = robot.assigned(api, "j")
    robot.api = other.of(robot.api.key)
    assert robot.say(job, "Running") == 200
    in_phase(api, "j", "Running")
