"""Which secrets of a key are good, and how one takes the place of another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from casare_api.decisions import keys
from casare_api.decisions.access import Attempted, Identity, Verb, allowed
from casare_api.decisions.keys import Fresh
from casare_api.kinds import Object
from casare_api.kinds.apikey import ApiKeyStatus
from casare_api.machinery import times
from casare_api.machinery.errors import ApiError

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ONE, TWO, THREE = (f"sha256:{letter * 64}" for letter in "123")


def fresh(hashed: str) -> Fresh:
    return Fresh(hashed, f"crpa_...{hashed[-4:]}")


def apikey(role: str = "operator", hashed: str | None = ONE, **spec: Any) -> Object:
    """A key that was written an hour before NOW."""
    key: Object = {"metadata": {"name": "k"}, "spec": {"role": role, **({"hash": hashed} if hashed else {}), **spec}}
    return {**key, "status": keys.settled(None, key, NOW - HOUR)}


def changed(key: Object, now: datetime = NOW, **spec: Any) -> Object:
    new = {**key, "spec": {**key["spec"], **spec}}
    return {**new, "status": keys.settled(key, new, now)}


def hashes(key: Object, now: datetime = NOW) -> list[str]:
    return [one.hash for one in keys.good(key) if not one.is_over(now)]


def test_both_keys_are_good_until_the_overlap_ends() -> None:
    key = keys.rotated(apikey(), fresh(TWO), NOW, 2 * HOUR)
    assert hashes(key) == [TWO, ONE] == hashes(key, NOW + 2 * HOUR - timedelta(microseconds=1))
    assert hashes(key, NOW + 2 * HOUR) == [TWO]
    assert key["status"]["hint"] == "crpa_...2222" and key["status"]["issuedTime"] == times.to_text(NOW)


@pytest.mark.parametrize(
    ("rotation", "asked", "lasts"),
    [(None, None, DAY), ({"overlap": "3h"}, None, 3 * HOUR), ({"overlap": "3h"}, HOUR, HOUR)],
)
def test_the_overlap_is_what_was_asked_else_the_keys_else_a_day(
    rotation: Object | None, asked: timedelta | None, lasts: timedelta
) -> None:
    key = keys.rotated(apikey(rotation=rotation), fresh(TWO), NOW, asked)
    assert times.from_text(key["status"]["previousUntil"]) == NOW + lasts


def test_without_an_overlap_the_old_one_is_bad_at_once() -> None:
    key = keys.rotated(apikey(rotation={"overlap": "3h"}), fresh(TWO), NOW, timedelta())
    assert hashes(key) == [TWO] and "previousHash" not in key["status"]


def test_within_an_overlap_a_person_can_only_cut_off_both() -> None:
    key = keys.rotated(apikey(), fresh(TWO), NOW, HOUR)
    with pytest.raises(ApiError, match="has two keys already") as refused:
        keys.rotated(key, fresh(THREE), NOW)
    assert refused.value.status == 409
    assert hashes(keys.rotated(key, fresh(THREE), NOW, timedelta())) == [THREE]
    assert hashes(keys.rotated(key, fresh(THREE), NOW + HOUR, HOUR), NOW + HOUR) == [THREE, TWO]


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (apikey(hashed=None), "has no key yet"),
        (apikey(revoked=True), "is Revoked"),
        (apikey(expiresAt="2026-01-01T00:00:00Z"), "is Expired"),
        ({**apikey(), "metadata": {"name": "k", "deletionTimestamp": times.to_text(NOW)}}, "is being deleted"),
    ],
)
def test_what_opens_nothing_is_not_rotated(key: Object, why: str) -> None:
    with pytest.raises(ApiError, match=why):
        keys.rotated(key, fresh(TWO), NOW)


def test_no_secret_outlives_its_key() -> None:
    soon = times.to_text(NOW + HOUR)
    key = keys.rotated(apikey(expiresAt=soon), fresh(TWO), NOW, DAY)
    assert hashes(key, NOW + HOUR) == [] and all(one.until == NOW + HOUR for one in keys.good(key))
    assert hashes(changed(keys.rotated(apikey(), fresh(TWO), NOW), revoked=True)) == []


def test_a_robot_rotates_its_key_when_it_is_due_and_not_before() -> None:
    key = apikey("robot", robotName="r", rotation={"every": "90d", "overlap": "1h"})
    due = keys.due_at(key)
    assert due is not None and not keys.is_due(key, due - timedelta(seconds=1), ONE) and keys.is_due(key, due, ONE)
    with pytest.raises(ApiError, match="it is due at"):
        keys.rotated_itself(key, fresh(TWO), NOW, ONE)
    new = keys.rotated_itself(key, fresh(TWO), due, ONE)
    assert hashes(new, due) == [TWO, ONE] and hashes(new, due + HOUR) == [TWO]
    assert keys.due_at(new) == due + 90 * DAY


def test_a_robot_that_did_not_get_its_new_key_rotates_again_within_the_same_overlap() -> None:
    key = apikey("robot", robotName="r", rotation={"every": "90d", "overlap": "1h"})
    due = keys.due_at(key)
    assert due is not None
    lost = keys.rotated_itself(key, fresh(TWO), due, ONE)
    assert keys.is_due(lost, due, ONE) and not keys.is_due(lost, due, TWO)
    again = keys.rotated_itself(lost, fresh(THREE), due + HOUR / 2, ONE)
    assert hashes(again, due + HOUR / 2) == [THREE, ONE] and hashes(again, due + HOUR) == [THREE]


def test_a_robot_leaves_alone_what_a_person_rotated() -> None:
    key = keys.rotated(apikey("robot", robotName="r", rotation={"every": "90d"}), fresh(TWO), NOW)
    assert not keys.is_due(key, NOW, ONE)
    with pytest.raises(ApiError):
        keys.rotated_itself(key, fresh(THREE), NOW, ONE)
    with pytest.raises(ApiError, match="every is not set"):
        keys.rotated_itself(apikey("robot", robotName="r"), fresh(TWO), NOW, ONE)


def test_a_hash_changed_by_hand_has_an_overlap_where_the_key_names_one() -> None:
    plain = changed(keys.issued(apikey(hashed=None), fresh(ONE), NOW), hash=TWO)
    assert hashes(plain) == [TWO] and "hint" not in plain["status"]
    assert hashes(changed(apikey(rotation={"overlap": "1h"}), hash=TWO)) == [TWO, ONE]
    assert hashes(changed(apikey(rotation={"overlap": "1h"}), hash=None)) == []


def test_other_changes_leave_the_overlap_as_it_is() -> None:
    key = keys.rotated(apikey(), fresh(TWO), NOW, HOUR)
    assert changed(key, description="x")["status"] == key["status"]


def test_a_revocation_has_a_time_and_can_be_taken_back() -> None:
    gone = changed(apikey(), revoked=True)
    assert times.from_text(gone["status"]["revokedTime"]) == NOW
    assert changed(gone, NOW + DAY, description="x")["status"]["revokedTime"] == gone["status"]["revokedTime"]
    back = changed(gone, revoked=False)
    assert hashes(back) == [ONE] and "revokedTime" not in back["status"]


def test_since_when_a_key_is_good_again_is_known() -> None:
    key = changed(apikey())
    assert keys.good_since(key) == NOW - HOUR and "restoredTime" not in key["status"]
    revoked = changed(key, NOW + HOUR, revoked=True)
    restored = changed(revoked, NOW + 2 * HOUR, revoked=False)
    assert keys.good_since(restored) == NOW + 2 * HOUR
    assert keys.good_since(changed(restored, NOW + 3 * HOUR, description="x")) == NOW + 2 * HOUR
    expired = changed(key, NOW + HOUR, expiresAt=times.to_text(NOW))
    assert keys.good_since(changed(expired, NOW + 2 * HOUR, expiresAt=None)) == NOW + 2 * HOUR
    assert "restoredTime" not in changed(restored, NOW + 3 * HOUR, revoked=True)["status"]


def test_an_overlap_is_no_break_in_since_when_a_key_is_good() -> None:
    key = changed(apikey("robot", robotName="r", rotation={"every": "90d", "overlap": "1h"}), NOW)
    due = keys.due_at(key)
    assert due is not None
    by_person, by_hand = keys.rotated(key, fresh(TWO), NOW), changed(key, hash=TWO)
    by_robot = keys.rotated_itself(key, fresh(TWO), due, ONE)
    again = keys.rotated_itself(by_robot, fresh(THREE), due + HOUR / 2, ONE)  # the answer was lost
    for rotated in (by_person, by_hand, by_robot, again):
        over = keys.tidied(rotated, due + DAY)
        assert keys.good_since(rotated) == keys.good_since(over) == NOW - HOUR and "previousHash" not in over["status"]
        assert keys.good_since(keys.rotated(over, fresh(ONE), due + DAY, HOUR)) == NOW - HOUR
        for cut in (keys.rotated(over, fresh(ONE), due + DAY, timedelta()), changed(over, due + DAY, hash=ONE, rotation=None)):
            assert keys.good_since(cut) == due + DAY and "goodSince" not in cut["status"]
        gone = changed(over, due + DAY, revoked=True)
        assert keys.good_since(changed(gone, due + 2 * DAY, revoked=False)) == due + 2 * DAY
    restored = changed(changed(key, revoked=True), NOW + HOUR, revoked=False)
    assert keys.good_since(keys.rotated(restored, fresh(TWO), NOW + 2 * HOUR)) == NOW + HOUR


def test_a_robots_key_may_be_rotated_by_itself_and_is_given_no_other_way() -> None:
    who = Identity("k", "robot", "team", "r", "uid", key_hash=ONE, key_name="k")

    def may(subresource: str | None, namespace: str = "team", verb: Verb = "create", name: str | None = "k") -> bool:
        return allowed(who, Attempted(verb, "apikeys", subresource, namespace, name))

    assert may("rotate")
    assert not any((may("token"), may(None), may("rotate", "other"), may("rotate", verb="get"), may(None, verb="get")))
    assert not may("rotate", name="other") and not may("rotate", name=None)


def test_people_are_told_of_keys_that_are_due_and_robots_get_a_while() -> None:
    for role, patience in (("operator", timedelta()), ("robot", keys.ROBOT_PATIENCE)):
        key = apikey(role, robotName="r", rotation={"every": "1d"})
        due = keys.due_at(key)
        assert due is not None
        early = due + patience - timedelta(seconds=1)
        assert keys.tidied(key, early) is key
        told = keys.tidied(key, due + patience)
        assert keys.says_due(told) and keys.tidied(told, due + DAY) is told
        assert hashes(told, due + DAY) == [ONE], "nobody is cut"
        assert not keys.says_due(keys.rotated(told, fresh(TWO), due + patience))
        assert not keys.says_due(changed(told, due + patience, rotation=None))


def test_what_is_over_is_tidied_away() -> None:
    key = keys.rotated(apikey(), fresh(TWO), NOW, HOUR)
    assert keys.tidied(key, NOW) is key
    assert "previousHash" not in keys.tidied(key, NOW + HOUR)["status"]


def test_times_beyond_the_calendar_are_its_end() -> None:
    late = datetime(9999, 12, 31, tzinfo=UTC)
    key = {**apikey(rotation={"every": "36500d"})}
    assert keys.rotated(key, fresh(TWO), late, 36500 * DAY)["status"]["previousUntil"].startswith("9999-12-31")


@pytest.mark.parametrize("said", [["x", None, 3], "x", {"type": "RotationDue"}, [[]]])
def test_conditions_that_are_none_keep_nobody_from_what_is_to_be_said(said: Any) -> None:
    issued = "2026-01-01T00:00:00Z"
    status = {"phase": "Active", "issuedTime": issued, "rotationDueTime": "2026-02-01T00:00:00Z", "conditions": said}
    key = {"metadata": {"name": "k"}, "spec": {"role": "viewer", "hash": "h", "rotation": {"every": "31d"}}, "status": status}
    new = keys.tidied(key, times.from_text("2026-03-01T00:00:00Z"))
    assert keys.says_due(new) and "casare keys rotate k" in keys.due_message(new)
    assert [one["type"] for one in new["status"]["conditions"]] == ["RotationDue"]
    with pytest.raises(ValidationError):
        ApiKeyStatus.model_validate({"conditions": said})
