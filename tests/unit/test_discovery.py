"""Discovery lists the groups, kinds and verbs that there are, in both forms alike."""

from __future__ import annotations

from typing import Any

import pytest

from casare_api.kinds import GROUP, KINDS, Kind
from casare_api.kinds.reviews import REVIEWS, ResourceAttributes, SelfSubjectAccessReview
from casare_api.machinery import discovery

EVERY = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
ALL = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def aggregated() -> dict[tuple[str, str], dict[str, Any]]:
    """What aggregated discovery says of each resource, by its group and plural."""
    items = [*discovery.aggregated("api")["items"], *discovery.aggregated("apis")["items"]]
    return {
        (item["metadata"].get("name", ""), row["resource"]): row
        for item in items
        for version in item["versions"]
        for row in version["resources"]
    }


def listed(group: str, version: str = "v1") -> dict[str, dict[str, Any]]:
    """What the older form says of each resource of a group, by its name."""
    document = discovery.resource_list(group, version)
    assert document is not None
    return {row["name"]: row for row in document["resources"]}


@EVERY
def test_a_kind_is_listed_with_its_names_and_verbs(kind: Kind) -> None:
    row, old = aggregated()[kind.group, kind.plural], listed(kind.group)[kind.plural]
    wanted = ALL if kind.namespaced else [verb for verb in ALL if verb != "deletecollection"]
    assert row["verbs"] == old["verbs"] == wanted
    assert row["scope"] == ("Namespaced" if kind.namespaced else "Cluster") and old["namespaced"] is kind.namespaced
    assert row["responseKind"] == {"group": kind.group, "version": kind.version, "kind": kind.kind}
    assert row["singularResource"] == old["singularName"] == kind.singular and old["kind"] == kind.kind
    for form in (row, old):
        assert tuple(form.get("shortNames", ())) == kind.short_names
        assert tuple(form.get("categories", ())) == kind.categories


@EVERY
def test_a_status_is_listed_where_there_is_one(kind: Kind) -> None:
    below = {one["subresource"]: one for one in aggregated()[kind.group, kind.plural].get("subresources", ())}
    assert ("status" in below) is kind.has_status is (f"{kind.plural}/status" in listed(kind.group))
    if kind.has_status:
        assert below["status"]["verbs"] == ["get", "patch", "update"]
        assert below["status"]["responseKind"]["kind"] == kind.kind
        old = listed(kind.group)[f"{kind.plural}/status"]
        assert old["singularName"] == "" and old["verbs"] == ["get", "patch", "update"]


def test_subresources_of_single_kinds_are_listed() -> None:
    names = {name for name in listed(GROUP) if "/" in name and not name.endswith("/status")}
    assert names == {"apikeys/rotate", "apikeys/token", "jobs/artifacts", "jobs/log", "jobs/retry", "jobs/why", "robots/report", "workflows/revisions"}
    assert listed(GROUP)["jobs/log"]["verbs"] == ["create", "get"]


@pytest.mark.parametrize("review", REVIEWS, ids=lambda one: one.kind)
def test_a_question_can_only_be_created(review: Any) -> None:
    row, old = aggregated()[review.group, review.plural], listed(review.group)[review.plural]
    assert row["verbs"] == old["verbs"] == ["create"]
    assert row["scope"] == "Cluster" and old["namespaced"] is False and "subresources" not in row


def test_both_forms_list_the_same() -> None:
    groups = ["", *(one["name"] for one in discovery.group_list()["groups"])]
    assert {(group, name) for group in groups for name in listed(group) if "/" not in name} == set(aggregated())


def test_our_own_group_comes_first_and_the_others_by_name() -> None:
    names = [item["metadata"]["name"] for item in discovery.aggregated("apis")["items"]]
    assert names == [GROUP, *sorted(set(names) - {GROUP})]
    assert names == [one["name"] for one in discovery.group_list()["groups"]]
    assert len(discovery.aggregated("api")["items"]) == 1


def test_what_people_work_with_every_day_is_in_all() -> None:
    everyday = {kind.kind for kind in KINDS.values() if "all" in kind.categories}
    assert everyday == {"Robot", "Workflow", "Job", "Schedule"}
    assert {kind.kind for kind in KINDS.values() if "fleet" in kind.categories} == everyday | {"ApiKey", "Fire", "Quota"}


def test_the_documents_say_what_they_are() -> None:
    for root in ("api", "apis"):
        for version in ("v2", "v2beta1"):
            document = discovery.aggregated(root, version)  # type: ignore[arg-type]
            assert document["kind"] == "APIGroupDiscoveryList"
            assert document["apiVersion"] == f"apidiscovery.k8s.io/{version}"
            assert all(one["freshness"] == "Current" for item in document["items"] for one in item["versions"])
    assert discovery.api_versions()["versions"] == ["v1"]
    fleet = discovery.group(GROUP)
    assert fleet is not None and fleet["preferredVersion"] == {"groupVersion": f"{GROUP}/v1", "version": "v1"}
    resources = discovery.resource_list(GROUP, "v1")
    assert resources is not None and resources["groupVersion"] == f"{GROUP}/v1"
    assert (discovery.resource_list("", "v1") or {})["groupVersion"] == "v1"


@pytest.mark.parametrize("name", ["", "apps", "fleet"])
def test_there_is_no_other_group(name: str) -> None:
    assert discovery.group(name) is None
    assert discovery.resource_list(name or "core", "v1") is None
    assert discovery.resource_list(GROUP, "v2") is None


def test_a_question_of_a_newer_client_is_understood() -> None:
    asked = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "metadata": {"creationTimestamp": None},
        "spec": {"resourceAttributes": {"verb": "get", "resource": "robots", "newer": 1}},
        "status": {"allowed": False},
    }
    spec = SelfSubjectAccessReview.model_validate(asked).spec
    assert isinstance(spec.resource_attributes, ResourceAttributes) and spec.resource_attributes.resource == "robots"
