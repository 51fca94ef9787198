"""Who may join by a token, what comes of it, and whether a robot that joined may take work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from casare_api.decisions import approval, enrolment, instances, keys
from casare_api.decisions.access import Identity, robot_may_write
from casare_api.decisions.enrolment import Applicant
from casare_api.decisions.reasons import reasons
from casare_api.decisions.requirements import Requirements, Robot
from casare_api.kinds.robot import ROBOT
from casare_api.machinery import times
from casare_api.machinery.admission import admit
from casare_api.machinery.errors import ApiError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HASH, KEY = "sha256:" + "a" * 64, "sha256:" + "b" * 64
UID = "01900000-0000-7000-8000-0000b486ee59"


def token(used: int = 0, **spec: Any) -> dict[str, Any]:
    made = times.to_text(NOW - timedelta(hours=1))
    whole = {"namePattern": "pc-*", "uses": 2, "ttl": "24h", "hash": HASH, **spec}
    metadata = {"name": "floor-2", "namespace": "berlin", "creationTimestamp": made}
    return {"metadata": metadata, "spec": whole, "status": {"used": used}}


def refused(one: dict[str, Any], name: str = "pc-07", hashed: str = HASH) -> tuple[int, str]:
    with pytest.raises(ApiError) as error:
        enrolment.check(one, hashed, name, NOW)
    return error.value.status, error.value.message


def test_a_token_lets_in_whom_it_names_as_often_and_as_long_as_it_says() -> None:
    enrolment.check(token(), HASH, "pc-07", NOW)
    enrolment.check(token(used=1, ttl="61m"), HASH, "pc-07", NOW)
    assert refused(token(used=2)) == (403, 'join token "floor-2" is used up (2 of 2): ask for another one')
    assert refused(token(ttl="1h"))[1].startswith('join token "floor-2" expired at 2026-11-23T12:00:00Z')
    assert refused(token(revoked=True, ttl="1h"))[1].startswith('join token "floor-2" was revoked')
    assert '"pc-*", and this one would be "laptop"' in refused(token(), "laptop")[1]
    assert refused(token(), hashed=KEY)[0] == 401
    gone = token()
    gone["metadata"]["deletionTimestamp"] = times.to_text(NOW)
    assert refused(gone)[0] == 401


@pytest.mark.parametrize(
    ("spec", "used", "phase", "left"),
    [({}, 1, "Active", 1), ({}, 2, "UsedUp", 0), ({"uses": 1}, 2, "UsedUp", 0), ({"ttl": "1h"}, 2, "Expired", 0),
     ({"revoked": True}, 0, "Revoked", 2), ({"ttl": "36500d"}, 0, "Active", 2)],
)  # fmt: skip
def test_a_tokens_phase_follows_from_what_people_allow(spec: Any, used: int, phase: str, left: int) -> None:
    one = token(used, **spec)
    status = enrolment.settled(one, times.from_text(one["metadata"]["creationTimestamp"]), NOW)["status"]
    assert (status["phase"], status["usesLeft"], status["used"]) == (phase, left, used)


def test_what_the_token_says_wins() -> None:
    asked = Applicant("PC 07", "Reception", "staging", ("browser",), ("sap",), 3)
    plain = enrolment.robot_of(token(), asked)
    assert plain["spec"]["environment"] == "staging" and approval.is_approved(plain)
    strict = enrolment.robot_of(token(environment="production", labels={"site": "b"}, approval="Manual"), asked)
    robot, warnings = admit(ROBOT, strict)
    assert not warnings and robot["metadata"]["labels"] == {"site": "b"} and not approval.is_approved(robot)
    assert robot["spec"] == {
        "robotId": "PC 07", "displayName": "Reception", "environment": "production", "capabilities": ["browser"],
        "tags": ["sap"], "maxConcurrentJobs": 3, "desiredState": "Active",
    }  # fmt: skip


def test_a_use_is_counted_and_the_robot_noted() -> None:
    robot = {"metadata": {"name": "pc-07", "uid": UID}}
    once = enrolment.spent(token(), robot, NOW)
    assert (once["status"]["used"], once["status"]["usesLeft"], once["status"]["phase"]) == (1, 1, "Active")
    assert once["status"]["enrolled"] == [{"name": "pc-07", "uid": UID, "time": "2026-11-23T12:00:00Z"}]
    many = token(uses=1000)
    for _ in range(enrolment.SHOWN + 5):
        many = enrolment.spent(many, robot, NOW)
    assert many["status"]["used"] == 105 and len(many["status"]["enrolled"]) == 100


def test_only_the_very_key_that_joined_may_ask_again() -> None:
    robot = enrolment.robot_of(token(), Applicant("pc-07"))
    robot["metadata"]["uid"] = UID
    key = enrolment.key_of(robot, KEY, "pc-07")

    def again(key_hash: str | None, there: Any, of: Any, by: Any) -> bool:
        return enrolment.is_repeated(Applicant("pc-07", key_hash=key_hash), there, (of,), by)

    assert again(KEY, robot, key, token())
    assert not again(HASH, robot, key, token()), "another key"
    assert not again(None, robot, key, token())
    assert not again(KEY, None, key, token()), "its robot was deleted"
    assert not again(KEY, robot, None, token())
    other = {**robot, "metadata": {**robot["metadata"], "uid": UID.replace("b486", "0000")}}
    assert not again(KEY, other, key, token()), "the key is that of a robot of this name before"
    declared = {**robot, "metadata": {"name": "pc-07", "uid": UID}}
    assert not again(KEY, declared, key, token())


def test_whose_a_key_is_nobody_can_change() -> None:
    robot = {"metadata": {"name": "pc-07", "namespace": "berlin", "uid": UID}}
    owned = enrolment.key_of(robot, KEY, "pc-07")
    assert keys.robot_of(owned) == UID, "of a release that noted nothing"
    noted = enrolment.bound(owned, robot)
    for owners in ([], [{"kind": "Robot", "name": "pc-07", "uid": UID.replace("b486", "0000")}]):
        assert keys.robot_of({**noted, "metadata": {**noted["metadata"], "ownerReferences": owners}}) == UID
        unnoted = {**owned, "metadata": {**owned["metadata"], "ownerReferences": owners}}
        assert keys.may_be_of(unnoted, UID), "its owners are people's to change"
    assert keys.may_be_of(noted, UID) and not keys.may_be_of(noted, UID.replace("b486", "0000"))


def test_nobody_joins_under_a_name_for_which_somebody_has_a_key() -> None:
    def old(**spec: Any) -> dict[str, Any]:
        said = {"role": "robot", "robotName": "pc-07", "hash": HASH, **spec}
        return {"metadata": {"name": "old", "namespace": "berlin"}, "spec": said, "status": {"phase": "Active"}}

    over, later = times.to_text(NOW), times.to_text(NOW + timedelta(seconds=1))
    going = old()
    going["metadata"]["deletionTimestamp"] = over
    robot = {"metadata": {"name": "pc-07", "uid": UID}}
    another = enrolment.bound(old(), {"metadata": {"uid": UID.replace("b486", "0000")}})
    back = [old(revoked=True), old(expiresAt=over), going, another]
    enrolment.check_alone(robot, back, NOW)
    for one in (old(), old(hash=None), old(expiresAt=later)):
        with pytest.raises(ApiError, match='apikey "old" is for a robot "pc-07"') as refusal:
            enrolment.check_alone(robot, [*back, one], NOW)
        assert refusal.value.status == 409


# -- approval ------------------------------------------------------------------------------------------------------


def robot_object(**notes: str) -> dict[str, Any]:
    annotations = {f"fleet.casare.net/{key.replace('_', '-')}": value for key, value in notes.items()}
    meta = {"name": "pc-07", "namespace": "berlin", "uid": UID, "annotations": annotations}
    return {"metadata": meta, "spec": {"environment": "production"}}


def test_a_robot_that_waits_for_approval_gets_no_jobs_online_or_not() -> None:
    waiting = robot_object(approved="false")
    for online in (True, False):
        seen = Robot.from_object(waiting, online=online)
        assert not seen.schedulable
        (why,) = reasons(Requirements(), "berlin", [seen])
        assert why["message"] == "the only robot, pc-07, is unapproved"
    for good in (robot_object(), robot_object(approved="true")):
        assert Robot.from_object(good).schedulable
    assert not approval.is_approved(robot_object(approved="yes")), "whatever is no clear yes"


def test_a_condition_says_whether_it_is_approved_and_since_when() -> None:
    assert approval.with_condition(robot_object(), NOW) == robot_object()
    waiting = approval.with_condition(robot_object(approved="false"), NOW)
    (said,) = waiting["status"]["conditions"]
    assert (said["type"], said["status"], said["reason"]) == ("Approved", "False", "AwaitingApproval")
    assert approval.with_condition(waiting, NOW + timedelta(hours=1)) is waiting
    ready = {"type": "Ready", "status": "True"}
    status = {"conditions": [ready, said]}
    let = approval.with_condition({**robot_object(approved="true"), "status": status}, NOW)
    assert [one["status"] for one in let["status"]["conditions"]] == ["True", "True"]


def test_a_robots_own_key_changes_nothing_that_its_enrolment_decided() -> None:
    own = Identity("pc-07", "robot", "berlin", "pc-07", "k", UID)
    robot = robot_object(enrolled_by="floor-2", approved="false")
    changed = {**robot, "spec": {**robot["spec"], "tags": ["sap"]}}
    assert robot_may_write(own, robot, changed)
    assert not robot_may_write(own, robot, robot_object(enrolled_by="floor-2", approved="true"))
    assert not robot_may_write(own, robot, robot_object(enrolled_by="floor-2"))
    assert not robot_may_write(own, robot, robot_object(approved="false"))
    assert not robot_may_write(own, robot, {**robot, "spec": {"environment": "staging"}})
    assert not robot_may_write(own, None, robot_object()), "it does not come back from deletion by itself"
    another = {**robot, "metadata": {**robot["metadata"], "uid": UID.replace("b486", "0000")}}
    assert not robot_may_write(own, another, another)
    made_by_hand = Identity("k", "robot", "berlin", "pc-07", "k")
    assert robot_may_write(made_by_hand, None, robot_object())
    assert not robot_may_write(made_by_hand, None, robot_object(approved="true")), "nobody approves himself"


# -- which agent is the robot --------------------------------------------------------------------------------------


def run_by(**agent: Any) -> dict[str, Any]:
    robot = robot_object()
    robot["status"] = {"phase": "Idle", "agent": {"hostname": "h", **agent}}
    return robot


LONG_AGO, JUST_NOW = times.to_text(NOW - timedelta(hours=1)), times.to_text(NOW - timedelta(seconds=2))
MINE = {"instance": "me", "place": "here"}


@pytest.mark.parametrize(
    ("before", "is_alive", "may"),
    [
        ({}, True, True),  # an agent of a release before
        ({"instance": "me", "place": "here", "since": JUST_NOW}, True, True),
        ({"instance": "dead", "place": "here", "since": JUST_NOW}, True, True),  # it was started again
        ({"instance": "other", "place": "there", "since": LONG_AGO}, True, False),
        ({"instance": "other", "place": "there", "since": LONG_AGO}, False, True),
        ({"instance": "other", "place": "there", "since": JUST_NOW}, False, False),  # its first heartbeat is on its way
        ({"instance": "other", "since": "when?"}, False, True),
    ],
)
def test_an_agent_takes_a_robot_that_nobody_else_runs(before: Any, is_alive: bool, may: bool) -> None:
    robot = run_by(**before)
    if not may:
        with pytest.raises(ApiError, match="is run by another agent on h"):
            instances.claimed(robot, MINE, is_alive, NOW)
        return
    after = instances.claimed(robot, MINE, is_alive, NOW)
    same = before.get("instance") == "me"
    assert after["status"]["agent"] == {**MINE, "since": JUST_NOW if same else times.to_text(NOW)}
    assert after["status"]["phase"] == "Idle" and instances.is_holder(after, "me") and instances.is_told(after, MINE)
    assert instances.claimed(after, MINE, is_alive, NOW + timedelta(minutes=1)) is after, "nothing to write"
