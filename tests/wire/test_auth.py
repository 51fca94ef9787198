"""Who may do what, as `kubectl` and plain HTTP tell it; and what a Secret shows to whom."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import yaml

from casare_api.kinds import GROUP

from ..api.conftest import MERGE, SAMPLES, Api, message
from .conftest import NEWEST, Kubectl, robot

Keyed = Callable[..., Kubectl]
META = "v=v1;g=meta.k8s.io"
VIEWS = [
    "application/json",
    "application/yaml",
    f"application/json;as=Table;{META}",
    f"application/json;as=PartialObjectMetadataList;{META}",
]
REFUSED = "{plural} is forbidden: User \"{who}\" cannot {verb} resource \"{what}\" in API group \"{group}\" in the namespace \"{ns}\""


@pytest.fixture
def keyed(api: Api, make_kubectl: Callable[..., Kubectl]) -> Keyed:
    """A kubectl for a fresh key of a role in the test's namespace; the key's name is the role's."""

    def make(role: str, version: str = "1.37") -> Kubectl:
        api.create("Robot", "pc-01") if role == "robot" else None
        key = api.issue_key(role, role, **({"robotName": "pc-01"} if role == "robot" else {}))
        return make_kubectl(version, api.namespace, key)

    return make


@pytest.fixture
def hidden(api: Api) -> str:
    """The value of a Secret `s`, which is in an annotation of it as well, as `kubectl apply` would put it."""
    value = "hidden-" + secrets.token_hex(8)
    api.create("Secret", "s", {"stringData": {"password": value}}, annotations={"last-applied": value})
    return value


def _key_of(kubectl: Kubectl) -> str:
    found = yaml.safe_load((kubectl.home / "kubeconfig").read_text())
    return str(found["users"][0]["user"]["token"])


