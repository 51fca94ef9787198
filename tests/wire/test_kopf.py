"""A real operator, written with kopf, works on our kinds: handlers, finalizers, events, status, and life after a crash."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from casare_store import embedded

from ..api.conftest import Api
from ..conftest import Server, free_port, running, until
from .conftest import kubeconfig

FINALIZER = "kopf.zalando.org/KopfFinalizerMarker"
LAST_HANDLED = "kopf.zalando.org/last-handled-configuration"
OPERATOR = '''
import json
import pathlib

import kopf

HERE = pathlib.Path(__file__).parent
ROBOTS = ("fleet.casare.net", "v1", "robots")


def tell(what, name, **more):
    with (HERE / "told").open("a") as told:
        print(json.dumps([what, name, more]), file=told)


@kopf.on.startup()
def configure(settings, **_):
    settings.watching.reconnect_backoff = 0.05
    settings.networking.error_backoffs = [0.1] * 300


@kopf.on.create(*ROBOTS)
def create(body, name, spec, patch, **_):
    kopf.info(body, reason="Welcomed", message=f"{name} has {len(spec['tags'])} tags")
    patch.status["agent"] = {"version": "of the operator"}
    patch.metadata.annotations["operator/tags"] = ",".join(spec["tags"])
    tell("create", name)
    return {"greeting": "hello"}


@kopf.on.update(*ROBOTS, field="spec.tags")
def update(name, old, new, **_):
    tell("update", name, old=old, new=new)


@kopf.on.delete(*ROBOTS)
def delete(name, **_):
    if not (HERE / "may-go").exists():
        raise kopf.TemporaryError("not yet", delay=0.1)
    tell("delete", name)
'''


@dataclass
class Operator:
    """An operator that works on one namespace, in a process of its own."""

    api: Api
    place: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self.place / "operator.py").write_text(OPERATOR)
        (self.place / "kubeconfig").write_text(kubeconfig(self.api.server, self.api.key, self.api.namespace))
        command = [sys.executable, "-m", "kopf", "run", "--standalone", "--namespace", self.api.namespace]
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.place / "operator.py")],
                stdout=log, stderr=log, env={**os.environ, "KUBECONFIG": str(self.place / "kubeconfig")},
            )  # fmt: skip

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=30)

    def crash(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=30)

    def told(self, what: str = "") -> list[Any]:
        """What its handlers told, in order: [handler, name, more]."""
        path = self.place / "told"
        lines = path.read_text().splitlines() if path.exists() else []
        return [entry for entry in map(json.loads, lines) if what in ("", entry[0])]

    def has_told(self, *entry: Any) -> None:
        until(lambda: list(entry) in self.told(), lambda: f"{entry} among {self.told()}; {self.log()[-3000:]}")

    def log(self) -> str:
        return (self.place / "log").read_text()

    def let_go(self) -> None:
        """From now on its delete handler ends."""
        (self.place / "may-go").touch()


@pytest.fixture(scope="module")
def own(postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this module's own, since it gets killed."""
    with running(postgres, tmp_path_factory.mktemp("kopf"), free_port()) as found:
        yield found


@pytest.fixture
def api(own: Server) -> Iterator[Api]:
    found = Api(own, "n-" + secrets.token_hex(5))
    found.create("Namespace", found.namespace, {})
    yield found
    found.close()


@pytest.fixture
def operator(api: Api, tmp_path: Path) -> Iterator[Operator]:
    found = Operator(api, tmp_path)
    found.start()
    yield found
    found.stop()


def welcomed(api: Api, name: str) -> Any:
    """A new robot once the operator has done with it."""
    api.create("Robot", name)
    return until(lambda: handled(api, name), f"{name} is handled")


def handled(api: Api, name: str) -> Any:
    """The robot, if what the operator handled last is what it says now."""
    found = api.get("Robot", name)
    last = found["metadata"].get("annotations", {}).get(LAST_HANDLED)
    return found if last and json.loads(last)["spec"] == found["spec"] else None


