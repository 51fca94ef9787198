"""Whatever bytes come: an answer below 500 whose refusals are a Status for people, and a server that lives on."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.kinds import KINDS
from casare_api.kinds.reviews import REVIEWS

from ..api.conftest import ALL_KINDS, CHANGES, JSON, JSON_PATCH, MANY, MERGE, NAMESPACED, TEXT, Api, sample
from ..conftest import Server

APPLY, STRATEGIC, YAML = "application/apply-patch+yaml", "application/strategic-merge-patch+json", "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
TYPES = [APPLY, STRATEGIC, YAML, PROTOBUF, MERGE, JSON_PATCH, "application/json", "", "text/plain", "application/json; charset=utf-16", ";", "x"]
VERBS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
MANAGED = ["?fieldManager=fuzz", "?fieldManager=fuzz&force=true", "?fieldManager=fuzz&dryRun=All", "?fieldManager=kubectl&fieldValidation=Strict"]
PLAUSIBLE: list[Any] = [
    None, True, 0, -1, 3, 2**31, 1.5, "", "x", "a/b", "*", "2026-01-01T00:00:00Z", "=", [], {}, [None], ["a", "a"], ["a", "b"], [["a"]], [{}], {"": ""},
    {"a": None}, {"a": "b"}, [{"key": "a"}], [{"key": "a"}, {"key": "a"}], [{"name": "a", "key": "b"}, "a"], [{"type": "Ready", "status": "True"}] * 2,
    {"name": "a1", "finalizers": ["x/y"], "ownerReferences": [{"uid": "a"}]}, {"name": "a1", "managedFields": [{}]}, {"name": "a1", "uid": "1"},
]  # fmt: skip
TOO_LARGE = 504  # a version that no change has yet: documented, as in Kubernetes


@dataclass
class Answer:
    status: int
    body: bytes
    type: str

    def check(self) -> int:
        """Its status, if it is one that an answer may have."""
        if self.status >= 400:
            assert self.status < 500 or self.status == TOO_LARGE, (self.status, self.body[:1000])
            if self.type.startswith("text/plain"):
                assert (self.status, self.body) == (404, b"404 page not found\n")
                return self.status
            said = json.loads(self.body)
            assert (said["kind"], said["code"], said["status"]) == ("Status", self.status, "Failure"), said
            assert said["message"].isprintable() and len(said["message"]) < 20_000 and "Traceback" not in said["message"], said
        return self.status


@dataclass
class Raw:
    """HTTP without anybody in between who makes requests better: the path and the bytes go out as they are."""

    api: Api
    connection: http.client.HTTPConnection

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        self.connection.putrequest(method, path)
        sent = {"authorization": f"Bearer {self.api.key}", "content-length": str(len(body)), **headers}
        for name, value in sent.items():
            self.connection.putheader(name.replace("_", "-"), value)
        self.connection.endheaders(body)
        response = self.connection.getresponse()
        if response.status == 200 and "watch" in path:  # which goes on: that it began is enough
            self.connection.close()
            return Answer(200, b"", "")
        answer = Answer(response.status, response.read(), response.headers.get("content-type", ""))
        if response.will_close:
            self.connection.close()
        return answer

    def path(self, kind: str, name: str | None = None, subresource: str | None = None) -> str:
        return self.api.path(kind, name, subresource)


@pytest.fixture(scope="module")
def raw(server: Server) -> Iterator[Raw]:
    """A server of this module's own; whatever was done to it, it lives, and nothing surprised it."""
    api = Api(server, "n-" + secrets.token_hex(5))
    api.create("Namespace", api.namespace, {})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    yield Raw(api, connection)
    connection.close()
    api.create("Robot", "afterwards")
    api.close()
    for name in ("apiserver", "controller"):
        text = (server.directory / f"{name}.log").read_text(errors="replace")
        assert "Traceback" not in text, text[max(text.index("Traceback") - 500, 0) :][:4000]


