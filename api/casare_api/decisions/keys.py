"""Which secrets of an ApiKey are good and until when, and how does a new one take the place of the old one?

Always holds: a key that was taken back (revoked, run out, being deleted) opens nothing; it has at most two secrets that
are good, the one in its spec and, until an overlap ends, the one before; an overlap that has begun never grows. Pure
rules on ApiKeys as plain dicts; the time is always given.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from casare_api.kinds.kind import Object, dig
from casare_api.machinery import times
from casare_api.machinery.durations import format_duration, parse_duration
from casare_api.machinery.errors import ApiError

OVERLAP = timedelta(hours=24)  # where neither the request nor the key says how long
OVERLAP_AT_LEAST = timedelta(minutes=10)  # of a key that its robot rotates, where it is to have none
ROBOT_PATIENCE = timedelta(hours=1)  # a robot that has not rotated a key that is due by then is told of to people
DUE = "RotationDue"  # a condition
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_BEFORE = ("previousHash", "previousUntil")
_OF_SECRET = (*_BEFORE, "goodSince")  # another one has its own
_OVER = ("Expired", "Revoked")
ROBOT, PERSON = "Robot", "Person"  # who rotated a key last


@dataclass(frozen=True, slots=True)
class Good:
    """A secret that opens something, by its hash; `until` None is until somebody says otherwise."""

    hash: str
    until: datetime | None
    is_previous: bool = False

    def is_over(self, now: datetime) -> bool:
        return self.until is not None and self.until <= now


@dataclass(frozen=True, slots=True)
class Fresh:
    """A new secret: its hash, and what may be shown of it."""

    hash: str
    hint: str


def good(key: Object) -> tuple[Good, ...]:
    """The secrets of a key that open something, the one in its spec first; their time may be over by now."""
    spec, status = key["spec"], key.get("status") or {}
    is_taken_back = spec.get("revoked") or key["metadata"].get("deletionTimestamp") or status.get("phase") in _OVER
    if is_taken_back or not spec.get("hash"):
        return ()
    ends = times.from_text(spec["expiresAt"]) if spec.get("expiresAt") else None
    found = Good(spec["hash"], ends)
    previous, until = _previous(key)
    if previous is None or until is None or previous == spec["hash"]:
        return (found,)
    return found, Good(previous, until if ends is None else min(until, ends), True)


def opens(key: Object, now: datetime) -> bool:
    """Whether any of its secrets is good."""
    return any(not one.is_over(now) for one in good(key))


def is_taken_back(key: Object, now: datetime) -> bool:
    """Whether it opens nothing and never will, unless people say otherwise; one that has no secret yet may get one."""
    spec, ends = key["spec"], key["spec"].get("expiresAt")
    is_over = bool(ends) and times.from_text(ends) <= now
    return bool(spec.get("revoked") or key["metadata"].get("deletionTimestamp") or is_over)


def good_since(key: Object) -> datetime:
    """Since when there is a good secret without a break: since one was given out, or its revocation taken back.

    A rotation with an overlap is no break.
    """
    status = key.get("status") or {}
    given_out = status.get("goodSince") or status.get("issuedTime") or key["metadata"].get("creationTimestamp")
    found = (status.get("restoredTime"), given_out)
    return max((times.from_text(text) for text in found if text), default=_BEGINNING)


def robot_of(key: Object) -> str | None:
    """The uid of the one Robot that the key was made for as it joined; None for a key that is any Robot's of its name.

    What the server noted counts; only keys of a release that noted nothing are told by their owner, which people can
    change.
    """
    noted = dig(key, "status", "robotUID")
    owners = key["metadata"].get("ownerReferences") or ()
    return noted or next((owner["uid"] for owner in owners if owner["kind"] == "Robot"), None)


def may_be_of(key: Object, robot_uid: str) -> bool:
    """Whether a key for a Robot of this name can be this one's, whatever people make of its owners."""
    return dig(key, "status", "robotUID") in (None, robot_uid)


# -- what the server says in a key's status ------------------------------------------------------------------------


