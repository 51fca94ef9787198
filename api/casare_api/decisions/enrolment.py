"""May this robot join by this token, and what comes of it? Pure: the shell is `casare_apiserver.enrolling`.

Always holds: a token makes robots that are not there and changes none that is, so that nobody takes over another's by
one; nor is there a key then that is good for the new robot and was not made for it. What the token says of environment
and labels wins. Whoever asks again with the hash of the key that he made for the robot is that robot's agent, which
lost the answer: it gets it again, and no use is spent.
"""

from __future__ import annotations

import fnmatch
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from casare_api.decisions import keys
from casare_api.decisions.approval import APPROVED, ENROLLED_BY
from casare_api.kinds.apikey import APIKEY
from casare_api.kinds.jointoken import DEFAULT_TTL, JOINTOKEN, TokenPhase
from casare_api.kinds.kind import Object, dig
from casare_api.kinds.robot import ROBOT
from casare_api.machinery import times
from casare_api.machinery.durations import parse_duration
from casare_api.machinery.errors import ApiError
from casare_api.machinery.names import robot_name

SHOWN = 100  # of the robots that joined by a token
REGISTERED_BY = "fleet.casare.net/registered-by"  # annotation: its agent keeps the Robot to its settings


@dataclass(frozen=True, slots=True)
class Applicant:
    """What an agent says of itself. `key_hash` is that of the key it made, None where the server shall make one."""

    robot_id: str
    display_name: str | None = None
    environment: str | None = None
    capabilities: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    slots: int = 1
    key_hash: str | None = None

    @property
    def name(self) -> str:
        return robot_name(self.robot_id)


def expires(token: Object, made: datetime) -> datetime:
    """When a token made at that time stops being good."""
    last = datetime.max.replace(tzinfo=made.tzinfo)
    return made + min(parse_duration(dig(token, "spec", "ttl") or DEFAULT_TTL), last - made)


def phase(token: Object, end: datetime, now: datetime) -> TokenPhase:
    """What a token that is good until `end` is now: what can't be helped by waiting comes first."""
    if dig(token, "spec", "revoked"):
        return TokenPhase.REVOKED
    if end <= now:
        return TokenPhase.EXPIRED
    return TokenPhase.USED_UP if left(token) <= 0 else TokenPhase.ACTIVE


def left(token: Object) -> int:
    """How many more may join by it."""
    return int(dig(token, "spec", "uses") or 1) - int(dig(token, "status", "used") or 0)


def settled(token: Object, made: datetime, now: datetime) -> Object:
    """The token with what the server says of it."""
    end = expires(token, made)
    said = {
        "phase": phase(token, end, now).value,
        "used": int(dig(token, "status", "used") or 0),
        "usesLeft": max(left(token), 0),
        "expiresAt": times.to_text(end),
    }
    return {**token, "status": {**(token.get("status") or {}), **said}}


def check(token: Object, hashed: str, name: str, now: datetime) -> None:
    """Whether a robot of that name may join by the token now. Raises ApiError 401, 403."""
    called, meta = f'join token "{token["metadata"]["name"]}"', token["metadata"]
    if not hmac.compare_digest(str(dig(token, "spec", "hash") or ""), hashed) or meta.get("deletionTimestamp"):
        raise unknown()
    end = expires(token, times.from_text(meta["creationTimestamp"]))
    match phase(token, end, now):
        case TokenPhase.REVOKED:
            raise _forbidden(f"{called} was revoked: ask for another one")
        case TokenPhase.EXPIRED:
            raise _forbidden(f"{called} expired at {times.to_text(end)}: ask for another one")
        case TokenPhase.USED_UP:
            uses = dig(token, "spec", "uses") or 1
            raise _forbidden(f"{called} is used up ({uses} of {uses}): ask for another one")
    pattern = dig(token, "spec", "namePattern") or "*"
    if not fnmatch.fnmatchcase(name, pattern):
        raise _forbidden(f'{called} is for robots named "{pattern}", and this one would be "{name}": set its robotId')


def is_repeated(asked: Applicant, robot: Object | None, known: tuple[Object | None, ...], token: Object) -> bool:
    """Whether this very robot has joined before with this very key, by this token."""
    if robot is None or asked.key_hash is None:
        return False
    by = (robot["metadata"].get("annotations") or {}).get(ENROLLED_BY)
    return by == token["metadata"]["name"] and any(
        key is not None
        and hmac.compare_digest(str(key["spec"].get("hash") or ""), asked.key_hash)
        and keys.robot_of(key) == robot["metadata"]["uid"]
        for key in known
    )