@st.composite
def targets(draw: st.DrawFn) -> tuple[str, str | None, str | None]:
    """A kind, perhaps the name of an object, perhaps a subresource of it."""
    kind, name = draw(st.sampled_from(ALL_KINDS)), draw(st.sampled_from([None, "a1", "a2", "nobody"]))
    return kind, name, draw(st.sampled_from([None, None, "status", "log", "token", "report"])) if name else None


def mutated(draw: st.DrawFn, value: Any, depth: int = 0) -> Any:
    """The value with something in it that is something else, or one thing more."""
    if depth > 4 or not isinstance(value, dict) or not value or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(PLAUSIBLE) | st.sampled_from(PLAUSIBLE) | JSON)
    key = draw(st.sampled_from(sorted(value)))
    changed = {**value, key: mutated(draw, value[key], depth + 1)}
    return {**changed, draw(TEXT): draw(JSON)} if draw(st.integers(0, 3)) == 0 else changed


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, Any]:
    """A kind, and an object that is nearly one of it."""
    kind = draw(st.sampled_from(ALL_KINDS))
    obj = mutated(draw, sample(kind, "a1"))
    return kind, {"apiVersion": KINDS[kind].api_version, "kind": kind, **obj} if isinstance(obj, dict) else obj


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


# -- bodies ------------------------------------------------------------------------------------------------------


@MANY
@given(target=targets(), body=st.binary(max_size=60) | JSON.map(as_json), type_=st.sampled_from(TYPES))
def test_any_bytes_of_any_type_are_answered_by_every_verb(
    raw: Raw, target: tuple[str, str | None, str | None], body: bytes, type_: str
) -> None:
    for verb in VERBS:
        raw.send(verb, raw.path(*target) + "?fieldManager=fuzz", body, content_type=type_).check()


@MANY
@given(made=objects(), query=st.sampled_from(MANAGED), name=st.sampled_from(["a1", "a2"]))
def test_what_is_nearly_an_object_is_applied_or_refused(raw: Raw, made: tuple[str, Any], query: str, name: str) -> None:
    kind, obj = made
    for subresource in (None, "status"):
        raw.send("PATCH", raw.path(kind, name, subresource) + query, as_json(obj), content_type=APPLY).check()
    raw.send("POST", raw.path(kind) + query.replace("&force=true", ""), as_json(obj), content_type="application/json").check()
    raw.send("PUT", raw.path(kind, name), as_json(obj), content_type=YAML).check()


@MANY
@given(kind=st.sampled_from([kind for kind in ALL_KINDS if not KINDS[kind].group.endswith("casare.net")]), patch=JSON)
def test_any_strategic_patch_of_a_core_kind_is_answered(raw: Raw, kind: str, patch: Any) -> None:
    path = raw.path(kind, "strategic")
    raw.send("POST", raw.path(kind), as_json(sample(kind, "strategic")), content_type="application/json").check()
    for body in (patch, {"metadata": patch}, {"metadata": {"finalizers": patch}}, {"data": patch, "$patch": patch}):
        raw.send("PATCH", path, as_json(body), content_type=STRATEGIC).check()
    raw.send("PATCH", path, as_json({"metadata": {"finalizers": None}}), content_type=MERGE).check()


FIELDS = st.recursive(
    st.just({}) | JSON,
    lambda inner: st.dictionaries(
        st.sampled_from(["f:spec", "f:tags", "f:metadata", "f:labels", ".", 'k:{"key":"a"}', "k:{", "k:[]", 'v:"x"', "v:", "i:0", "f:"]) | TEXT,
        inner, max_size=3,
    ),
    max_leaves=6,
)  # fmt: skip


