"""Everything that `kubectl` shows: version, api-resources, explain, get in all its forms, and describe."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from casare_api.kinds import GROUP, KINDS, SERVED
from casare_api.kinds.reviews import REVIEWS

from ..api.conftest import SAMPLES, Api, name_of
from .conftest import NEWEST, Kubectl, robot

EVERY = pytest.mark.parametrize("kind", sorted(KINDS))
SHORT = {"ns": "Namespace", "cm": "ConfigMap", "ev": "Event", "rb": "Robot", "wf": "Workflow", "sched": "Schedule",
         "ak": "ApiKey", "jt": "JoinToken"}  # fmt: skip
# The columns that people read, and those that `-o wide` adds.
TABLES: dict[str, tuple[str, str]] = {
    "Namespace": ("NAME STATUS AGE", ""),
    "ConfigMap": ("NAME DATA AGE", ""),
    "Secret": ("NAME TYPE DATA AGE", ""),
    "Lease": ("NAME HOLDER AGE", ""),
    "Event": ("LAST SEEN TYPE REASON OBJECT MESSAGE", "COUNT NAME"),
    "Robot": ("NAME STATUS SLOTS ENVIRONMENT CAPABILITIES SEEN AGE", "DISPLAY TAGS VERSION HOST"),
    "Workflow": ("NAME RUNNER REVISION AGE", "REQUIRES DESCRIPTION"),
    "Schedule": ("NAME CRON ZONE SUSPENDED NEXT LAST AGE", "EVERY WORKFLOW"),
    "Job": ("NAME STATUS PRIORITY WORKFLOW ROBOT ATTEMPT DURATION AGE", "REASON EXIT REQUIREMENTS"),
    "Fire": ("NAME SCHEDULE TIME OUTCOME JOB AGE", "REASON"),
    "JoinToken": ("NAME PATTERN ENVIRONMENT STATUS USED EXPIRES AGE", "APPROVAL HINT DESCRIPTION"),
    "ApiKey": ("NAME ROLE ROBOT STATUS HINT AGE", "LAST USED FROM ROTATION EXPIRES DESCRIPTION"),
    "Role": ("NAME CREATED AT", ""),
    "ClusterRole": ("NAME CREATED AT", ""),
    "RoleBinding": ("NAME ROLE AGE", "USERS GROUPS"),
    "ClusterRoleBinding": ("NAME ROLE AGE", "USERS GROUPS"),
    "Quota": ("NAME WEIGHT RUNNING MAX RUNNING QUEUED MAX QUEUED AGE", "AGING"),
}
BODIES: dict[str, dict[str, Any]] = {
    **SAMPLES,
    "ConfigMap": {"data": {"colour": "blue"}},
    "Secret": {"stringData": {"password": "hunter2-hunter2"}},
    "Lease": {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 15}},
}


def words(line: str) -> str:
    return " ".join(line.split())


@pytest.fixture
def robots(api: Api) -> Api:
    """Three robots, of which two are in Berlin."""
    for name, site, most in (("a", "berlin", 3), ("b", "paris", 1), ("c", "berlin", 2)):
        api.create("Robot", name, {"spec": {"maxConcurrentJobs": most, "tags": [site]}}, labels={"site": site})
    return api


# -- what there is ---------------------------------------------------------------------------------------------------


def test_version_tells_the_servers(kubectl: Kubectl) -> None:
    told = kubectl("version", "-o", "json").json()
    assert re.fullmatch(r"v1\.\d+\.\d+\+casare-.*", told["serverVersion"]["gitVersion"])
    assert told["clientVersion"]["gitVersion"].startswith(f"v{kubectl.version}.")


@NEWEST
def test_api_versions_lists_all_groups(kubectl: Kubectl) -> None:
    served = {kind.api_version for kind in SERVED} | {review.api_version for review in REVIEWS}
    assert set(kubectl("api-versions").lines) == served


def test_api_resources_lists_every_kind_with_its_names_and_verbs(kubectl: Kubectl) -> None:
    shown = {words(line) for line in kubectl("api-resources", "-o", "wide", "--no-headers").lines}
    for kind in KINDS.values():
        verbs = "create,delete,deletecollection,get,list,patch,update,watch"
        verbs = verbs if kind.namespaced else verbs.replace("deletecollection,", "")
        scope, categories = str(kind.namespaced).lower(), ",".join(kind.categories)
        row = f"{kind.plural} {','.join(kind.short_names)} {kind.api_version} {scope} {kind.kind} {verbs} {categories}"
        assert words(row) in shown


def test_api_resources_are_chosen_by_category_group_and_verb(newest_kubectl: Kubectl) -> None:
    def names(*args: str) -> set[str]:
        return set(newest_kubectl("api-resources", "-o", "name", *args).lines)

    of_fleet = {f"{kind.plural}.{GROUP}" for kind in KINDS.values() if kind.group == GROUP}
    assert names("--categories=fleet") == of_fleet == names(f"--api-group={GROUP}")
    roles = {f"{plural}.rbac.authorization.k8s.io" for plural in ("clusterroles", "clusterrolebindings")}
    assert names("--namespaced=false", "--verbs=list") == {"namespaces", *roles}


@EVERY
def test_explain_describes_every_field_of_every_kind(newest_kubectl: Kubectl, kind: str) -> None:
    plural = KINDS[kind].plural
    said = newest_kubectl("explain", plural).out
    assert KINDS[kind].description.split()[0] in said.split("DESCRIPTION:")[1]
    assert re.search(r"metadata\t<ObjectMeta>", said) and "<empty>" not in said
    assert "<empty>" not in newest_kubectl("explain", f"{plural}.metadata").out
    assert len(newest_kubectl("explain", plural, "--recursive").lines) > 20


def test_explain_shows_words_to_choose_from_and_what_is_required(kubectl: Kubectl) -> None:
    said = kubectl("explain", "robot.spec", "--recursive").out
    assert "enum: Active, Paused, Drained" in said
    assert re.search(r"taints\t<\[\]Object>\n    effect\t<string>\n    enum: NoPlace\n    key\t<string> -required-", said)


@NEWEST
def test_explain_describes_one_field(kubectl: Kubectl) -> None:
    said = kubectl("explain", "rb.spec.desiredState").out
    assert "FIELD: desiredState <string>\nENUM:\n    Active\n    Paused\n    Drained\n" in said
    assert "Paused finishes those it has and takes no new ones" in words(said)


def test_explain_describes_metadata(kubectl: Kubectl) -> None:
    said = kubectl("explain", "jobs.metadata.ownerReferences").out
    assert "FIELD: ownerReferences <[]" in said and "blockOwnerDeletion\t<boolean>" in said and "uid\t<string> -required-" in said


def test_explain_of_a_field_that_there_is_not_is_refused(newest_kubectl: Kubectl) -> None:
    assert 'field "nope" does not exist' in newest_kubectl("explain", "robot.spec.nope", code=1).err


# -- get -------------------------------------------------------------------------------------------------------------


@EVERY
def test_every_kind_has_a_table(newest_kubectl: Kubectl, api: Api, kind: str) -> None:
    name = name_of(kind, "one") if KINDS[kind].namespaced else f"{api.namespace}-2"
    api.create(kind, name, BODIES[kind])
    plain, wide = newest_kubectl("get", KINDS[kind].plural), newest_kubectl("get", KINDS[kind].plural, "-o", "wide")
    usual, more = TABLES[kind]
    assert words(plain.lines[0]) == usual and words(wide.lines[0]) == f"{usual} {more}".strip()
    assert name in wide.out and "<invalid>" not in wide.out and "<unknown>" not in wide.out


def test_cells_tell_what_people_want_to_know(kubectl: Kubectl, robots: Api) -> None:
    rows = [words(line).split() for line in kubectl("get", "robots", "-o", "wide").lines[1:]]
    assert [row[:4] for row in rows] == [
        ["a", "Pending", "0/3", "default"], ["b", "Pending", "0/1", "default"], ["c", "Pending", "0/2", "default"]
    ]  # fmt: skip
    assert [row[-2:] for row in rows] == [["a", "berlin"], ["b", "paris"], ["c", "berlin"]]
    assert all(re.fullmatch(r"\d+s", row[-3]) for row in rows)


def test_when_an_event_happened_is_shown_whatever_its_recorder_fills_in(newest_kubectl: Kubectl, api: Api) -> None:
    api.create("Event", "new", {**SAMPLES["Event"], "eventTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"})
    assert re.match(r"\d+s ", newest_kubectl("get", "events").lines[1])


@NEWEST
def test_one_object_is_shown_as_yaml_and_json_alike(kubectl: Kubectl, robots: Api) -> None:
    as_json = kubectl("get", "robot", "a", "-o", "json").json()
    assert yaml.safe_load(kubectl("get", "robot/a", "-o", "yaml").out) == as_json
    assert as_json["kind"] == "Robot" and as_json["spec"]["maxConcurrentJobs"] == 3


@NEWEST
def test_who_manages_which_fields_is_shown_on_request(kubectl: Kubectl) -> None:
    kubectl.apply(robot("a"))
    assert "managedFields" not in kubectl("get", "robot", "a", "-o", "json").json()["metadata"]
    assert kubectl.get("robot", "a")["metadata"]["managedFields"][0]["manager"] == "kubectl-client-side-apply"


def test_a_list_is_shown_as_json(kubectl: Kubectl, robots: Api) -> None:
    shown = kubectl("get", "robots", "-o", "json").json()
    assert shown["kind"] == "List" and [item["metadata"]["name"] for item in shown["items"]] == ["a", "b", "c"]


@NEWEST
def test_names_alone_are_shown(kubectl: Kubectl, robots: Api) -> None:
    assert kubectl("get", "robots", "-o", "name").lines == [f"robot.{GROUP}/{name}" for name in "abc"]


@NEWEST
def test_jsonpath_and_templates_pick_values(kubectl: Kubectl, robots: Api) -> None:
    assert kubectl("get", "robots", "-o", "jsonpath={.items[*].spec.maxConcurrentJobs}").out == "3 1 2"
    assert kubectl("get", "rb", "b", "-o", "go-template={{.spec.environment}}").out == "default"


@NEWEST
def test_custom_columns_show_what_they_name(kubectl: Kubectl, robots: Api) -> None:
    shown = kubectl("get", "robots", "-o", "custom-columns=WHO:.metadata.name,MOST:.spec.maxConcurrentJobs,X:.spec.nope")
    assert [words(line) for line in shown.lines] == ["WHO MOST X", "a 3 <none>", "b 1 <none>", "c 2 <none>"]


@pytest.mark.parametrize(
    ("selector", "found"),
    [("site=berlin", "ac"), ("site!=berlin", "b"), ("site in (paris,rome)", "b"), ("site notin (paris)", "ac"),
     ("site", "abc"), ("!site", "")],
)  # fmt: skip
def test_labels_select(newest_kubectl: Kubectl, robots: Api, selector: str, found: str) -> None:
    assert newest_kubectl("get", "robots", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}").out.split() == list(found)


@pytest.mark.parametrize(
    ("selector", "found"),
    [("metadata.name=b", "b"), ("metadata.name!=b", "ac"), ("status.phase=Pending,metadata.name==c", "c"),
     ("status.phase=Busy", ""), ("spec.environment=default", "abc")],
)  # fmt: skip
def test_fields_select(newest_kubectl: Kubectl, robots: Api, selector: str, found: str) -> None:
    shown = newest_kubectl("get", "robots", "--field-selector", selector, "-o", "jsonpath={.items[*].metadata.name}")
    assert shown.out.split() == list(found)


@NEWEST
def test_a_field_that_can_not_be_selected_is_refused(kubectl: Kubectl) -> None:
    refused = kubectl("get", "robots", "--field-selector", "spec.mode=x", code=1).err
    assert "Error from server (BadRequest)" in refused and "field label not supported: spec.mode" in refused


@NEWEST
def test_rows_are_sorted_by_any_field(kubectl: Kubectl, robots: Api) -> None:
    shown = kubectl("get", "robots", "--sort-by=.spec.maxConcurrentJobs")
    assert [row[0] for row in shown.rows()] == ["b", "c", "a"]


def test_a_list_of_several_pages_is_shown_whole(kubectl: Kubectl, robots: Api) -> None:
    asked = kubectl("get", "robots", "--chunk-size=1", "-v=6")
    assert [row[0] for row in asked.rows()] == ["a", "b", "c"]
    assert len(re.findall(r"/robots\?[^\s\"]*limit=1", asked.err)) == 3 and asked.err.count("continue=") >= 2


@NEWEST
def test_all_namespaces_are_listed_with_theirs(kubectl: Kubectl, api: Api) -> None:
    other = Api(api.server, f"{api.namespace}-2")
    other.create("Namespace", other.namespace, {})
    for one in (api, other):
        one.create("Robot", "here", labels={"of": api.namespace})
    rows = kubectl("get", "robots", "-A", "-l", f"of={api.namespace}").rows()
    assert [row[:2] for row in rows] == [[api.namespace, "here"], [other.namespace, "here"]]


@pytest.mark.parametrize(("category", "kinds"), [("fleet", None), ("all", {"Robot", "Workflow", "Schedule", "Job"})])
@NEWEST
def test_a_category_is_several_kinds_at_once(kubectl: Kubectl, api: Api, category: str, kinds: set[str] | None) -> None:
    kinds = kinds or {kind.kind for kind in KINDS.values() if kind.group == GROUP}
    for kind in ("Robot", "Workflow", "Schedule", "Job", "Fire", "ApiKey", "JoinToken", "Quota"):
        api.create(kind, name_of(kind, "one"), BODIES[kind])
    named = {f"{KINDS[kind].singular}.{GROUP}/{name_of(kind, 'one')}" for kind in kinds}
    assert set(kubectl("get", category, "-o", "name").lines) == named
    assert {line.split()[0] for line in kubectl("get", category).lines if f".{GROUP}/" in line} == named


@pytest.mark.parametrize("short", sorted(SHORT))
def test_kinds_have_short_names(newest_kubectl: Kubectl, api: Api, short: str) -> None:
    kind = KINDS[SHORT[short]]
    name = "one" if kind.namespaced else api.namespace
    if kind.namespaced:
        api.create(kind.kind, name, BODIES[kind.kind])
    full = f"{kind.singular}.{kind.group}" if kind.group else kind.singular
    words_for_it = (short, kind.kind, f"{kind.plural}.v1.{kind.group}")
    shown = newest_kubectl("get", *(f"{word}/{name}" for word in words_for_it), "-o", "name")
    assert shown.lines == [f"{full}/{name}"] * 3


def test_several_kinds_and_names_are_asked_for_at_once(kubectl: Kubectl, robots: Api) -> None:
    robots.create("ConfigMap", "settings", BODIES["ConfigMap"])
    assert kubectl("get", "robots,cm", "-o", "name").lines == [*(f"robot.{GROUP}/{name}" for name in "abc"), "configmap/settings"]
    assert kubectl("get", "robot/c", "cm/settings", "-o", "name").lines == [f"robot.{GROUP}/c", "configmap/settings"]
    assert kubectl("get", "robot", "c", "a", "-o", "name").lines == [f"robot.{GROUP}/c", f"robot.{GROUP}/a"]


@NEWEST
def test_labels_and_kinds_are_shown_on_request(kubectl: Kubectl, robots: Api) -> None:
    shown = kubectl("get", "robots", "--show-labels", "--show-kind", "-L", "site").rows()
    assert [(row[0], row[-2], row[-1]) for row in shown][1] == (f"robot.{GROUP}/b", "paris", "site=paris")


def test_the_status_is_a_resource_of_its_own(kubectl: Kubectl, robots: Api) -> None:
    assert kubectl("get", "robot", "a", "--subresource=status", "-o", "jsonpath={.status.phase}").out == "Pending"
    assert words(kubectl("get", "robot", "a", "--subresource=status").lines[1]).startswith("a Pending 0/3")


def test_what_there_is_not_is_not_found(kubectl: Kubectl) -> None:
    assert kubectl("get", "robot", "nope", code=1).err == f'Error from server (NotFound): robots.{GROUP} "nope" not found\n'
    ignored = kubectl("get", "robot", "nope", "--ignore-not-found")
    assert (ignored.out, ignored.err) == ("", "")


@NEWEST
def test_a_namespace_that_there_is_not_is_named(kubectl: Kubectl) -> None:
    assert kubectl("get", "robot", "x", "-n", "nowhere", code=1).err == 'Error from server (NotFound): namespaces "nowhere" not found\n'
    assert kubectl("get", "robots", "-n", "nowhere").err == "No resources found in nowhere namespace.\n"


def test_a_kind_that_there_is_not_is_unknown(kubectl: Kubectl) -> None:
    assert kubectl("get", "pods", code=1).err == 'error: the server doesn\'t have a resource type "pods"\n'


# -- get --raw -------------------------------------------------------------------------------------------------------


@NEWEST
def test_any_path_is_read_as_it_is(kubectl: Kubectl, api: Api) -> None:
    assert kubectl("get", "--raw", api.path("Namespace", api.namespace)).json()["metadata"]["name"] == api.namespace
    assert kubectl("get", "--raw", "/version").json()["major"] == "1"
    assert kubectl("get", "--raw", "/healthz").out == kubectl("get", "--raw", "/readyz").out == "ok"


def test_the_documents_are_read_by_the_addresses_in_their_index(kubectl: Kubectl) -> None:
    paths = kubectl("get", "--raw", "/openapi/v3").json()["paths"]
    document = kubectl("get", "--raw", paths[f"apis/{GROUP}/v1"]["serverRelativeURL"]).json()
    assert document["openapi"].startswith("3.0") and f"/apis/{GROUP}/v1/namespaces/{{namespace}}/robots" in document["paths"]


@pytest.mark.parametrize("path", ["/nope", "/apis/nope", "/apis/nope/v1", f"/apis/{GROUP}/v1/nopes", "/api/v2", "/openapi/v3/nope"])
def test_a_path_that_there_is_not_is_not_found(newest_kubectl: Kubectl, path: str) -> None:
    refused = newest_kubectl("get", "--raw", path, code=1).err
    assert refused == "Error from server (NotFound): the server could not find the requested resource\n"


# -- describe --------------------------------------------------------------------------------------------------------


def test_describe_shows_a_robot_with_its_events(kubectl: Kubectl, api: Api) -> None:
    made = api.create("Robot", "pc-01", {"spec": robot()["spec"]}, labels={"site": "berlin"})
    meta = made["metadata"]
    of = {"kind": "Robot", "name": "pc-01", "namespace": api.namespace, "uid": meta["uid"], "apiVersion": made["apiVersion"]}
    common = {"reason": "Online", "type": "Normal", "lastTimestamp": meta["creationTimestamp"], "source": {"component": "me"}}
    api.create("Event", "mine", {**common, "involvedObject": of, "message": "it is there"})
    api.create("Event", "another", {**common, "involvedObject": {**of, "uid": "another"}, "message": "it was there"})
    said = kubectl("describe", "robot", "pc-01").out
    assert "Max Concurrent Jobs:  2" in said and "Phase:                Pending" in said and "site=berlin" in said
    events = words(said.split("Events:")[1])
    assert re.search(r"Normal Online .*me it is there", events) and "it was there" not in events


def test_describe_shows_a_job_and_what_keeps_it_waiting(newest_kubectl: Kubectl, api: Api) -> None:
    api.create("Job", "j", SAMPLES["Job"])
    said = words(newest_kubectl("describe", "job", "j").out)
    assert "Kind: Job" in said and "Runner: command" in said and "Phase: Queued" in said


@NEWEST
def test_describe_shows_no_secrets_values(kubectl: Kubectl, api: Api) -> None:
    api.create("Secret", "s", {"stringData": {"password": "hunter2-hunter2"}})
    said = kubectl("describe", "secret", "s").out
    assert "password:  15 bytes" in said and "hunter2" not in said and "aHVudGVyMi" not in said


@NEWEST
def test_describe_shows_a_namespace(kubectl: Kubectl, api: Api) -> None:
    said = words(kubectl("describe", "ns", api.namespace).out)
    assert f"Labels: kubernetes.io/metadata.name={api.namespace}" in said and "Status: Active" in said


@EVERY
def test_every_kind_can_be_described(newest_kubectl: Kubectl, api: Api, kind: str) -> None:
    name = name_of(kind, "one") if KINDS[kind].namespaced else api.namespace
    if kind != "Namespace":
        api.create(kind, name, BODIES[kind])
    said = newest_kubectl("describe", KINDS[kind].plural, name)
    assert re.match(rf"Name:\s+{name}\n", said.out) and said.err == ""


def test_what_labels_select_is_described(newest_kubectl: Kubectl, robots: Api) -> None:
    said = newest_kubectl("describe", "robots", "-l", "site=berlin").out
    assert re.findall(r"^Name: +(\w)$", said, re.MULTILINE) == ["a", "c"]