def check_alone(robot: Object, there: Sequence[Object], now: datetime) -> None:
    """Whether none of the keys that are for a robot of its name would be good for it. Raises ApiError 409."""
    name, uid = robot["metadata"]["name"], robot["metadata"]["uid"]
    good = [key for key in there if keys.may_be_of(key, uid) and not keys.is_taken_back(key, now)]
    others = [key["metadata"]["name"] for key in good]
    if others:
        why = f'apikey "{others[0]}" is for a robot "{name}" and would be good for this one too: revoke or delete it '
        why = f"{why}(casare keys revoke {others[0]}), or set another robotId"
        raise ApiError(409, "Conflict", why, {"group": APIKEY.group, "kind": APIKEY.plural, "name": others[0]})


def taken(name: str) -> ApiError:
    """There is a robot of that name."""
    why = f'robot "{name}" is there already, and a join token makes new ones alone: give its agent a key of its own '
    why = f"{why}(casare keys create), delete the robot, or set another robotId"
    return ApiError(409, "Conflict", why, {"group": ROBOT.group, "kind": ROBOT.plural, "name": name})


def shared() -> ApiError:
    """The key that the agent made is another ApiKey's, or was until that got another."""
    return ApiError(409, "Conflict", "keyHash: another key has it: make a new key")


def unknown() -> ApiError:
    """What was shown is no join token, or none any more."""
    return ApiError(401, "Unauthorized", "this is no join token of this server: it may have been deleted")


def robot_of(token: Object, asked: Applicant) -> Object:
    """The Robot as it joins: what its agent says, and what the token says over it."""
    spec, meta = token["spec"], token["metadata"]
    notes = {REGISTERED_BY: "agent", ENROLLED_BY: meta["name"]}
    if spec.get("approval") == "Manual":
        notes[APPROVED] = "false"
    metadata: dict[str, Any] = {"name": asked.name, "namespace": meta["namespace"], "annotations": notes}
    if spec.get("labels"):
        metadata["labels"] = dict(spec["labels"])
    said = {
        "robotId": asked.robot_id,
        "displayName": asked.display_name or asked.robot_id,
        "environment": spec.get("environment") or asked.environment or "default",
        "capabilities": list(asked.capabilities),
        "tags": list(asked.tags),
        "maxConcurrentJobs": asked.slots,
    }
    return {"apiVersion": ROBOT.api_version, "kind": ROBOT.kind, "metadata": metadata, "spec": said}


def key_of(robot: Object, hashed: str, name: str) -> Object:
    """The robot's own ApiKey, which goes with it."""
    meta = robot["metadata"]
    owner = {"apiVersion": ROBOT.api_version, "kind": ROBOT.kind, "name": meta["name"], "uid": meta["uid"]}
    by = (meta.get("annotations") or {}).get(ENROLLED_BY)
    return {
        "apiVersion": APIKEY.api_version,
        "kind": APIKEY.kind,
        "metadata": {"name": name, "namespace": meta["namespace"], "ownerReferences": [owner]},
        "spec": {
            "role": "robot",
            "robotName": meta["name"],
            "description": f"made when the robot joined by the join token {by}",
            "hash": hashed,
        },
    }


def bound(key: Object, robot: Object) -> Object:
    """The key with the server's note of whose it is, which outlasts its ownerReferences."""
    return {**key, "status": {**(key.get("status") or {}), "robotUID": robot["metadata"]["uid"]}}


def spent(token: Object, robot: Object, now: datetime) -> Object:
    """The token after this robot joined by it."""
    status = token.get("status") or {}
    meta = robot["metadata"]
    one = {"name": meta["name"], "uid": meta["uid"], "time": times.to_text(now)}
    counted = {"used": int(status.get("used") or 0) + 1, "enrolled": [*(status.get("enrolled") or ()), one][-SHOWN:]}
    after = {**token, "status": {**status, **counted}}
    return settled(after, times.from_text(token["metadata"]["creationTimestamp"]), now)


def _forbidden(why: str) -> ApiError:
    return ApiError(403, "Forbidden", why, {"kind": JOINTOKEN.plural})