def test_a_new_object_is_handled_and_remembered(operator: Operator, api: Api) -> None:
    found = welcomed(api, "pc-01")
    assert operator.told() == [["create", "pc-01", {}]]
    assert found["metadata"]["finalizers"] == [FINALIZER]
    assert found["metadata"]["annotations"]["operator/tags"] == "finance"
    assert found["metadata"]["generation"] == 1, "nothing that people want was changed"


def test_what_a_handler_says_of_the_status_is_there(operator: Operator, api: Api) -> None:
    welcomed(api, "pc-01")  # and then it writes the status, which is a request of its own
    until(lambda: api.get("Robot", "pc-01")["status"].get("create") == {"greeting": "hello"}, "the status is written")
    status = api.get("Robot", "pc-01")["status"]
    assert status["agent"] == {"version": "of the operator"}
    assert status["phase"] == "Pending", "and what the server joins to it"


def test_an_event_of_a_handler_is_found_by_its_object(operator: Operator, api: Api) -> None:
    made = welcomed(api, "pc-01")

    def look() -> Any:
        selector = f"involvedObject.name=pc-01,involvedObject.uid={made['metadata']['uid']},reason=Welcomed"
        return api.list("Event", fieldSelector=selector)["items"]

    (event,) = until(look, "the event is posted")
    assert (event["type"], event["message"]) == ("Normal", "pc-01 has 1 tags")
    assert event["source"] == {"component": "kopf"} and event["metadata"]["name"].startswith("kopf-event-")


def test_a_change_is_handled_with_what_it_changed(operator: Operator, api: Api) -> None:
    welcomed(api, "pc-01")
    api.changed("Robot", "pc-01", {"spec": {"tags": ["sap", "finance"]}})
    operator.has_told("update", "pc-01", {"old": ["finance"], "new": ["sap", "finance"]})
    until(lambda: handled(api, "pc-01"), "the change is remembered")
    assert len(operator.told()) == 2


def test_an_object_stays_until_its_delete_handler_has_run(operator: Operator, api: Api) -> None:
    welcomed(api, "pc-01")
    assert api.delete("Robot", "pc-01").json()["metadata"]["deletionTimestamp"]
    until(lambda: "TemporaryError" in operator.log() or "not yet" in operator.log(), "the handler was tried")
    kept = api.get("Robot", "pc-01")
    assert kept["metadata"]["finalizers"] == [FINALIZER] and operator.told("delete") == []
    operator.let_go()
    until(lambda: api.find("Robot", "pc-01") is None, "it is gone")
    assert operator.told("delete") == [["delete", "pc-01", {}]]


def test_what_happened_while_the_operator_was_down_is_handled_once_it_is_back(operator: Operator, api: Api) -> None:
    operator.let_go()
    for name in ("stays", "changes", "goes"):
        welcomed(api, name)
    operator.crash()
    api.changed("Robot", "changes", {"spec": {"tags": ["new"]}})
    api.delete("Robot", "goes")
    api.create("Robot", "comes")
    operator.start()
    operator.has_told("update", "changes", {"old": ["finance"], "new": ["new"]})
    operator.has_told("delete", "goes", {})
    operator.has_told("create", "comes", {})
    assert len(operator.told()) == 6, "and what was handled before is not handled again"


def test_an_operator_goes_on_after_the_apiserver_was_killed(operator: Operator, api: Api, own: Server) -> None:
    welcomed(api, "before")
    own.kill("apiserver")
    own.run("apiserver", "-m", "casare_apiserver")
    until(own.is_ready, "the apiserver is back")
    api.changed("Robot", "before", {"spec": {"tags": ["again"]}})
    operator.has_told("update", "before", {"old": ["finance"], "new": ["again"]})
    welcomed(api, "after")
    assert operator.told("create") == [["create", "before", {}], ["create", "after", {}]]


def test_an_operator_bears_what_it_does_not_find(operator: Operator, api: Api) -> None:
    """It looks for the definitions of custom resources, which there are none of."""
    welcomed(api, "pc-01")
    said = re.sub(r"^\[[\d :,-]+\]", "", operator.log(), flags=re.M)  # a time may have any digits
    assert "Traceback" not in said and "403" not in said, said
