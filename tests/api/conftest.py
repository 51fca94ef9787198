"""What the API's tests share: one server for all of them, a namespace for each, and plain HTTP to speak to it."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from casare_api.kinds import KINDS, Kind
from casare_api.kinds.quota import ONLY
from casare_store import embedded

from ..conftest import Server, drop_database, new_database, until

Object = dict[str, Any]
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
NOWHERE = "no-robot-has-this-tag"

# One good object of each kind, without its metadata.
SAMPLES: dict[str, Object] = {
    "Namespace": {},
    "ApiKey": {"spec": {"role": "viewer"}},
    "JoinToken": {"spec": {"namePattern": "pc-*"}},
    "Robot": {"spec": {"tags": ["finance"], "capabilities": ["browser"]}},
    "Workflow": {"spec": {"runner": "command", "args": ["true"]}},
    "Schedule": {
        "spec": {
            "cron": "0 3 29 2 *",  # so rare that nobody but the test writes it
            "jobTemplate": {"spec": {"workflow": {"runner": "command", "args": ["true"]}}},
        }
    },
    "Job": {
        "spec": {
            "workflow": {"runner": "command", "args": ["true"], "requirements": {"tags": [NOWHERE]}},
        }
    },
    "Fire": {"spec": {"scheduleName": "nightly", "scheduledTime": "2026-01-01T03:00:00Z"}},
    "Event": {"involvedObject": {"kind": "Robot", "name": "pc-01"}, "reason": "Online", "message": "hello"},
    "ConfigMap": {"data": {"site": "berlin"}},
    "Secret": {"data": {"password": "aHVudGVyMg=="}, "type": "Opaque"},
    "Lease": {"spec": {"holderIdentity": "a", "renewTime": "2026-01-01T00:00:00.000000Z"}},
    "Role": {"rules": [{"verbs": ["get"], "apiGroups": ["fleet.casare.net"], "resources": ["jobs"]}]},
    "RoleBinding": {
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "oidc:auditors"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "casare:viewer"},
    },
    "ClusterRole": {"rules": [{"verbs": ["get"], "apiGroups": ["fleet.casare.net"], "resources": ["jobs"]}]},
    "ClusterRoleBinding": {
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "oidc:nobody"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "casare:viewer"},
    },
    "Quota": {"spec": {"weight": 2, "maxRunning": 5}},
}
# A change that people may make to each of them, as a merge patch.
CHANGES: dict[str, Object] = {
    "ApiKey": {"spec": {"description": "for the auditors"}},
    "JoinToken": {"spec": {"uses": 7}},
    "Robot": {"spec": {"tags": ["finance", "sap"]}},
    "Workflow": {"spec": {"args": ["false"]}},
    "Schedule": {"spec": {"suspend": True}},
    "Job": {"spec": {"priority": 3}},
    "Fire": {"spec": {"scheduleName": "weekly"}},
    "Event": {"message": "goodbye"},
    "ConfigMap": {"data": {"site": "paris"}},
    "Secret": {"data": {"password": "aHVudGVyMw=="}},
    "Lease": {"spec": {"holderIdentity": "b"}},
    "Role": {"rules": [{"verbs": ["list"], "apiGroups": ["fleet.casare.net"], "resources": ["jobs"]}]},
    "RoleBinding": {
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "oidc:ada"}],
    },
}
FOR_ALL = {"ClusterRole", "ClusterRoleBinding"}  # which all tests have together; they are tested as Role is
ALL_KINDS = sorted(set(SAMPLES) - {"Quota"} - FOR_ALL)  # those whose objects may have any name, and be many
CHANGEABLE = sorted(CHANGES)  # a namespace has nothing that people could want of it
OVERWRITTEN = [name for name in ALL_KINDS if not KINDS[name].group]  # by a PUT that names no version
WITH_STATUS = [name for name in ALL_KINDS if KINDS[name].has_status]
AT_ONCE = [name for name in ALL_KINDS if name != "Namespace"]  # what a deletion takes away at once
NAMESPACED = [name for name in ALL_KINDS if KINDS[name].namespaced]

# Any text and any JSON at all, and how often it is tried: the same each time.
MANY = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=True) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@dataclass
class Api:
    """A caller: a key, and the namespace it works in."""

    server: Server
    namespace: str = "default"
    key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        self.key = self.key or self.server.admin_key
        self.http = httpx2.Client(base_url=self.server.url, timeout=30, verify=False, trust_env=False)  # quick to make

    def close(self) -> None:
        self.http.close()

    def call(self, method: str, path: str, json: Any = None, key: str | None = None, **more: Any) -> httpx2.Response:
        """One request; `content`, `params` and `headers` as in httpx."""
        headers = {"authorization": f"Bearer {self.key if key is None else key}", **(more.pop("headers", None) or {})}
        if json is not None:
            more["content"] = dumps(json)
            headers.setdefault("content-type", "application/json")
        return self.http.request(method, path, headers=headers, **more)

    def path(self, kind: str, name: str | None = None, subresource: str | None = None) -> str:
        return KINDS[kind].path(self.namespace if KINDS[kind].namespaced else None, name, subresource)

    def create(self, kind: str, name: str, body: Object | None = None, **meta: Any) -> Object:
        """A new object: the sample of its kind unless `body` says otherwise."""
        made = self.call("POST", self.path(kind), sample(kind, name, body, **meta))
        assert made.status_code == 201, made.text
        return dict(made.json())

    def get(self, kind: str, name: str) -> Object:
        found = self.call("GET", self.path(kind, name))
        assert found.status_code == 200, found.text
        return dict(found.json())

    def find(self, kind: str, name: str) -> Object | None:
        found = self.call("GET", self.path(kind, name))
        assert found.status_code in (200, 404), found.text
        return dict(found.json()) if found.status_code == 200 else None

    def list(self, kind: str, **params: Any) -> Object:
        found = self.call("GET", self.path(kind), params=params)
        assert found.status_code == 200, found.text
        return dict(found.json())

    def names(self, kind: str, **params: Any) -> list[str]:
        return [item["metadata"]["name"] for item in self.list(kind, **params)["items"]]

    def patch(self, kind: str, name: str, change: Any, subresource: str | None = None, **more: Any) -> httpx2.Response:
        """A merge patch, or a JSON patch where the change is a list."""
        type_ = JSON_PATCH if isinstance(change, list) else MERGE
        return self.call("PATCH", self.path(kind, name, subresource), change, headers={"content-type": type_}, **more)

    def changed(self, kind: str, name: str, change: Any, subresource: str | None = None) -> Object:
        found = self.patch(kind, name, change, subresource)
        assert found.status_code == 200, found.text
        return dict(found.json())

    def delete(self, kind: str, name: str, **more: Any) -> httpx2.Response:
        return self.call("DELETE", self.path(kind, name), **more)

    @contextmanager
    def watch(self, kind: str, path: str | None = None, **params: Any) -> Iterator[Watch]:
        """An open watch, from now on unless `resourceVersion` says otherwise."""
        params = {"watch": "true", **({} if "resourceVersion" in params else {"resourceVersion": self.rv()}), **params}
        headers = {"authorization": f"Bearer {self.key}"}
        with self.http.stream("GET", path or self.path(kind), params=params, headers=headers, timeout=20) as response:
            if response.status_code != 200:
                response.read()
            yield Watch(response)

    def rv(self) -> str:
        """Where history stands."""
        return str(self.list("Namespace")["metadata"]["resourceVersion"])

    def issue_key(self, name: str, role: str, namespace: str | None = None, **spec: Any) -> str:
        """A new key of a role."""
        where = Api(self.server, namespace or self.namespace)
        where.create("ApiKey", name, {"spec": {"role": role, **spec}})
        return str(where.call("POST", where.path("ApiKey", name, "token")).json()["key"])

    def of(self, key: str, namespace: str | None = None) -> Api:
        """The same server for the holder of another key."""
        return Api(self.server, namespace or self.namespace, key)


class Watch:
    """The events of an open watch."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.iter_lines() if response.status_code == 200 else iter(())

    def next(self) -> Object:
        """The next event; fails after 20 s without one, or where the watch ends."""
        return dict(json.loads(next(self._lines)))

    def take(self, count: int) -> list[tuple[str, str]]:
        """The next events as (type, name)."""
        return [(event["type"], event["object"]["metadata"]["name"]) for event in (self.next() for _ in range(count))]

    def rest(self) -> list[Object]:
        """All events until the server ends the watch."""
        return [json.loads(line) for line in self._lines]


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def sample(kind: str, name: str, body: Object | None = None, **meta: Any) -> Object:
    return {**(SAMPLES[kind] if body is None else body), "metadata": {"name": name, **meta}}


