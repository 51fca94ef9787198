"""What the server says when it refuses: message, reason and details are those of a real Kubernetes server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import psycopg
import pytest

from ..api.conftest import JSON_PATCH, MERGE, Api
from ..conftest import Server
from .conftest import robot

FLEET = "fleet.casare.net"
APPLY, STRATEGIC, PROTOBUF = "application/apply-patch+yaml", "application/strategic-merge-patch+json", "application/vnd.kubernetes.protobuf"
GARBAGE = "application/json", b'{"a": nope'
OTHER_UID = "01a2071b-0985-7910-9420-5d72ae45fef9"
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
NEW = f"/apis/{FLEET}/v1/namespaces/NS/robots"
OLD, CONFIGS, FROZEN = f"{NEW}/pc-01", "/api/v1/namespaces/NS/configmaps", "/api/v1/namespaces/NS/configmaps/frozen"
Row = tuple[str, str, Any, dict[str, Any]]


@pytest.fixture
def api(wire: Server, namespace: str) -> Iterator[Api]:
    """The admin in a namespace with the robot pc-01 and the immutable configmap frozen."""
    found = Api(wire, namespace)
    assert found.call("POST", found.path("Robot"), robot()).status_code == 201
    made = found.call("POST", CONFIGS.replace("NS", namespace), {"metadata": {"name": "frozen"}, "data": {"a": "1"}, "immutable": True})
    assert made.status_code == 201
    yield found
    found.close()


def refused(api: Api, row: Row) -> dict[str, Any]:
    """The Status that answers a request; a body as a pair is (content type, bytes or value)."""
    method, path, body, wanted = row
    type_, content = body if isinstance(body, tuple) else ("application/json", body)
    text = content if isinstance(content, bytes) else json.dumps(content).encode() if content is not None else None
    answer = api.call(method, path.replace("NS", api.namespace), content=text, headers={"content-type": type_})
    assert answer.status_code == wanted["code"], answer.text
    return dict(answer.json())


def said(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    """What is wanted of a Status."""
    return {"code": code, "reason": reason, "message": message, **({"details": details} if details else {})}


def of(name: str, kind: str = "robots", **more: Any) -> dict[str, Any]:
    """Details that name an object of our group."""
    return {"name": name, "group": FLEET, "kind": kind, **more}


def invalid(kind: str, group: str, name: str, *causes: tuple[str, str, str]) -> dict[str, Any]:
    """422 with causes (field, reason, message)."""
    listed = [f"{field}: {message}" for field, _, message in causes]
    whole = listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"
    found = [{"reason": reason, "message": message, "field": field} for field, reason, message in causes]
    details = {key: value for key, value in (("name", name), ("group", group)) if value} | {"kind": kind, "causes": found}
    return said(422, "Invalid", f'{kind}{"." if group else ""}{group} "{name}" is invalid: {whole}', **details)


def options(kind: str, field: str, reason: str, message: str) -> dict[str, Any]:
    return invalid(kind, "meta.k8s.io", "", (field, reason, message))


def document(name: str = "pc-01", **meta: Any) -> dict[str, Any]:
    return robot() | {"metadata": {"name": name, **meta}}


_TOO_OLD = f'Operation cannot be fulfilled on robots.{FLEET} "pc-01": {MODIFIED}'
_FROZEN = "Forbidden: field is immutable when `immutable` is set"
ACCEPTED = "the body of the request was in an unknown format - accepted media types include: "
PATCHES = f"{ACCEPTED}{JSON_PATCH}, {MERGE}, {APPLY}"
MANY_ANNOTATIONS = {"a": "x" * (200 * 1024), "b": "x" * (60 * 1024)}

ROWS: dict[str, Row] = {
    # What there is not, or is already.
    "no such object": ("GET", f"{NEW}/no", None, said(404, "NotFound", f'robots.{FLEET} "no" not found', **of("no"))),
    "no such built-in object": ("GET", f"{CONFIGS}/no", None, said(404, "NotFound", 'configmaps "no" not found', name="no", kind="configmaps")),
    "no such namespace": ("GET", "/api/v1/namespaces/no", None, said(404, "NotFound", 'namespaces "no" not found', name="no", kind="namespaces")),
    "a create in no namespace": ("POST", NEW.replace("NS", "no"), document(), said(404, "NotFound", 'namespaces "no" not found', name="no", kind="namespaces")),
    "a PUT creates nothing": ("PUT", f"{NEW}/no", document("no"), said(404, "NotFound", f'robots.{FLEET} "no" not found', **of("no"))),
    "a patch creates nothing": ("PATCH", f"{NEW}/no", (MERGE, {}), said(404, "NotFound", f'robots.{FLEET} "no" not found', **of("no"))),
    "it exists": ("POST", NEW, document(), said(409, "AlreadyExists", f'robots.{FLEET} "pc-01" already exists', **of("pc-01"))),
    "a built-in one exists": ("POST", CONFIGS, {"metadata": {"name": "frozen"}}, said(409, "AlreadyExists", 'configmaps "frozen" already exists', name="frozen", kind="configmaps")),
    # What nobody may do to a resource.
    "POST to an object": ("POST", OLD, {}, said(405, "MethodNotAllowed", f'create is not supported on resources of kind "robots.{FLEET}"', group=FLEET, kind="robots")),
    "POST to a status": ("POST", f"{OLD}/status", {}, said(405, "MethodNotAllowed", f'create is not supported on resources of kind "robots.{FLEET}"', group=FLEET, kind="robots")),
    "DELETE of a status": ("DELETE", f"{OLD}/status", None, said(405, "MethodNotAllowed", f'delete is not supported on resources of kind "robots.{FLEET}"', group=FLEET, kind="robots")),
    "PUT to a collection": ("PUT", CONFIGS, {}, said(405, "MethodNotAllowed", 'update is not supported on resources of kind "configmaps"', kind="configmaps")),
    # Versions and identities.
    "an old version": ("PUT", OLD, document(resourceVersion="1"), said(409, "Conflict", _TOO_OLD, **of("pc-01"))),
    "an old version in a patch": ("PATCH", OLD, (MERGE, {"metadata": {"resourceVersion": "1"}}), said(409, "Conflict", _TOO_OLD, **of("pc-01"))),
    "a PUT without a version": ("PUT", OLD, document(), invalid("Robot", FLEET, "pc-01", ("metadata.resourceVersion", "FieldValueInvalid", "Invalid value: 0: must be specified for an update"))),
    "a POST with a version": ("POST", NEW, document("pc-02", resourceVersion="5"), said(400, "BadRequest", "resourceVersion should not be set on objects to be created")),
    "another name": ("PUT", OLD, document("pc-02"), said(400, "BadRequest", "the name of the object (pc-02) does not match the name on the URL (pc-01)")),
    "another namespace": ("POST", NEW, document("pc-02", namespace="other"), said(400, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request")),
    "another kind": ("POST", NEW, document("pc-02") | {"kind": "Job"}, invalid("Robot", FLEET, "pc-02", ("kind", "FieldValueInvalid", 'Invalid value: "Job": must be Robot'))),
    "another version of the API": ("POST", NEW, document() | {"apiVersion": f"{FLEET}/v2"}, said(400, "BadRequest", f"the API version in the data ({FLEET}/v2) does not match the expected API version ({FLEET}/v1)")),
    "no name": ("POST", NEW, {"metadata": {}}, invalid("Robot", FLEET, "", ("metadata.name", "FieldValueRequired", "Required value: name or generateName is required"))),
    # Fields.
    "a wrong word": ("PATCH", OLD, (MERGE, {"spec": {"desiredState": "Asleep"}}), invalid("Robot", FLEET, "pc-01", ("spec.desiredState", "FieldValueNotSupported", 'Unsupported value: "Asleep": supported values: "Active", "Paused", "Drained"'))),
    "two wrong fields": ("POST", NEW, document("pc-02") | {"spec": {"maxConcurrentJobs": 0, "tags": "x"}}, invalid("Robot", FLEET, "pc-02", ("spec.tags", "FieldValueTypeInvalid", 'Invalid value: "x": must be a list'), ("spec.maxConcurrentJobs", "FieldValueInvalid", "Invalid value: 0: must be at least 1"))),
    "annotations over 256 KiB": ("POST", NEW, document("pc-02", annotations=MANY_ANNOTATIONS), invalid("Robot", FLEET, "pc-02", ("metadata.annotations", "FieldValueTooLong", "Too long: may not be more than 262144 bytes"))),
    "an immutable configmap's data": ("PATCH", FROZEN, (MERGE, {"data": {"a": "2"}}), invalid("ConfigMap", "", "frozen", ("data", "FieldValueForbidden", _FROZEN))),
    "an immutable configmap thawed": ("PATCH", FROZEN, (STRATEGIC, {"immutable": None}), invalid("ConfigMap", "", "frozen", ("immutable", "FieldValueForbidden", _FROZEN))),
    # Options.
    "apply without a manager": ("PATCH", OLD, (APPLY, document()), options("PatchOptions", "fieldManager", "FieldValueRequired", "Required value: is required for apply patch")),
    "force without apply": ("PATCH", f"{OLD}?force=true", (MERGE, {}), options("PatchOptions", "force", "FieldValueForbidden", "Forbidden: may not be specified for non-apply patch")),
    "dryRun=yes": ("POST", f"{NEW}?dryRun=yes", document("pc-02"), options("CreateOptions", "dryRun", "FieldValueNotSupported", 'Unsupported value: "yes": supported values: "All"')),
    "dryRun in a DELETE's body": ("DELETE", OLD, {"dryRun": ["yes"]}, options("DeleteOptions", "dryRun", "FieldValueNotSupported", 'Unsupported value: "yes": supported values: "All"')),
    "a propagation policy there is not": ("DELETE", f"{OLD}?propagationPolicy=Foo", None, options("DeleteOptions", "propagationPolicy", "FieldValueNotSupported", 'Unsupported value: "Foo": supported values: "Foreground", "Background", "Orphan", "nil"')),
    "managed fields in an apply": ("PATCH", f"{OLD}?fieldManager=me", (APPLY, document(managedFields=[{"manager": "me"}])), said(400, "BadRequest", "metadata.managedFields must be nil")),
    "an apply of no such status": ("PATCH", f"{NEW}/no/status?fieldManager=me", (APPLY, document("no")), said(404, "NotFound", f'robots.{FLEET} "no" not found', **of("no"))),
    # Media types.
    "an unknown type": ("POST", NEW, ("text/plain", b"x"), said(415, "UnsupportedMediaType", f"{ACCEPTED}application/json, application/yaml")),
    "an unknown type of a built-in kind": ("POST", CONFIGS, ("text/plain", b"x"), said(415, "UnsupportedMediaType", f"{ACCEPTED}application/json, application/yaml, {PROTOBUF}")),
    "protobuf of our kinds": ("POST", NEW, (PROTOBUF, b"k8s\0"), said(415, "UnsupportedMediaType", f"{ACCEPTED}application/json, application/yaml")),
    "a strategic patch of our kinds": ("PATCH", OLD, (STRATEGIC, {}), said(415, "UnsupportedMediaType", PATCHES)),
    "a patch of no patch type": ("PATCH", FROZEN, ("application/json", {}), said(415, "UnsupportedMediaType", f"{PATCHES}, {STRATEGIC}")),
    # Sizes, lists.
    "a body over 3 MiB": ("POST", NEW, ("application/json", b'"' + b"x" * (3 * 2**20) + b'"'), said(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")),
    "a field that nothing selects by": ("GET", f"{NEW}?fieldSelector=spec.mode=x", None, said(400, "BadRequest", "field label not supported: spec.mode")),
    "a label selector that is none": ("GET", f"{NEW}?labelSelector=a%20b", None, said(400, "BadRequest", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt")),
    "initial events of a list": ("GET", f"{NEW}?sendInitialEvents=true", None, options("ListOptions", "sendInitialEvents", "FieldValueForbidden", "Forbidden: is forbidden for list")),
    "a match without a version": ("GET", f"{NEW}?resourceVersionMatch=Exact", None, options("ListOptions", "resourceVersionMatch", "FieldValueForbidden", "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided")),
    "the default namespace": ("DELETE", "/api/v1/namespaces/default", None, said(403, "Forbidden", 'namespaces "default" is forbidden: this namespace may not be deleted', name="default", kind="namespaces")),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_refusal_says_what_the_real_server_says(api: Api, row: Row) -> None:
    wanted = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", **row[3]}
    assert refused(api, row) == wanted
    assert api.get("Robot", "pc-01")["metadata"]["generation"] == 1


# What the real server words after its own parsers: the code and the reason are what clients go by.
MALFORMED: dict[str, Row] = {
    "JSON": ("POST", NEW, GARBAGE, said(400, "BadRequest", "the body is not JSON")),
    "no object": ("POST", NEW, [1], said(400, "BadRequest", "the body must be an object of kind Robot")),
    "YAML": ("POST", NEW, ("application/yaml", b"a: ["), said(400, "BadRequest", "the body is not YAML")),
    "protobuf": ("POST", CONFIGS, (PROTOBUF, b"k8s\0\xff\xff"), said(400, "BadRequest", "the body is not a Kubernetes protobuf object")),
    "protobuf without its magic": ("POST", CONFIGS, (PROTOBUF, b"\x0a\x00"), said(400, "BadRequest", "the body is not a Kubernetes protobuf object")),
    "a merge patch": ("PATCH", OLD, (MERGE, b"{"), said(400, "BadRequest", "the body is not JSON")),
    "a JSON patch": ("PATCH", OLD, (JSON_PATCH, {}), said(400, "BadRequest", "a JSON patch must be a list")),
    "an apply": ("PATCH", f"{OLD}?fieldManager=me", (APPLY, b"a: ["), said(400, "BadRequest", "the body is not YAML")),
    "DeleteOptions": ("DELETE", OLD, GARBAGE, said(400, "BadRequest", "the body is not JSON")),
    "a failing test of a JSON patch": ("PATCH", OLD, (JSON_PATCH, [{"op": "test", "path": "/spec/no", "value": 1}]), said(422, "Invalid", "the server rejected our request due to an error in our request")),
    "an unknown field in an apply": ("PATCH", f"{OLD}?fieldManager=me", (APPLY, robot(zzz=1)), said(400, "BadRequest", "failed to create typed patch object (")),
    "an unknown field, strictly": ("POST", f"{NEW}?fieldValidation=Strict", robot(zzz=1), said(400, "BadRequest", 'Robot in version "v1" cannot be handled as a Robot: strict decoding error: unknown field "spec.zzz"')),
    "a continue token": ("GET", f"{NEW}?continue=abc", None, said(400, "BadRequest", "continue: ")),
    "a version": ("GET", f"{NEW}?resourceVersion=abc", None, said(400, "BadRequest", "resourceVersion: Invalid value: ")),
    "a version to watch from": ("GET", f"{NEW}?watch=true&resourceVersion=abc", None, said(400, "BadRequest", "resourceVersion: Invalid value: ")),
}  # fmt: skip


@pytest.mark.parametrize("row", MALFORMED.values(), ids=MALFORMED)
def test_what_nobody_can_read_is_refused_in_words(api: Api, row: Row) -> None:
    status = refused(api, row)
    assert (status["code"], status["reason"]) == (row[3]["code"], row[3]["reason"])
    assert status["message"].startswith(row[3]["message"])


def test_another_uid_in_a_put_is_a_conflict_that_tells_both(api: Api) -> None:
    meta = api.get("Robot", "pc-01")["metadata"]
    wanted = document(uid=OTHER_UID, resourceVersion=meta["resourceVersion"])
    status = api.call("PUT", api.path("Robot", "pc-01"), wanted).json()
    why = f"Precondition failed: UID in precondition: {OTHER_UID}, UID in object meta: {meta['uid']}"
    assert status["message"] == f'Operation cannot be fulfilled on robots.{FLEET} "pc-01": {why}'
    assert (status["code"], status["reason"], status["details"]) == (409, "Conflict", of("pc-01"))


def test_conflicts_of_an_apply_are_causes_with_their_fields(api: Api) -> None:
    first = api.call("PATCH", api.path("Robot", "pc-02"), document("pc-02"), params={"fieldManager": "one"}, headers={"content-type": APPLY})
    assert first.status_code == 201
    wanted = document("pc-02") | {"spec": {"maxConcurrentJobs": 9}}
    status = api.call("PATCH", api.path("Robot", "pc-02"), wanted, params={"fieldManager": "two"}, headers={"content-type": APPLY}).json()
    assert status == {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 409, "reason": "Conflict",
        "message": 'Apply failed with 1 conflict: conflict with "one": .spec.maxConcurrentJobs',
        "details": {"causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".spec.maxConcurrentJobs"}]},
    }  # fmt: skip


@pytest.mark.parametrize("accept", ["text/html", PROTOBUF, "application/cbor", "application/json;as=Nothing;v=v1;g=meta.k8s.io"])
def test_a_form_that_there_is_not_is_406(api: Api, accept: str) -> None:
    status = api.call("GET", api.path("Robot"), headers={"accept": accept}).json()
    assert (status["code"], status["reason"]) == (406, "NotAcceptable")
    assert status["message"].startswith("only the following media types are accepted: application/json")


def test_a_future_version_of_a_list_is_504_with_a_time_to_try_again(api: Api) -> None:
    answer = api.call("GET", api.path("Robot"), params={"resourceVersion": "99999999"})
    status = answer.json()
    assert status["message"].startswith("Too large resource version: 99999999, current: ")
    assert (status["code"], status["reason"], answer.headers["retry-after"]) == (504, "Timeout", "1")
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    assert status["details"] == {"causes": [cause], "retryAfterSeconds": 1}


def test_a_page_of_a_list_that_is_forgotten_is_410_with_a_token_to_go_on(api: Api, wire: Server) -> None:
    api.create("Robot", "pc-02")
    page = api.list("Robot", limit=1)
    with psycopg.connect(wire.database, autocommit=True) as connection:
        connection.execute("UPDATE heads SET rv = rv + 1, compacted_rv = rv + 1")
    answer = api.call("GET", api.path("Robot"), params={"limit": 1, "continue": page["metadata"]["continue"]})
    status = answer.json()
    assert (answer.status_code, status["code"], status["reason"]) == (410, 410, "Expired")
    assert status["message"].startswith("The provided continue parameter is too old to display a consistent list result.")
    assert api.names("Robot", **{"continue": status["metadata"]["continue"]}) == ["pc-02"]


def test_an_unknown_path_is_a_plain_404(api: Api) -> None:
    for path in (f"/apis/{FLEET}/v1/nothings", f"/apis/{FLEET}/v9", "/apis/example.com/v1/things"):
        answer = api.call("GET", path)
        assert (answer.status_code, answer.text.strip()) == (404, "404 page not found")
        assert answer.headers["content-type"].startswith("text/plain")


def test_an_unknown_key_is_401_and_no_key_at_all_403(wire: Server) -> None:
    unknown = httpx2.get(wire.url + "/api/v1/namespaces", headers={"authorization": "Bearer crpa_nobody"})
    assert (unknown.status_code, unknown.json()["message"], unknown.json().get("details")) == (401, "Unauthorized", None)
    nobody = httpx2.get(wire.url + "/api/v1/namespaces")
    assert (nobody.status_code, nobody.json()["message"]) == (
        403, 'namespaces is forbidden: User "system:anonymous" cannot list resource "namespaces" in API group "" at the cluster scope',
    )  # fmt: skip


# -- what is taken although it looks odd -----------------------------------------------------------------------------


def test_a_delete_takes_options_without_a_kind(api: Api) -> None:
    assert api.delete("Robot", "pc-01", json={"propagationPolicy": "Background"}).status_code == 200


def test_a_delete_takes_options_as_protobuf(api: Api) -> None:
    def field(number: int, value: bytes) -> bytes:
        return bytes((number << 3 | 2, len(value))) + value

    for kind, group in (("ConfigMap", b"v1"), ("Robot", f"{FLEET}/v1".encode())):
        type_ = field(1, field(1, group) + field(2, b"DeleteOptions"))
        body = b"k8s\0" + type_ + field(2, field(5, b"All"))  # dryRun: ["All"]
        name = "frozen" if kind == "ConfigMap" else "pc-01"
        answer = api.call("DELETE", api.path(kind, name), content=body, headers={"content-type": PROTOBUF})
        assert (answer.status_code, answer.json()["status"]) == (200, "Success")
        assert api.find(kind, name), "it was a dry run"


def test_a_body_that_does_not_say_what_it_is_is_json(api: Api) -> None:
    content = json.dumps(document("pc-02")).encode()
    assert api.call("POST", api.path("Robot"), content=content).status_code == 201


def test_yaml_is_taken_as_kubectl_would_write_it(api: Api) -> None:
    text = f"apiVersion: {FLEET}/v1\nkind: Robot\nmetadata:\n  name: pc-02\n  annotations:\n    answer: \"y\"\n"
    made = api.call("POST", api.path("Robot"), content=text.encode(), headers={"content-type": "application/yaml"})
    assert made.status_code == 201 and made.json()["metadata"]["annotations"] == {"answer": "y"}


def test_a_warning_comes_as_a_header(api: Api) -> None:
    made = api.call("POST", api.path("Robot"), document("pc-02") | {"spec": {"zzz": 1}}, params={"fieldValidation": "Warn"})
    assert (made.status_code, made.headers["warning"]) == (201, '299 - "unknown field \\"spec.zzz\\""')