@MANY
@given(fields=FIELDS, entry=st.dictionaries(st.sampled_from(["manager", "operation", "apiVersion", "time", "fieldsType", "subresource"]), JSON, max_size=3))
def test_managed_fields_that_mean_nothing_are_refused_or_do_no_harm_later(raw: Raw, fields: Any, entry: dict[str, Any]) -> None:
    path = raw.path("Robot", "managed")
    raw.send("POST", raw.path("Robot"), as_json(sample("Robot", "managed")), content_type="application/json").check()
    whole = {"manager": "fuzz", "operation": "Apply", "apiVersion": "fleet.casare.net/v1", "fieldsType": "FieldsV1", "fieldsV1": fields}
    for written in (whole, {**whole, **entry}):
        patch = {"metadata": {"managedFields": [written]}}
        raw.send("PATCH", path, as_json(patch), content_type=MERGE).check()
        raw.send("PATCH", path + MANAGED[1], as_json({"spec": {"maxConcurrentJobs": 3}}), content_type=MERGE).check()
        applied = {"apiVersion": "fleet.casare.net/v1", "kind": "Robot", **sample("Robot", "managed")}
        assert raw.send("PATCH", path + MANAGED[1], as_json(applied), content_type=APPLY).check() in (200, 201)


@MANY
@given(text=TEXT | JSON.map(json.dumps))
def test_a_last_applied_annotation_that_means_nothing_does_no_harm(raw: Raw, text: str) -> None:
    note = {"kubectl.kubernetes.io/last-applied-configuration": text.encode("utf-8", "replace").decode().replace("\0", "")}
    obj = {"apiVersion": "fleet.casare.net/v1", "kind": "Robot", **sample("Robot", "applied", annotations=note)}
    raw.send("PATCH", raw.path("Robot", "applied") + "?fieldManager=kubectl-client-side-apply&force=true", as_json(obj), content_type=APPLY).check()
    assert raw.send("PATCH", raw.path("Robot", "applied") + "?fieldManager=kubectl&force=true", as_json(obj), content_type=APPLY).check() < 300


# As a real kubectl sends them: create ns, create secret, auth can-i, delete.
PACKED = [bytes.fromhex(text) for text in (
    "6b3873000a0f0a02763112094e616d657370616365121a0a120a02743112001a0022002a003200380042001200" "1a020a001a002200",
    "6b3873000a0c0a02763112065365637265741223" "0a170a017312001a067465616d2d6122002a0032003800420012060a01611201621a001a002200",
    "6b3873000a320a17617574686f72697a6174696f6e2e6b38732e696f2f7631121753656c665375626a65637441636365737352657669657712540a10"
    "0a0012001a0022002a003200380042001236" "0a340a067465616d2d61120570617463681a10666c6565742e6361736172652e6e657422002a06726f626f7473"
    "32003a0570632d30311a08080012001a0020001a002200",
)]  # fmt: skip


@MANY
@given(body=st.sampled_from(PACKED), at=st.integers(0, 400), cut=st.integers(0, 3), put=st.binary(max_size=4))
def test_damaged_protobuf_is_read_or_refused(raw: Raw, body: bytes, at: int, cut: int, put: bytes) -> None:
    at %= len(body)
    body = body[:at] + put + body[at + cut :]
    paths = [raw.path("Namespace"), raw.path("Secret"), *(review.path for review in REVIEWS)]
    for path in paths:
        raw.send("POST", path, body, content_type=PROTOBUF).check()
    raw.send("PUT", raw.path("Secret", "s"), body, content_type=PROTOBUF).check()
    raw.send("DELETE", raw.path("Robot", "nobody"), body, content_type=PROTOBUF).check()


