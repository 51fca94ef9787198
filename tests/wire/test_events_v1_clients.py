"""`events.k8s.io/v1` as clients see it: both kubectls, the Python client, and keys of each role."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from ..api.conftest import Api, is_status, message
from ..conftest import Server
from .conftest import Kubectl, kubeconfig
from .test_events_v1 import AT, NEWER, NOW, change, newer, path, post, told
from .test_kubectl_watching import running


def test_kubectl_reads_both_faces_alike(kubectl: Kubectl, api: Api) -> None:
    post(api)
    both = [kubectl("get", what) for what in ("events", "events.events.k8s.io", "events.v1.events.k8s.io", "ev")]
    assert [shown.err for shown in both] == [""] * 4
    for shown in both:
        assert shown.lines[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
        assert shown.rows()[0][1:] == ["Normal", "Started", "robot/pc-01", "it is started"]
    assert kubectl("get", "events.events.k8s.io", "e1", "-o", "jsonpath={.apiVersion} {.note}").out == f"{NEWER} it is started"
    assert kubectl("get", "events", "e1", "-o", "jsonpath={.apiVersion} {.message}").out == "v1 it is started"
    assert kubectl("get", "events.events.k8s.io", "-o", "name").out == "event.events.k8s.io/e1\n"
    assert "it is started" in kubectl("describe", "events.events.k8s.io", "e1").out


def test_kubectl_writes_the_newer_face(kubectl: Kubectl, api: Api) -> None:
    assert kubectl.apply(told(api)).out == "event.events.k8s.io/e1 created\n"
    assert kubectl.apply(told(api)).out == "event.events.k8s.io/e1 unchanged\n"
    patch = json.dumps({"series": {"count": 2, "lastObservedTime": AT}})
    assert kubectl("patch", "events.events.k8s.io", "e1", "-p", patch).out == "event.events.k8s.io/e1 patched\n"
    assert kubectl("label", "events.events.k8s.io/e1", "site=berlin").out == "event.events.k8s.io/e1 labeled\n"
    assert kubectl.apply(told(api, "e2"), args=("--server-side",)).out == "event.events.k8s.io/e2 serverside-applied\n"
    refused = kubectl.apply(told(api, "e3", action=None), code=1)
    assert refused.err.splitlines()[-1].startswith('The Event "e3" is invalid: action: Required value')
    kubectl("delete", "events.events.k8s.io", "--all")
    assert api.names("Event") == []


def test_kubectl_watches_the_newer_face(kubectl: Kubectl, api: Api) -> None:
    post(api, "a")
    with running(kubectl, "get", "events.events.k8s.io", "-w", "-o", "custom-columns=N:.metadata.name,NOTE:.note") as shown:
        assert shown.next() == ["N", "NOTE"] and shown.next() == ["a", "it", "is", "started"]
        api.create("Event", "b", {"involvedObject": {"kind": "Robot", "name": "x"}, "message": "older"})
        assert shown.next() == ["b", "older"]


def test_kubectl_finds_and_explains_the_newer_face(kubectl: Kubectl) -> None:
    [row] = kubectl("api-resources", "--api-group=events.k8s.io", "--no-headers").lines
    assert row.split() == ["events", NEWER, "true", "Event"]
    assert NEWER in kubectl("api-versions").lines
    said = kubectl("explain", "events", f"--api-version={NEWER}").out
    assert "regarding\t<Object> -required-" in said and "deprecatedLastTimestamp\t<string>" in said and "<empty>" not in said
    assert "How often it happened" in kubectl("explain", "events.series.count", f"--api-version={NEWER}").out
    assert "VERSION:    v1" in kubectl("explain", "event").out and "involvedObject" in kubectl("explain", "event").out


def test_kubectl_events_shows_what_new_recorders_tell(kubectl: Kubectl, api: Api) -> None:
    post(api, series={"count": 4, "lastObservedTime": AT})
    [row] = kubectl("events", "--no-headers").lines
    assert row.split()[-6:] == ["Normal", "Started", "Robot/pc-01", "it", "is", "started"] and "x4" in row


@pytest.fixture
def typed(wire: Server, tmp_path: Path) -> Iterator[Any]:
    """The Python client's own class for this face."""
    (tmp_path / "kubeconfig").write_text(kubeconfig(wire, wire.admin_key, "default"))
    with config.new_client_from_config(str(tmp_path / "kubeconfig")) as connection:  # type: ignore[no-untyped-call]
        yield client.EventsV1Api(connection)


def test_the_python_client_tells_and_reads_events(typed: Any, api: Api) -> None:
    event = client.EventsV1Event(
        metadata=client.V1ObjectMeta(generate_name="e-"), event_time=NOW, reporting_controller="ctl", reporting_instance="ctl-1", action="Starting",
        reason="Started", type="Normal", note="it is started", regarding=client.V1ObjectReference(kind="Robot", name="pc-01", namespace=api.namespace),
    )  # fmt: skip
    made = typed.create_namespaced_event(api.namespace, event)
    [listed] = typed.list_namespaced_event(api.namespace, field_selector="regarding.name=pc-01").items
    assert listed == made and listed.event_time == NOW and listed.note == "it is started"


def test_who_may_only_read_reads_and_does_not_write(api: Api, make_kubectl: Callable[..., Kubectl]) -> None:
    post(api)
    key = api.issue_key("viewer", "viewer")
    viewer = api.of(key)
    assert newer(viewer)["note"] == "it is started"
    where = f'resource "events" in API group "events.k8s.io" in the namespace "{api.namespace}"'
    refused = viewer.call("POST", path(api), told(api, "e2"))
    assert message(refused, 403) == f'events.events.k8s.io is forbidden: User "viewer" cannot create {where}'
    assert message(viewer.call("DELETE", path(api, "e1")), 403) == f'events.events.k8s.io "e1" is forbidden: User "viewer" cannot delete {where}'
    assert is_status(change(viewer, {"series": None}), 403) and is_status(viewer.call("DELETE", path(api)), 403)
    viewer.close()
    can_i = make_kubectl("1.37", api.namespace, key)
    assert can_i("auth", "can-i", "create", "events.events.k8s.io", code=1).out == "no\n"
    assert can_i("auth", "can-i", "list", "events.events.k8s.io").out == "yes\n"