def settled(old: Object | None, new: Object, now: datetime) -> Object:
    """The status of a key as it is written by people: whether it is good, since when, and until when it was.

    A hash that takes the place of another one begins an overlap where the key's rotation names one; else what was good
    before is not any more.
    """
    spec, status = new["spec"], dict(new.get("status") or {})
    was, has = dig(old, "spec", "hash") if old is not None else None, spec.get("hash")
    if was != has:
        _without(status, *_OF_SECRET, "hint", "issuedTime", "rotatedBy")
        overlap = parse_duration(dig(spec, "rotation", "overlap") or "0")
        status |= {"issuedTime": times.to_text(now)} if has else {}
        status |= _kept(old, was, _later(now, overlap)) if old and was and has and overlap else {}
    expires = spec.get("expiresAt")
    is_expired = bool(expires) and times.from_text(expires) <= now
    status["phase"] = "Revoked" if spec.get("revoked") else "Expired" if is_expired else "Active"
    if status["phase"] != "Revoked":
        status.pop("revokedTime", None)
    elif "revokedTime" not in status:
        status["revokedTime"] = times.to_text(now, micro=True)
    if status["phase"] != "Active":
        status.pop("restoredTime", None)
    elif old is not None and is_taken_back(old, now):
        status["restoredTime"] = times.to_text(now, micro=True)
    return _with_due(new, status, now)


def issued(key: Object, fresh: Fresh, now: datetime) -> Object:
    """A key that had none, with its first secret. Raises ApiError 409 where it has one."""
    name = key["metadata"]["name"]
    if key["spec"].get("hash"):
        why = f"casare keys rotate {name} gives out another in its place"
        raise ApiError(409, "Conflict", f'apikey "{name}" has a key already, which nobody can see again: {why}')
    return _renewed(key, fresh, {"issuedTime": times.to_text(now)}, now)


def rotated(key: Object, fresh: Fresh, now: datetime, overlap: timedelta | None = None) -> Object:
    """A key with a new secret, made by a person; the one before stays good until the overlap ends.

    `overlap` None is as its spec says, else 24 hours; with 0 every secret before is bad at once. Raises ApiError 409
    where there is nothing to rotate, and within an overlap: to drop the older secret of two early could lock out those
    who have not heard of the newer one.
    """
    _check_rotatable(key)
    if overlap is None:
        overlap = _overlap(key)
    if overlap and not _is_alone(key, now):
        until, name = dig(key, "status", "previousUntil"), key["metadata"]["name"]
        why = f"the one before is good until {until}: rotate it then, or with an overlap of 0, which cuts both off"
        raise ApiError(409, "Conflict", f'apikey "{name}" has two keys already: {why}')
    kept = _kept(key, key["spec"]["hash"], _later(now, overlap)) if overlap else {}
    return _renewed(key, fresh, {**kept, "issuedTime": times.to_text(now), "rotatedBy": PERSON}, now)


def rotated_itself(key: Object, fresh: Fresh, now: datetime, used: str) -> Object:
    """A robot's key with a new secret, made with the secret whose hash is `used`; that one stays good for the overlap.

    Whoever still uses the one before did not get the newer one, which is dropped; the overlap goes on as it was. Where
    the spec wants none it is ten minutes: an answer that was lost would lock the robot out. Raises ApiError 409 where
    it is not due.
    """
    _check_rotatable(key)
    if not is_due(key, now, used):
        when = dig(key, "status", "rotationDueTime")
        why = f"it is due at {when}" if when else "its spec.rotation.every is not set"
        raise ApiError(409, "Conflict", f'apikey "{key["metadata"]["name"]}" is not rotated by its robot yet: {why}')
    previous, until = _previous(key)
    if used == previous and until is not None:
        kept = _kept(key, used, until)
    else:
        kept = _kept(key, used, _later(now, _overlap(key) or OVERLAP_AT_LEAST))
    return _renewed(key, fresh, {**kept, "issuedTime": times.to_text(now), "rotatedBy": ROBOT}, now)


def due_at(key: Object) -> datetime | None:
    """When its secret is to be replaced by a new one."""
    text = dig(key, "status", "rotationDueTime")
    return times.from_text(text) if text else None


def is_due(key: Object, now: datetime, used: str) -> bool:
    """Whether a robot that uses this secret should rotate its key now: it is old enough, or a newer one got lost."""
    if used == dig(key, "status", "previousHash"):
        return bool(dig(key, "status", "rotatedBy") == ROBOT)
    at = due_at(key)
    return at is not None and at <= now