LAUGHS = "a: &a [x,x]\n" + "".join(f"{new}: &{new} [*{old},*{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True))
NASTY = {
    "aliases": LAUGHS, "merge keys": "a: &a {b: 1}\n<<: *a\n", "deep lists": "[" * 5000, "deep JSON": "[" * 50_000 + "]" * 50_000,
    "deep maps": '{"a":' * 3000 + "1" + "}" * 3000, "tags": "!!python/object/apply:os.system [ls]", "two documents": "a: 1\n---\nb: 2\n",
    "a long number": '{"spec":' + "9" * 5000 + "}", "a large exponent": '{"spec":{"maxConcurrentJobs":1e999999}}', "not a number": "a: .nan",
    "duplicates": '{"metadata":{"name":"a1"},"metadata":{"name":"a2"},"spec":1,"spec":{}}', "a NUL": '{"metadata":{"name":"\\u0000"}}',
    "a lone surrogate": '{"metadata":{"name":"a1","labels":{"a":"\\ud800"}}}', "no name": "{}", "null": "null", "nothing": "", "a tab": "\ta: b",
    "keys of all types": "1: a\ntrue: b\nnull: c\n1.5: d\n[a]: e\n", "a byte order mark": "\ufeff{}", "a date": "spec: 2026-01-01",
}  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
def test_a_nasty_body_is_refused_everywhere(raw: Raw, name: str) -> None:
    body = NASTY[name].encode()
    for kind in ("Robot", "ConfigMap"):
        raw.send("POST", raw.path(kind), as_json(sample(kind, "a1")), content_type="application/json").check()
    for type_ in (YAML, "application/json", APPLY, MERGE, JSON_PATCH, STRATEGIC):
        verbs = ("POST", "PUT", "DELETE") if type_ in (YAML, "application/json") else ("PATCH",)
        for verb in verbs:
            for kind in ("Robot", "ConfigMap"):
                raw.send(verb, raw.path(kind, None if verb == "POST" else "a1") + "?fieldManager=fuzz", body, content_type=type_).check()


@pytest.mark.parametrize("bad", [b"\xff\xfe", b'{"metadata":{"name":"\xc3\x28"}}', b"\x80abc", b"k8s\x00", b"k8s\x00\xff\xff\xff\xff\xff"])
def test_bytes_that_are_no_text_are_a_bad_request(raw: Raw, bad: bytes) -> None:
    for type_ in ("application/json", YAML, PROTOBUF):
        assert raw.send("POST", raw.path("ConfigMap"), bad, content_type=type_).check() == 400
    assert raw.send("PATCH", raw.path("ConfigMap", "a1") + "?fieldManager=fuzz", bad, content_type=APPLY).check() == 400


# -- what is around them -----------------------------------------------------------------------------------------

OPTIONS = [
    "limit", "continue", "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "allowWatchBookmarks", "labelSelector", "fieldSelector",
    "timeoutSeconds", "dryRun", "fieldManager", "fieldValidation", "force", "propagationPolicy", "orphanDependents", "gracePeriodSeconds",
    "includeObject", "pretty", "watch",
]  # fmt: skip
SAID = st.sampled_from([
    "", "true", "false", "0", "1", "-1", "9" * 18, "9" * 30, "All", "Exact", "NotOlderThan", "Strict", "Orphan", "Foreground", "None", "a=b", "!a", "a in (b",
    "a in (b,c),!d", "metadata.name=x", "metadata.name!=x,metadata.namespace=y", "status.phase=\\,", "\u0661", "%", "a\nb", "\ud7ff", "(((", "a" * 3000,
]) | st.text(max_size=8)  # fmt: skip


@MANY
@given(kind=st.sampled_from(ALL_KINDS), query=st.dictionaries(st.sampled_from(OPTIONS), SAID, max_size=5))
def test_any_options_are_understood_or_refused(raw: Raw, kind: str, query: dict[str, str]) -> None:
    question = "?" + urlencode({**query, "timeoutSeconds": "1"} if "watch" in query else query)
    raw.send("GET", raw.path(kind) + question).check()
    raw.send("GET", raw.path(kind, "nobody") + question).check()
    question = question.replace("watch", "watsch")
    raw.send("DELETE", raw.path(kind, "nobody") + question).check()
    raw.send("POST", raw.path(kind) + question, as_json(sample(kind, "nobody")), content_type="application/json").check()
    raw.send("PATCH", raw.path(kind, "nobody") + question, as_json(CHANGES.get(kind, {})), content_type=MERGE).check()
    if kind in NAMESPACED:
        raw.send("DELETE", raw.path(kind) + question).check()


TOKENS = [{"v": "meta.k8s.io/v1", "rv": 1, "start": "a\0"}, {"rv": -1}, {"rv": 2**70, "start": "x"}, [], None, 1, {"rv": "1", "start": 1}, ["a", 1, "b"]]


@MANY
@given(token=st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode()) | st.sampled_from(TOKENS).map(lambda t: base64.b64encode(as_json(t)).decode()) | st.text(max_size=20))
def test_any_continue_token_is_refused_or_goes_on(raw: Raw, token: str) -> None:
    assert raw.send("GET", raw.path("Robot") + "?limit=1&continue=" + quote(token, safe="")).check() in (200, 400, 410)


