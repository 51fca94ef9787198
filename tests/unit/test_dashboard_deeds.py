"""What the dashboard offers to do to robots and keys, and what a filled-in form becomes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from casare_dashboard import declaring, key_views, robot_deeds

NOW = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)


def robot(used: int = 0, **spec: Any) -> dict[str, Any]:
    return {"kind": "Robot", "metadata": {"uid": "1"}, "spec": spec, "status": {"slots": {"used": used}}}


@pytest.mark.parametrize(("state", "offered"), [
    (None, ["pause", "drain", "restart"]), ("Active", ["pause", "drain", "restart"]),
    ("Paused", ["resume", "drain", "restart"]), ("Drained", ["pause", "resume", "restart"]),
])  # fmt: skip
def test_what_changes_nothing_is_not_offered(state: str | None, offered: list[str]) -> None:
    assert [deed.key for deed in robot_deeds.deeds(robot(**({"desiredState": state} if state else {})))] == offered


def test_a_robot_that_runs_jobs_is_not_drained_without_a_question() -> None:
    def question(one: dict[str, Any]) -> str:
        return next(deed.question for deed in robot_deeds.deeds(one) if deed.key == "drain")

    assert question(robot()) == ""
    assert "Of its job, those that still run after 15m go back to the queue." in question(robot(1))
    cancel = {"deadline": "1h", "then": "Cancel"}
    assert "Of its 2 jobs, those that still run after 1h are cancelled." in question(robot(2, drain=cancel))


def test_what_is_offered_is_a_patch_of_the_spec() -> None:
    patches = {deed.key: deed.patch() for deed in robot_deeds.deeds(robot(desiredState="Paused"))}
    assert patches["resume"] == {"spec": {"desiredState": "Active"}}
    assert patches["drain"] == {"spec": {"desiredState": "Drained"}}
    assert patches["restart"]["spec"]["restartRequestedAt"].endswith("Z")


def test_a_form_becomes_a_key() -> None:
    made = key_views.wanted(" pc-01 ", "payroll", "robot", "PC_01", "of Berlin", date(2027, 1, 1))
    assert made["metadata"] == {"name": "pc-01", "namespace": "payroll"}
    spec = made["spec"]
    assert (spec["role"], spec["description"], spec["expiresAt"]) == ("robot", "of Berlin", "2027-01-01T23:59:59Z")
    assert spec["robotName"].startswith("pc-01-"), "the name that a robot of this id has"
    assert key_views.wanted("eve", "payroll", "viewer", "", "", None)["spec"] == {"role": "viewer"}


@pytest.mark.parametrize(("name", "role", "robot", "why"), [
    (" ", "viewer", "", "Give the key a name"), ("Eve Smith", "viewer", "", "The name can't be used"),
    ("pc-01", "robot", " ", "needs the robot's id"), ("eve", "admin", "pc-01", "Only a key for a robot"),
])  # fmt: skip
def test_a_form_says_what_is_to_be_mended(name: str, role: str, robot: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        key_views.wanted(name, "payroll", role, robot, "", None)


def test_a_row_shows_a_hint_and_never_a_hash() -> None:
    meta = {"name": "pc-01", "namespace": "default", "uid": "1", "creationTimestamp": "2026-11-22T18:00:00Z"}
    spec = {"role": "robot", "robotName": "pc-01", "hash": "sha256:" + "0" * 64, "onRevoke": "Cancel"}
    key = {"kind": "ApiKey", "metadata": meta, "spec": spec, "status": {"phase": "Active", "hint": "crpa_...x7Qd"}}
    (row,) = key_views.rows([key], NOW)
    assert (row["Status"], row["Hint"], row["Age"]) == (["Active"], "crpa_...x7Qd", 7200.0)
    assert "sha256" not in str(row) and "sha256" not in str(key_views.details(key, NOW))
    (revoke,) = key_views.deeds(key)
    assert "Jobs that run under it are cancelled." in revoke.question and revoke.patch() == {"spec": {"revoked": True}}
    assert key_views.deeds({**key, "status": {"phase": "Revoked"}}) == []


def test_a_form_becomes_a_robot_and_what_was_left_empty_is_left_out() -> None:
    made = declaring.wanted(" PC_07 ", "", "payroll", "", 2, "browser, sap,,browser", "")
    assert made["metadata"]["namespace"] == "payroll" and made["metadata"]["name"].startswith("pc-07-")
    assert made["spec"] == {"robotId": "PC_07", "capabilities": ["browser", "sap"], "maxConcurrentJobs": 2}
    with pytest.raises(ValueError, match="Give the robot an id"):
        declaring.wanted(" ", "", "payroll", "", 1, "", "")
