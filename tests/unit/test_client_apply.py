"""Applying twice changes nothing the second time, whatever the server filled in."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from casare_api.kinds import Object
from casare_api.machinery import patches
from casare_client.apply import DECLARED, LAST_APPLIED, change, declared, digest, same

ROBOT: Object = {
    "apiVersion": "fleet.casare.net/v1",
    "kind": "Robot",
    "metadata": {"name": "a", "labels": {"x": "1", "y": "2"}},
    "spec": {"tags": ["a", "b"], "environment": "prod"},
}
SYSTEM = {"uid": "u", "resourceVersion": "5", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}


def stored(wanted: Object) -> Object:
    """The object as a server keeps it after a create: with its own metadata, defaults and a status."""
    obj = copy.deepcopy(wanted)
    obj["metadata"] |= {**SYSTEM, "namespace": "default"}
    obj["spec"] = {"maxConcurrentJobs": 1, "desiredState": "Active", **(obj.get("spec") or {})}
    return {**obj, "status": {"phase": "Idle"}}


def without(obj: Object, *path: str) -> Object:
    found = copy.deepcopy(obj)
    place = found
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return found


def test_a_second_apply_changes_nothing() -> None:
    wanted = declared(ROBOT)
    assert change(wanted, stored(wanted)) is None


def test_what_get_printed_declares_what_was_declared() -> None:
    printed = stored(declared(ROBOT))
    again = change(declared(printed), printed)
    assert again is not None  # the defaults are declared now, so the annotation says more
    after = patches.merge_patch(printed, again)
    assert change(declared(printed), after) is None
    assert same(without(after, "metadata", "annotations"), without(printed, "metadata", "annotations"))


def test_a_field_that_is_left_out_is_removed_and_a_foreign_one_stays() -> None:
    current = stored(declared(ROBOT))
    current["metadata"]["labels"]["theirs"] = "z"
    patch = change(declared(without(ROBOT, "metadata", "labels", "y")), current)
    assert patch is not None
    after = patches.merge_patch(current, patch)
    assert after["metadata"]["labels"] == {"x": "1", "theirs": "z"}
    assert after["spec"]["maxConcurrentJobs"] == 1


def test_drift_is_set_right() -> None:
    current = stored(declared(ROBOT))
    current["spec"]["environment"] = "test"
    assert change(declared(ROBOT), current) == {"spec": {"environment": "prod"}}


def test_the_annotation_is_kubectls_and_holds_no_status_or_system_fields() -> None:
    wanted = declared({**ROBOT, "metadata": {**ROBOT["metadata"], **SYSTEM}, "status": {"phase": "Idle"}})
    text = wanted["metadata"]["annotations"][LAST_APPLIED]
    assert json.loads(text) == ROBOT
    assert text.endswith("\n")
    assert "status" not in wanted


def test_a_damaged_annotation_is_as_good_as_none() -> None:
    current = stored(declared(ROBOT))
    for text in ("", "{", "[]"):
        current["metadata"]["annotations"][LAST_APPLIED] = text
        patch = change(declared(ROBOT), current)
        assert patch is not None
        assert list(patch) == ["metadata"]


# -- jobs --------------------------------------------------------------------------------------------------------

JOB: Object = {
    "apiVersion": "fleet.casare.net/v1",
    "kind": "Job",
    "metadata": {"name": "a"},
    "spec": {"workflowRef": {"name": "w"}, "requirements": {"tags": ["mine"]}},
}


def admitted(wanted: Object) -> Object:
    """A job after admission: with the workflow's requirements merged in and its defaults resolved."""
    obj = stored(wanted)
    obj["spec"] = {
        **wanted["spec"],
        "workflowRef": {"name": "w", "revision": "0123456789abcdef"},
        "requirements": {"tags": ["workflows", "mine"], "capabilities": ["browser"]},
        "priority": wanted["spec"].get("priority", 10),
    }
    return obj


def test_a_declared_job_carries_the_hash_of_what_it_declares() -> None:
    annotations = declared(JOB)["metadata"]["annotations"]
    assert annotations[DECLARED] == digest(JOB["spec"])
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1}) != digest({"a": 2})


def test_a_job_that_was_resolved_by_admission_is_unchanged() -> None:
    wanted = declared(JOB)
    assert change(wanted, admitted(wanted)) is None


def test_only_what_may_change_of_a_job_is_patched() -> None:
    current = admitted(declared(JOB))
    patch = change(declared({**JOB, "spec": {**JOB["spec"], "priority": 3}}), current)
    assert patch is not None
    assert patch["spec"] == {"priority": 3}


def test_a_jobs_mutable_field_that_is_left_out_again_is_removed() -> None:
    current = admitted(declared({**JOB, "spec": {**JOB["spec"], "priority": 3}}))
    patch = change(declared(JOB), current)
    assert patch is not None
    assert patch["spec"] == {"priority": None}


def test_any_other_change_of_a_job_goes_to_the_server_which_refuses_it() -> None:
    current = admitted(declared(JOB))
    patch = change(declared({**JOB, "spec": {**JOB["spec"], "parameters": {"x": 1}}}), current)
    assert patch is not None
    assert patch["spec"]["parameters"] == {"x": 1}


# -- the law -----------------------------------------------------------------------------------------------------

_SCALARS = st.integers(0, 3) | st.sampled_from(["a", "b"])
_KEYS = st.sampled_from(["p", "q", "r", "s"])
_SPECS = st.dictionaries(
    _KEYS,
    st.recursive(
        _SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=6
    ),
    max_size=4,
)


def robot(spec: Any) -> Object:
    return {**ROBOT, "spec": spec}


@given(_SPECS, _SPECS, _SPECS)
def test_after_any_history_an_apply_is_reached_in_one_step(first: Object, second: Object, theirs: Object) -> None:
    current = stored(declared(robot(first)))
    current["spec"] = patches.merge_patch(current["spec"], theirs)  # somebody else was at it
    wanted = declared(robot(second))
    patch = change(wanted, current)
    after = patches.merge_patch(current, patch) if patch is not None else current
    assert change(wanted, after) is None
    for key, value in second.items():
        if not isinstance(value, dict):
            assert after["spec"][key] == value
    for key in first:
        assert key in second or key not in after["spec"] or key in ("maxConcurrentJobs", "desiredState")
