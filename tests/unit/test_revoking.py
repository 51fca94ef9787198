"""What becomes of a robot's jobs when the last of its keys is taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from casare_api.decisions import lifecycle, revoking
from casare_api.decisions.revoking import Lockout
from casare_api.kinds import Object
from casare_api.machinery import times

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HASH = "sha256:" + "1" * 64


def key(name: str = "k", on_revoke: str = "Requeue", revoked: datetime | None = None, **more: Any) -> Object:
    spec = {"role": "robot", "robotName": "r", "hash": HASH, "onRevoke": on_revoke, "revoked": revoked is not None}
    status = {"phase": "Revoked", "revokedTime": times.to_text(revoked, micro=True)} if revoked else {"phase": "Active"}
    meta = {"name": name} | more.pop("metadata", {})
    return {"metadata": meta, "spec": {**spec, **more}, "status": status}


def job(is_running: bool = True, on_lost: str = "Requeue", at: datetime = NOW - MINUTE, **spec: Any) -> Object:
    made = lifecycle.queue({"metadata": {"name": "j", "uid": "u"}, "spec": {"retry": {"onRobotLost": on_lost}}}, at)
    made = lifecycle.assign({**made, "spec": {**made["spec"], **spec}}, "r", "robot-uid", at)
    return lifecycle.report(made, "robot-uid", {"attempt": 1, "phase": "Running"}, at) if is_running else made


def out(on_revoke: str = "Requeue", at: datetime = NOW) -> Lockout:
    return Lockout("k", at, "revoked", on_revoke)


def test_a_robot_with_another_good_key_is_not_locked_out() -> None:
    gone = key("old", revoked=NOW)
    assert revoking.lockout([gone, key("new")], NOW) is None
    assert revoking.lockout([gone], NOW) == Lockout("old", NOW, "revoked", "Requeue")
    assert revoking.lockout([gone, key("never-issued", hash=None)], NOW) is not None
    overlap = {"phase": "Active", "previousHash": HASH, "previousUntil": times.to_text(NOW + MINUTE)}
    assert revoking.lockout([gone, {**key("rotated"), "status": overlap}], NOW) is None


def test_a_robot_that_never_had_a_key_is_not_locked_out() -> None:
    assert revoking.lockout([], NOW) is None
    assert revoking.lockout([key(hash=None, revoked=NOW)], NOW) is None


def test_the_key_that_was_taken_back_last_decides() -> None:
    found = revoking.lockout([key("a", "Cancel", NOW - MINUTE), key("b", "Finish", NOW)], NOW)
    assert found is not None and (found.key, found.on_revoke) == ("b", "Finish")


def test_a_key_goes_bad_by_revocation_expiry_and_deletion_the_earliest_counts() -> None:
    expired = key(expiresAt=times.to_text(NOW - MINUTE))
    deleted = key(metadata={"deletionTimestamp": times.to_text(NOW)})
    found = [revoking.lockout([one], NOW) for one in (expired, deleted, {**expired, "spec": deleted["spec"]})]
    assert [one and (one.how, one.at) for one in found] == [
        ("expired", NOW - MINUTE), ("deleted", NOW + timedelta(seconds=1)), None,
    ]  # fmt: skip
    both = revoking.lockout([key(revoked=NOW, expiresAt=times.to_text(NOW - MINUTE))], NOW)
    assert both is not None and both.how == "expired"


@pytest.mark.parametrize(
    ("is_running", "on_lost", "phase"),
    [
        (True, "Requeue", "Queued"), (True, "Fail", "Failed"), (True, "Wait", "Running"),
        (False, "Requeue", "Queued"), (False, "Fail", "Queued"), (False, "Wait", "Queued"),
    ],
)  # fmt: skip
def test_requeue_starts_nothing_twice_that_may_run_once(is_running: bool, on_lost: str, phase: str) -> None:
    after = revoking.fate(job(is_running, on_lost), out(), NOW)
    assert after["status"]["phase"] == phase
    if phase != "Running":
        assert after["status"]["attempts"][-1]["reason"] == revoking.REASON


@pytest.mark.parametrize("is_running", [True, False])
def test_cancel_ends_the_job_for_everybody(is_running: bool) -> None:
    after = revoking.fate(job(is_running), out("Cancel"), NOW)
    assert (after["status"]["phase"], after["status"]["reason"]) == ("Cancelled", "KeyRevoked")
    assert "key k of robot r was revoked" in after["status"]["message"]


def test_finish_leaves_the_job_to_its_robot() -> None:
    running = job()
    assert revoking.fate(running, out("Finish"), NOW) is running and revoking.may_finish(running, out("Finish"))
    assert not revoking.may_finish(running, out()) and not revoking.may_finish(running, None)


@pytest.mark.parametrize("on_revoke", ["Finish", "Requeue", "Cancel"])
def test_what_a_robot_got_later_it_got_under_another_name(on_revoke: str) -> None:
    later = job(at=NOW + MINUTE)
    assert revoking.fate(later, out(on_revoke), NOW + MINUTE) is later
    assert not revoking.may_finish(later, out(on_revoke))


def test_a_deleted_key_waits_for_its_jobs_where_there_may_be_any() -> None:
    held = revoking.held(key())
    assert held["metadata"]["finalizers"] == [revoking.HELD] and revoking.held(held) is held
    assert "finalizers" not in revoking.let_go(held)["metadata"]
    others = revoking.held(key(metadata={"finalizers": ["example.com/keep"]}))
    assert revoking.let_go(others)["metadata"]["finalizers"] == ["example.com/keep"]
    for plain in (key(on_revoke="Finish"), key(hash=None), key(role="viewer")):
        assert revoking.held(plain) is plain


@pytest.mark.parametrize("on_revoke", ["Requeue", "Cancel", "Finish"])
def test_what_runs_with_self_fence_ends_by_its_fence_and_nowhere_begins_before(on_revoke: str) -> None:
    fenced = job(retry={"onRobotLost": "Requeue", "selfFence": True})
    after = revoking.fate(fenced, out(on_revoke), NOW)
    assert after["status"] == fenced["status"] and not revoking.may_finish(fenced, out(on_revoke))
    assert bool(after["spec"].get("cancel")) is (on_revoke == "Cancel")
    assert revoking.fate(after, out(on_revoke), NOW) is after, "once"
    if on_revoke == "Requeue":
        begun_nowhere = job(is_running=False, retry={"onRobotLost": "Requeue", "selfFence": True})
        assert revoking.fate(begun_nowhere, out(on_revoke), NOW)["status"]["phase"] == "Queued"