@MANY
@given(at=st.integers(0, 200), put=st.text("abcXYZ019+/=-_.", max_size=2))
def test_a_damaged_continue_token_is_refused_or_goes_on(raw: Raw, at: int, put: str) -> None:
    for name in ("p1", "p2"):
        raw.send("POST", raw.path("ConfigMap"), as_json(sample("ConfigMap", name)), content_type="application/json").check()
    page = json.loads(raw.send("GET", raw.path("ConfigMap") + "?limit=1").body)
    token = page["metadata"]["continue"]
    at %= len(token)
    damaged = token[:at] + put + token[at + 1 :]
    assert raw.send("GET", raw.path("ConfigMap") + "?limit=1&continue=" + quote(damaged, safe="")).check() in (200, 400, 410)


ACCEPT = [
    "application/json", "*/*", "application/*", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "application/yaml", "application/vnd.kubernetes.protobuf", "text/html", "application/cbor",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", "application/json;as=;v=;g=", "application/json;;;=;q=0", ",", ";as=Table", "a" * 3000,
]  # fmt: skip
PLACES = ["/api", "/apis", "/api/v1", "/apis/fleet.casare.net", "/openapi/v3", "/openapi/v3/api/v1", "/openapi/v2", "/version", "/healthz", "/apis/nothing/v9"]


@MANY
@given(kind=st.sampled_from(ALL_KINDS), accept=st.lists(st.sampled_from(ACCEPT), min_size=1, max_size=3).map(",".join), place=st.sampled_from(PLACES))
def test_any_accept_header_is_met_or_refused(raw: Raw, kind: str, accept: str, place: str) -> None:
    body = as_json({"apiVersion": KINDS[kind].api_version, "kind": kind, **sample(kind, "accepted")})
    raw.send("PATCH", raw.path(kind, "accepted") + MANAGED[1], body, content_type=APPLY, accept=accept).check()
    for path in (raw.path(kind), raw.path(kind, "accepted"), raw.path(kind) + "?watch=1&timeoutSeconds=1", place):
        raw.send("GET", path, accept=accept).check()


ODD = ["%2e%2e", "%2F", "%00", "%ff%fe", "%c3%28", "%25", "%", "%zz", "..", ".", "a%2Fb", "~", "*", "%e2%80%ae", "a" * 300, "status", "%0a", "A", "-", "a..b", "%ed%a0%80"]


@MANY
@given(name=st.sampled_from(ODD), other=st.sampled_from([*ODD, "default", "a1"]), verb=st.sampled_from([*VERBS, "HEAD", "OPTIONS", "TRACE"]))
def test_any_path_is_answered(raw: Raw, name: str, other: str, verb: str) -> None:
    root = "/apis/fleet.casare.net/v1"
    for path in (f"{root}/namespaces/{other}/robots/{name}", f"{root}/namespaces/{name}/robots", f"/api/v1/namespaces/{name}", f"/apis/{name}/{other}",
                 f"{root}/{name}", f"{root}/namespaces/{other}/robots/a1/{name}", f"/openapi/v3/{name}", f"/api/{name}//{other}/", f"/{name}/{other}"):  # fmt: skip
        answer = raw.send(verb, path, b"{}" if verb in ("POST", "PUT") else b"", content_type="application/json")
        if verb != "HEAD":
            answer.check()
        assert answer.status < 500


@MANY
@given(review=st.sampled_from(REVIEWS), spec=JSON, type_=st.sampled_from(["application/json", YAML]))
def test_any_question_about_rights_is_answered(raw: Raw, review: Any, spec: Any, type_: str) -> None:
    for body in (spec, {"spec": spec}, {"spec": {"resourceAttributes": spec, "nonResourceAttributes": spec}}, {"kind": spec, "apiVersion": spec, "metadata": spec}):
        raw.send("POST", review.path, as_json(body), content_type=type_).check()
