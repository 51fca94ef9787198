"""What a job looks like that does again what another one did."""

from __future__ import annotations

from typing import Any

import pytest

from casare_api.decisions import retrying
from casare_api.kinds import Object
from casare_api.kinds.job import FINAL, JOB, JobPhase
from casare_api.machinery import admission, templates
from casare_api.machinery.errors import ApiError

REVISION = "0123456789abcdef"
WAS: Object = {
    "runner": "command",
    "priority": 5,
    "timeout": "30m",
    "retry": {"limit": 2},
    "concurrency": {"key": "sap-{{ parameters.user }}", "limit": 1},
    "requirements": {"environment": "production", "capabilities": ["browser"], "tags": ["finance"]},
}


def ended(phase: str = "Failed", meta: Object | None = None, **spec: Any) -> Object:
    """A job as it is stored, with what its workflow said."""
    return {
        "apiVersion": JOB.api_version,
        "kind": "Job",
        "metadata": {"name": "invoices-x7k2p", "namespace": "n", "uid": "u-1", "resourceVersion": "7", **(meta or {})},
        "spec": {
            "workflowRef": {"name": "invoices", "revision": REVISION},
            "parameters": {"user": "ann", "month": "2026-10"},
            **{key: value for key, value in WAS.items() if key != "runner"},
            "concurrency": {"key": "sap-ann", "limit": 1},
            **spec,
        },
        "status": {"phase": phase, "attempt": 3, "exitCode": 7},
    }


def test_parameters_stay_and_what_the_workflow_said_is_left_to_the_workflow() -> None:
    spec = retrying.again(ended(), WAS)["spec"]
    assert spec == {"workflowRef": {"name": "invoices"}, "parameters": {"user": "ann", "month": "2026-10"}}


def test_what_the_job_itself_asked_for_stays() -> None:
    requirements = {**WAS["requirements"], "tags": ["finance", "sap"], "robotName": "pc-01"}
    own = ended(priority=0, timeout="1h", startDeadline="2h", notBefore="2026-11-23T06:00:00Z",
                concurrency={"key": "mine", "limit": 2}, requirements=requirements)  # fmt: skip
    spec = retrying.again(own, WAS)["spec"]
    assert spec["requirements"] == {"tags": ["sap"], "robotName": "pc-01"}
    assert spec["concurrency"] == {"key": "mine", "limit": 2}
    assert (spec["priority"], spec["timeout"], spec["startDeadline"]) == (0, "1h", "2h")
    assert spec["notBefore"] == "2026-11-23T06:00:00Z"


def test_a_key_that_looks_like_a_place_to_fill_in_stays_what_it_is() -> None:
    key = "{{ parameters.user }} of {{x}}"
    for was in (WAS, None):
        kept = retrying.again(ended(concurrency={"key": key, "limit": 1}), was)["spec"]["concurrency"]
        assert templates.render(kept["key"], {"parameters": {"user": "ann"}}) == key and kept["limit"] == 1


def test_what_was_said_of_the_first_job_alone_is_not_said_again() -> None:
    once = {"cancel": True, "idempotencyKey": "k", "retryOf": {"name": "a", "uid": "u-0"}}
    assert retrying.again(ended(**once), WAS)["spec"].keys().isdisjoint(once)


def test_where_nobody_knows_the_revision_any_more_all_stays_as_it_was() -> None:
    spec = retrying.again(ended(), None)["spec"]
    assert spec["workflowRef"] == {"name": "invoices"}
    assert spec["timeout"] == "30m" and spec["requirements"] == WAS["requirements"]


def test_a_name_grows_once_and_not_with_every_retry() -> None:
    assert retrying.again(ended(), WAS)["metadata"]["generateName"] == "invoices-x7k2p-"
    generated = ended(meta={"generateName": "invoices-"})
    assert retrying.again(generated, WAS)["metadata"]["generateName"] == "invoices-"


def test_labels_and_annotations_stay_but_not_those_that_tell_of_the_manifest() -> None:
    annotations = {"team": "blue", "fleet.casare.net/declared": "hash"}
    meta = {"labels": {"site": "berlin", retrying.RETRY_OF: "u-0"}, "annotations": annotations, "finalizers": ["a/b"]}
    made = retrying.again(ended(meta=meta), WAS)["metadata"]
    assert made["labels"] == {"site": "berlin", retrying.RETRY_OF: "u-1"}
    assert made["annotations"] == {"team": "blue"}
    assert made.keys() <= {"generateName", "namespace", "labels", "annotations"}


def test_who_made_the_first_job_does_not_own_the_second_one() -> None:
    schedule = {"kind": "Schedule", "name": "nightly", "uid": "s", "apiVersion": JOB.api_version, "controller": True}
    other = {"kind": "Workflow", "name": "invoices", "uid": "w", "apiVersion": JOB.api_version}
    made = retrying.again(ended(meta={"ownerReferences": [schedule, other]}), WAS)
    assert made["metadata"]["ownerReferences"] == [other]


@pytest.mark.parametrize("phase", sorted(set(JobPhase) - FINAL))
def test_a_job_that_has_not_ended_is_not_retried(phase: str) -> None:
    with pytest.raises(ApiError, match=f"it is {phase}, and only a job that has ended can be retried") as refused:
        retrying.again(ended(phase), WAS)
    assert refused.value.status == 409


@pytest.mark.parametrize("phase", sorted(FINAL))
def test_every_job_that_has_ended_makes_a_job_that_is_admitted(phase: str) -> None:
    made = retrying.again(ended(phase), WAS)
    assert admission.admit(JOB, made)[0]["spec"] == made["spec"]
    assert "status" not in made


def test_the_job_that_ended_is_not_touched() -> None:
    one, same = ended(), ended()
    retrying.again(one, WAS)
    assert one == same