def name_of(kind: str, otherwise: str) -> str:
    """The name that an object of this kind must have, or the other one."""
    return ONLY if kind == "Quota" else otherwise


def kind_of(name: str) -> Kind:
    return KINDS[name]


def is_status(response: httpx2.Response, code: int, reason: str | None = None) -> bool:
    """Whether an answer is a Status of this code, with a message for people and without a traceback."""
    assert response.status_code == code, (response.status_code, response.text[:500])
    body = response.json()
    assert body["kind"] == "Status" and body["code"] == code and body["status"] == "Failure", body
    assert body["message"] and "Traceback" not in body["message"] and "\n" not in body["message"], body
    assert reason is None or body["reason"] == reason, body
    return True


def answered(response: httpx2.Response) -> int:
    """The code of an answer that is either good or a Status for people."""
    code = int(response.status_code)
    assert code < 500 or code == 504, (code, response.text)
    if code == 404 and response.text == "404 page not found\n":  # no path of the API
        return code
    if code >= 400:
        assert is_status(response, code)
    return code


def message(response: httpx2.Response, code: int) -> str:
    assert is_status(response, code)
    return str(response.json()["message"])


class QuickServer(Server):
    """A server whose slow clocks run faster, so that tests need not wait for them."""

    @property
    def env(self) -> dict[str, str]:
        quick = {"WATCH_BOOKMARK": "0.3", "WATCH_STALL": "2", "HEAD": "2"}
        return {**super().env, **{f"CASARE_{name}_SECONDS": seconds for name, seconds in quick.items()}}

    def whole_log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")


