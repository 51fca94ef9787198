"""What holds a deletion up is respected, and what hung on an object goes after it."""

from __future__ import annotations

from typing import Any

import pytest

from ..conftest import until
from .conftest import ALL_KINDS, NAMESPACED, Api, is_status, message

HOLD = "example.com/hold"


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_finalizers_hold_an_object_until_the_last_is_gone(api: Api, kind: str) -> None:
    name = f"{api.namespace}-x"
    made = api.create(kind, name, finalizers=[HOLD, "example.com/other"])
    for _ in range(2):  # the second DELETE answers as the first
        held = api.delete(kind, name)
        assert held.status_code == 200, held.text
        meta = held.json()["metadata"]
        assert held.json()["kind"] == kind and meta["deletionTimestamp"] and meta["deletionGracePeriodSeconds"] == 0
        assert meta["generation"] == made["metadata"]["generation"] + 1
    added = api.patch(kind, name, {"metadata": {"finalizers": [HOLD, "example.com/new"]}})
    forbidden = "no new finalizers can be added if the object is being deleted, found new finalizers"
    assert f'{forbidden} []string{{"example.com/new"}}' in message(added, 422)
    rescued = api.changed(kind, name, {"metadata": {"deletionTimestamp": None, "finalizers": [HOLD]}})
    assert rescued["metadata"]["deletionTimestamp"] == meta["deletionTimestamp"], "a deletion can't be taken back"
    last = api.patch(kind, name, {"metadata": {"finalizers": None}})
    assert last.status_code == 200 and last.json()["metadata"]["name"] == name
    if kind == "Namespace":  # it waits for its content to go
        until(lambda: api.find(kind, name) is None, "the namespace is empty and goes")
    assert api.find(kind, name) is None


def test_a_dry_run_of_removing_the_last_finalizer_shows_the_object_and_keeps_it(api: Api) -> None:
    api.create("Workflow", "w", finalizers=[HOLD])
    api.delete("Workflow", "w")
    shown = api.patch("Workflow", "w", {"metadata": {"finalizers": []}}, params={"dryRun": "All"})
    assert shown.status_code == 200 and shown.json()["metadata"]["name"] == "w"
    assert api.get("Workflow", "w")["metadata"]["finalizers"] == [HOLD]


def test_a_person_can_not_write_a_deletion(api: Api) -> None:
    made = api.create("Workflow", "w", deletionTimestamp="2026-01-01T00:00:00Z")
    assert "deletionTimestamp" not in made["metadata"]
    patched = api.changed("Workflow", "w", {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    assert "deletionTimestamp" not in patched["metadata"]


@pytest.mark.parametrize("field", ["creationTimestamp", "generation", "selfLink"])
def test_what_the_server_writes_can_not_be_forged(api: Api, field: str) -> None:
    forged: dict[str, Any] = {
        "creationTimestamp": "2001-01-01T00:00:00Z",
        "generation": 99,
        "selfLink": "/x",
    }
    made = api.create("Workflow", "w", **{field: forged[field]})
    assert made["metadata"].get(field) != forged[field]
    changed = api.changed("Workflow", "w", {"metadata": {field: forged[field], "labels": {"a": "b"}}})
    assert changed["metadata"].get(field) == made["metadata"].get(field)


def test_dependents_go_after_their_last_owner(api: Api) -> None:
    first, second = api.create("Workflow", "one"), api.create("Workflow", "two")

    def owner(of: dict[str, Any]) -> dict[str, Any]:
        return {
            "apiVersion": of["apiVersion"],
            "kind": of["kind"],
            "name": of["metadata"]["name"],
            "uid": of["metadata"]["uid"],
        }

    for kind in NAMESPACED:
        api.create(kind, f"{api.namespace}-{kind.lower()}", ownerReferences=[owner(first), owner(second)])
    api.create("Workflow", "held", ownerReferences=[owner(second)], finalizers=[HOLD])
    api.create("Workflow", "free")
    api.delete("Workflow", "one")
    assert api.find("Robot", f"{api.namespace}-robot"), "one owner is left"
    api.delete("Workflow", "two")
    for kind in NAMESPACED:
        until(lambda kind=kind: api.find(kind, f"{api.namespace}-{kind.lower()}") is None, f"{kind} is collected")
    until(lambda: "deletionTimestamp" in api.get("Workflow", "held")["metadata"], "what a finalizer holds is marked")
    assert api.find("Workflow", "free")


def test_ways_of_deleting_that_there_are_not_are_refused_and_never_ignored(api: Api) -> None:
    api.create("Workflow", "w")
    for options in ({"propagationPolicy": "Sideways"}, {"propagationPolicy": "Orphan", "orphanDependents": True}):
        assert is_status(api.delete("Workflow", "w", json=options), 422, "Invalid")
        in_query = {key: str(value).lower() if value is True else value for key, value in options.items()}
        assert is_status(api.delete("Workflow", "w", params=in_query), 422, "Invalid")
    assert is_status(api.delete("Workflow", "w", json={"dryRun": ["Some"]}), 422, "Invalid")
    assert is_status(api.delete("Workflow", "w", json=[]), 400)
    assert is_status(api.delete("Workflow", "w", json={"preconditions": [1]}), 400)
    assert api.find("Workflow", "w")
    assert api.delete("Workflow", "w", json={"propagationPolicy": "Background"}).status_code == 200