def tidied(key: Object, now: datetime) -> Object:
    """The key without what is over by now, and with what people should know; the same object where that is nothing."""
    status = dict(key.get("status") or {})
    _, until = _previous(key)
    if "previousHash" in status and (until is None or until <= now):
        _without(status, *_BEFORE)
    at, said = due_at(key), _says_due(status)
    patience = ROBOT_PATIENCE if key["spec"].get("role") == "robot" else timedelta()
    if opens(key, now) and at is not None and _later(at, patience) <= now and not said:
        status["conditions"] = [*_other_conditions(status), _condition(key, at, now)]
    return key if status == (key.get("status") or {}) else {**key, "status": status}


def says_due(key: Object) -> bool:
    """Whether people are told that it should be rotated."""
    return _says_due(key.get("status") or {})


def due_message(key: Object) -> str:
    """What people are told of a key that should be rotated."""
    return next((str(one.get("message") or "") for one in _all(key.get("status") or {}) if one.get("type") == DUE), "")


# -- steps -----------------------------------------------------------------------------------------------------------


def _previous(key: Object) -> tuple[str | None, datetime | None]:
    status = key.get("status") or {}
    until = status.get("previousUntil")
    return status.get("previousHash"), times.from_text(until) if until else None


def _is_alone(key: Object, now: datetime) -> bool:
    _, until = _previous(key)
    return until is None or until <= now


def _overlap(key: Object) -> timedelta:
    said = dig(key, "spec", "rotation", "overlap")
    return OVERLAP if said is None else parse_duration(said)


def _kept(key: Object, hashed: str, until: datetime) -> Object:
    """What a rotation says of the secret that stays good, and of since when one is."""
    since = good_since(key)
    said = {"previousHash": hashed, "previousUntil": times.to_text(until, micro=True)}
    return said | ({"goodSince": times.to_text(since, micro=True)} if since > _BEGINNING else {})


def _check_rotatable(key: Object) -> None:
    name, spec = key["metadata"]["name"], key["spec"]
    if not spec.get("hash"):
        raise ApiError(409, "Conflict", f'apikey "{name}" has no key yet: POST .../apikeys/{name}/token gives it out')
    if not good(key):
        phase = dig(key, "status", "phase")
        state = "is being deleted" if key["metadata"].get("deletionTimestamp") else f"is {phase}"
        raise ApiError(409, "Conflict", f'apikey "{name}" {state}: what opens nothing is not rotated')


def _renewed(key: Object, fresh: Fresh, said: Object, now: datetime) -> Object:
    status = dict(key.get("status") or {})
    _without(status, *_OF_SECRET)
    new = {**key, "spec": {**key["spec"], "hash": fresh.hash}}
    return {**new, "status": _with_due(new, {**status, **said, "hint": fresh.hint}, now)}


def _with_due(key: Object, status: Object, now: datetime) -> Object:
    """The status with the time at which the secret is due, which follows from its age."""
    every = dig(key, "spec", "rotation", "every")
    since = status.get("issuedTime") or key["metadata"].get("creationTimestamp") or times.to_text(now)
    if every and key["spec"].get("hash"):
        status["rotationDueTime"] = times.to_text(_later(times.from_text(since), parse_duration(every)))
    else:
        status.pop("rotationDueTime", None)
    at = status.get("rotationDueTime")
    if _says_due(status) and (at is None or times.from_text(at) > now):
        others = _other_conditions(status)
        status = {**status, "conditions": others} if others else _without(status, "conditions")
    return status


def _condition(key: Object, at: datetime, now: datetime) -> Object:
    name, every = key["metadata"]["name"], dig(key, "spec", "rotation", "every")
    age = format_duration(parse_duration(every)) if every else "its time"
    who = "its robot has not rotated it by itself" if key["spec"].get("role") == "robot" else "it goes on working"
    message = f"older than {age} since {times.to_text(at)}; {who}: casare keys rotate {name}"
    changed = times.to_text(now)
    return {"type": DUE, "status": "True", "reason": "Old", "message": message, "lastTransitionTime": changed}


def _says_due(status: Object) -> bool:
    return any(one.get("type") == DUE and one.get("status") == "True" for one in _all(status))


def _other_conditions(status: Object) -> list[Any]:
    return [one for one in _all(status) if one.get("type") != DUE]


def _all(status: Object) -> list[Object]:
    """The conditions; not what is none: a release before let people write anything there."""
    said = status.get("conditions")
    return [one for one in said if isinstance(one, dict)] if isinstance(said, list) else []


def _without(status: Object, *fields: str) -> Object:
    for field in fields:
        status.pop(field, None)
    return status


def _later(moment: datetime, span: timedelta) -> datetime:
    return moment + span if span < _END_OF_TIME - moment else _END_OF_TIME