@pytest.fixture(scope="package")
def shared(postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuickServer]:
    """One server for all tests of the API. Whatever they did to it: it logged no traceback and no secret."""
    found = QuickServer(new_database(postgres), tmp_path_factory.mktemp("api"))
    try:
        found.start()
        yield found
    finally:
        found.stop()
        drop_database(postgres, found.database)
    for name in ("apiserver", "controller"):
        text = found.whole_log(name)
        assert "Traceback" not in text, f"{name}: {text[text.index('Traceback') - 500 :][:4000]}"
        assert found.admin_key not in text and not re.search(r"crpa_[A-Za-z0-9_-]{20}|(?i:bearer) \S+", text), name


@pytest.fixture
def api(shared: QuickServer) -> Iterator[Api]:
    """The admin in a namespace of this test's own."""
    found = Api(shared, "n-" + secrets.token_hex(5))
    found.create("Namespace", found.namespace, {})
    yield found
    found.create("Workflow", "afterwards")  # whatever the test did, the server goes on
    found.close()


class Robot:
    """A robot made of plain HTTP calls: it reports, and knows nothing of how real agents work."""

    def __init__(self, admin: Api, name: str, **spec: Any) -> None:
        self.name = name
        admin.create("Robot", name, {"spec": {"tags": [name], **spec}})
        self.uid = admin.get("Robot", name)["metadata"]["uid"]
        self.api = admin.of(admin.issue_key(name, "robot", robotName=name))
        self.path = admin.path("Robot", name, "report")

    def report(self, *jobs: Object, **more: Any) -> Object:
        """A sign of life with transitions; the answer. Waits where the server can't vouch for heartbeats yet."""

        def send() -> Object | None:
            said = self.api.call("POST", self.path, {"jobs": list(jobs), **more})
            assert said.status_code in (200, 503), said.text
            return dict(said.json()) if said.status_code == 200 else None

        return until(send, "a report is taken")

    def say(self, job: Object, phase: str, **facts: Any) -> int:
        """Reports a phase of a job's current attempt; the code of the outcome."""
        meta, status = job["metadata"], job["status"]
        said = {
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
            "attempt": status["attempt"],
            "phase": phase,
            **facts,
        }
        return int(self.report(said)["jobs"][0]["code"])

    def assigned(self, admin: Api, job: str, seconds: float = 20) -> Object:
        """The job once it is assigned to this robot, which stays alive meanwhile."""

        def look() -> Object | None:
            self.report()
            found = admin.get("Job", job)
            return found if found["status"]["phase"] == "Assigned" else None

        found = until(look, f"job {job} is assigned", seconds)
        assert found["status"]["robotUID"] == self.uid
        return found


@pytest.fixture
def robot(api: Api) -> Callable[..., Robot]:
    """Makes robots in the test's namespace; jobs reach them by their tag, which is their name."""
    return lambda name="rob", **spec: Robot(api, f"{name}-{secrets.token_hex(3)}", **spec)


def work(robot: Robot | None = None, **spec: Any) -> Object:
    """A job's body: inline work for this robot (None: for nobody), with policies on top."""
    tag = robot.name if robot is not None else NOWHERE
    return {"spec": {"workflow": {"runner": "command", "args": ["true"], "requirements": {"tags": [tag]}}, **spec}}


def in_phase(api: Api, job: str, *phases: str, seconds: float = 20) -> Object:
    """The job once it is in one of these phases."""

    def look() -> Object | None:
        found = api.get("Job", job)
        return found if found["status"]["phase"] in phases else None

    return until(look, f"job {job} is {' or '.join(phases)}", seconds)