def encoded(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def refusal(verb: str, plural: str, group: str, api: Api, who: str, name: str = "", what: str = "") -> str:
    """The words of the real API server."""
    full = (f"{plural}.{group}" if group else plural) + (f' "{name}"' if name else "")
    return REFUSED.format(plural=full, who=who, verb=verb, what=what or plural, group=group, ns=api.namespace)


# -- auth can-i ------------------------------------------------------------------------------------------------------

# What is asked, and the roles that are told yes.
QUESTIONS: list[tuple[str, str]] = [
    ("get robots", "viewer operator admin"),
    ("list jobs", "viewer operator admin robot"),
    ("create robots", "operator admin robot"),
    ("deletecollection jobs", "operator admin"),
    ("patch robots --subresource=status", "operator admin"),
    ("get jobs --subresource=log", "viewer operator admin"),
    ("create jobs --subresource=log", "operator admin robot"),
    ("patch robots/pc-01", "operator admin robot"),
    ("patch robots/pc-02", "operator admin"),
    ("create apikeys --subresource=token", "admin"),
    ("list secrets", "admin"),
    ("create namespaces", ""),
    ("list robots --all-namespaces", ""),
    ("get robots --namespace=elsewhere", ""),
    ("get /version", "viewer operator admin robot"),
    ("list quotas", "viewer operator admin"),
    ("patch quotas", ""),
    ("* *", ""),  # what the namespace gets of the fleet is not its own admin's to decide
]


@pytest.mark.parametrize("role", ["viewer", "operator", "admin", "robot"])
def test_a_key_is_told_what_it_may_and_what_not(keyed: Keyed, role: str) -> None:
    kubectl = keyed(role)
    wrong = []
    for question, roles in QUESTIONS:
        answer = kubectl("auth", "can-i", *question.split(), code=None)
        wanted = ("yes", 0) if role in roles.split() else ("no", 1)
        if (answer.out.split()[0], answer.code) != wanted:
            wrong.append(f"{question}: {answer.out} {answer.err}")
    assert wrong == []


def test_both_kubectls_can_ask(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "robots").out == "yes\n"
    assert kubectl("auth", "can-i", "*", "*", "--all-namespaces").out == "yes\n"
    assert kubectl("auth", "can-i", "create", "robots", "-q").out == ""


def test_what_is_told_is_what_is_done(keyed: Keyed, api: Api) -> None:
    viewer = keyed("viewer")
    assert viewer("auth", "can-i", "delete", "robots", code=1).out == "no\n"
    assert viewer("delete", "robots", "--all", "--wait=false").out == "No resources found\n"
    api.create("Robot", "a")
    assert refusal("delete", "robots", GROUP, api, "viewer", "a") in viewer("delete", "robot", "a", code=1).err


@pytest.mark.parametrize("version", ["1.37", "1.32"])
def test_all_that_a_key_may_is_listed(keyed: Keyed, version: str) -> None:
    listed = keyed("operator", version)("auth", "can-i", "--list")
    rows = {line.split()[0]: line.split("[")[-1].rstrip("]").split() for line in listed.lines[1:]}
    assert listed.lines[0].split() == ["Resources", "Non-Resource", "URLs", "Resource", "Names", "Verbs"]
    assert {"create", "get", "watch", "deletecollection"} <= set(rows[f"robots.{GROUP}"])
    assert rows[f"apikeys.{GROUP}"] == ["get", "list", "watch"] and "secrets" not in rows
    assert rows["[/version]"] == ["get"]


def test_the_admin_of_everything_may_all(kubectl: Kubectl) -> None:
    assert [line.split() for line in kubectl("auth", "can-i", "--list").lines[1:]] == [
        ["*.*", "[]", "[]", "[*]"], ["[*]", "[]", "[*]"]
    ]  # fmt: skip


# -- who am I --------------------------------------------------------------------------------------------------------


def test_who_i_am_is_told(kubectl: Kubectl) -> None:
    assert kubectl("auth", "whoami").lines[1].split() == ["Username", "admin"]
    me = kubectl("auth", "whoami", "-o", "json").json()["status"]["userInfo"]
    assert me["username"] == "admin" and "system:authenticated" in me["groups"]


def test_a_key_learns_how_far_it_reaches(keyed: Keyed, api: Api) -> None:
    me = keyed("robot")("auth", "whoami", "-o", "json").json()["status"]["userInfo"]
    assert me["username"] == f"casare:key:{api.namespace}:robot" and me["uid"] == api.get("ApiKey", "robot")["metadata"]["uid"]
    assert me["extra"] == {f"{GROUP}/namespace": [api.namespace], f"{GROUP}/robot": ["pc-01"]}


@NEWEST
def test_nobody_acts_as_somebody_else(kubectl: Kubectl) -> None:
    kubectl("get", "robots")  # it knows now what there is
    refused = kubectl("get", "robots", "--as", "bob", code=1).err
    assert 'users "bob" is forbidden: User "admin" cannot impersonate resource "users" in API group ""' in refused
    assert "you do not have permission to call it" in kubectl("auth", "whoami", "--as", "bob", code=1).err


@pytest.mark.parametrize("name", ["group", "uid", "extra-scopes"])
def test_what_belongs_to_somebody_else_says_whose_it_is(api: Api, name: str) -> None:
    """Ignored, the answer would be about the wrong one."""
    refused = api.call("GET", api.path("Robot"), headers={f"impersonate-{name}": "x"})
    assert f"impersonate-{name} is said without impersonate-user" in message(refused, 400)


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.37", "1.32"])
def test_a_viewer_reads_and_is_refused_what_it_writes(keyed: Keyed, api: Api, version: str) -> None:
    api.create("Robot", "a")
    viewer = keyed("viewer", version)
    assert viewer("get", "robots", "-o", "name").out == f"robot.{GROUP}/a\n"

    def refused(*args: str, verb: str, name: str = "") -> None:
        said = viewer(*args, stdin=json.dumps(robot("b")), code=1).err
        assert said.startswith("Error from server (Forbidden): ") and refusal(verb, "robots", GROUP, api, "viewer", name) in said

    refused("create", "-f", "-", verb="create")
    refused("apply", "-f", "-", verb="create")
    refused("apply", "--server-side", "-f", "-", verb="patch", name="b")
    refused("label", "robot", "a", "x=y", verb="patch", name="a")
    refused("delete", "robot", "a", verb="delete", name="a")


def test_a_refusal_names_what_was_refused(keyed: Keyed, api: Api) -> None:
    key = api.issue_key("v", "viewer")
    refused = api.call("PATCH", api.path("Robot", "a", "status"), {}, key=key, headers={"content-type": MERGE})
    assert message(refused, 403) == refusal("patch", "robots", GROUP, api, "v", "a", "robots/status")
    assert refused.json()["details"] == {"name": "a", "group": GROUP, "kind": "robots"}
    assert refused.headers["x-content-type-options"] == "nosniff"


@NEWEST
def test_a_wrong_key_is_nobodys(kubectl: Kubectl, api: Api) -> None:
    kubectl("get", "robots")  # it knows now what there is
    refused = kubectl("get", "robots", "--token=crpa_nobodys", code=1)
    assert refused.err == "error: You must be logged in to the server (Unauthorized)\n"
    answer = api.call("GET", api.path("Robot"), key="crpa_nobodys")
    assert message(answer, 401) == "Unauthorized" and answer.json()["reason"] == "Unauthorized" and "details" not in answer.json()


@pytest.mark.parametrize("path", ["/api", "/apis", f"/apis/{GROUP}/v1", "/openapi/v3"])
def test_who_shows_no_key_is_anonymous_and_learns_nothing(api: Api, path: str) -> None:
    said = message(api.http.get(path), 403)
    assert said == f'forbidden: User "system:anonymous" cannot get path "{path}"'


def test_who_shows_no_key_is_refused_as_anonymous(api: Api) -> None:
    said = message(api.http.get(api.path("Robot")), 403)
    assert said == refusal("list", "robots", GROUP, api, "system:anonymous")


@pytest.mark.parametrize("path", ["/version", "/healthz", "/livez", "/readyz"])
def test_anybody_may_ask_whether_it_lives(api: Api, path: str) -> None:
    assert api.http.get(path).status_code == 200


# -- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.37", "1.32"])
def test_an_admin_reads_what_is_in_a_secret(keyed: Keyed, hidden: str, version: str) -> None:
    admin = keyed("admin", version)
    assert base64.b64decode(admin("get", "secret", "s", "-o", "jsonpath={.data.password}").out).decode() == hidden
    listed = admin("get", "secrets", "-o", "json").json()["items"]
    assert [(one["metadata"]["annotations"], one["data"]) for one in listed] == [
        ({"last-applied": hidden}, {"password": encoded(hidden)})
    ]
    assert admin("get", "secrets").rows()[0][:3] == ["s", "Opaque", "1"]


@pytest.mark.parametrize("accept", VIEWS)
@pytest.mark.parametrize("name", ["s", None])
def test_whichever_way_it_is_asked_for_a_secret_is_shown_opened(api: Api, hidden: str, accept: str, name: str | None) -> None:
    shown = api.call("GET", api.path("Secret", name), headers={"accept": accept}).text
    assert hidden in shown and "sealed" not in shown
    assert (encoded(hidden) in shown) == ("as=" not in accept), "tables and metadata have no data"


@pytest.mark.parametrize("accept", [VIEWS[0], *VIEWS[2:]])
def test_a_watch_shows_secrets_opened(api: Api, hidden: str, accept: str) -> None:
    """What was there before, and what comes."""
    params = {"watch": "true", "timeoutSeconds": "1", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
    headers = {"authorization": f"Bearer {api.key}", "accept": accept.replace("List", "")}
    api.changed("Secret", "s", {"stringData": {"more": "2"}})
    with api.http.stream("GET", api.path("Secret"), params=params, headers=headers, timeout=20) as response:
        lines = response.iter_lines()
        first, _bookmark = next(lines), next(lines)
        api.changed("Secret", "s", {"metadata": {"labels": {"n": "1"}}})
        second = next(lines)
    for line in (first, second):
        assert hidden in line and "sealed" not in line
        assert (encoded(hidden) in line) == ("as=" not in accept)


@pytest.mark.parametrize("role", ["viewer", "operator", "robot"])
def test_nobody_but_an_admin_reads_secrets(keyed: Keyed, api: Api, hidden: str, role: str) -> None:
    kubectl = keyed(role)
    for args, verb, name in ((["secrets"], "list", ""), (["secret", "s"], "get", "s")):
        refused = kubectl("get", *args, code=1)
        assert refused.out == "" and refusal(verb, "secrets", "", api, role, name) in refused.err
    for accept in VIEWS:
        watched = api.call("GET", api.path("Secret"), key=_key_of(kubectl), params={"watch": "true"}, headers={"accept": accept})
        assert message(watched, 403) == refusal("watch", "secrets", "", api, role)


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_nobody_but_an_admin_writes_secrets(keyed: Keyed, api: Api, role: str) -> None:
    refused = keyed(role)("create", "secret", "generic", "x", "--from-literal=a=b", code=1).err
    assert refusal("create", "secrets", "", api, role) in refused


def everything_kept(api: Api) -> str:
    """All that the database keeps of the test's secrets, and the servers' logs."""
    with psycopg.connect(api.server.database) as connection:
        rows = connection.execute("SELECT t::text FROM secrets t WHERE namespace = %s", (api.namespace,)).fetchall()
        rows += connection.execute("SELECT t::text FROM changes t WHERE namespace = %s", (api.namespace,)).fetchall()
        rows += connection.execute("SELECT t::text FROM events t WHERE namespace = %s", (api.namespace,)).fetchall()
    logs = [(api.server.directory / f"{name}.log").read_text(errors="replace") for name in ("apiserver", "controller")]
    return "\n".join([*(row[0] for row in rows), *logs])


def test_nothing_of_a_secret_is_kept_in_clear(newest_kubectl: Kubectl, api: Api) -> None:
    """However it is written: applied (which copies it into an annotation), patched, replaced, refused, deleted."""
    values = ["hidden-" + secrets.token_hex(8) for _ in range(4)]
    secret: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    newest_kubectl.apply({**secret, "stringData": {"password": values[0]}})
    newest_kubectl.apply({**secret, "stringData": {"password": values[1]}}, args=("--server-side", "--force-conflicts"))
    newest_kubectl("patch", "secret", "s", "--type=merge", "-p", json.dumps({"stringData": {"password": values[2]}}))
    newest_kubectl.apply({**secret, "stringData": {"password": values[3]}, "data": {"bad key": "!"}}, code=1)
    newest_kubectl("delete", "secret", "s")
    kept = everything_kept(api)
    assert "sealed" in kept, "it looked where they are"
    for value in values:
        assert value not in kept and encoded(value) not in kept and encoded(value)[:-4] not in kept


def test_a_live_secret_is_kept_sealed(api: Api, hidden: str) -> None:
    with psycopg.connect(api.server.database) as connection:
        (text,) = connection.execute("SELECT t::text FROM secrets t WHERE namespace = %s", (api.namespace,)).fetchone() or ("",)
    assert "sealed" in text and hidden not in text and encoded(hidden) not in text
    assert hidden in api.call("GET", api.path("Secret", "s")).text


def test_other_kinds_are_shown_to_a_viewer(api: Api) -> None:
    api.create("ConfigMap", "c", {"data": {"a": "b"}})
    viewer = api.of(api.issue_key("v", "viewer"))
    assert viewer.get("ConfigMap", "c")["data"] == {"a": "b"} and viewer.names("Event") == []
    assert viewer.call("POST", viewer.path("Job"), {**SAMPLES["Job"], "metadata": {"name": "j"}}).status_code == 403
