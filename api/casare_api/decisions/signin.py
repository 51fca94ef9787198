"""Who is it that a sign-in speaks of? What the claims of an OIDC token say, once its signature was found to be good.

A user has no role: all that he may do is bound to his name or his groups. Both get a prefix, so that no issuer can name
somebody that is the server's to name; what would be such a name all the same is nobody's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from casare_api.decisions.access import RESERVED, Identity

LEEWAY = timedelta(seconds=30)  # that clocks may differ by
LONGEST, MOST_GROUPS = 600, 1000
_ADMIN = "admin"  # what the server's own admin key is called
_LAST = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)


class NotSignedIn(Exception):
    """Why a token is nobody's, in words that may be told to whoever holds it."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Which claims are meant, and what their values get in front."""

    username: str = "sub"
    username_prefix: str = "oidc:"
    groups: str = "groups"
    groups_prefix: str = "oidc:"


def identity(said: Mapping[str, Any], meant: Claims, now: datetime) -> Identity:
    """Who the claims speak of, until their `exp`. Raises NotSignedIn."""
    expires = _time(said, "exp")
    if expires is None:
        raise NotSignedIn("the token says no exp: it must expire")
    if now >= expires + LEEWAY:
        raise NotSignedIn("the token has expired: sign in again")
    begins = _time(said, "nbf")
    if begins is not None and now < begins - LEEWAY:
        raise NotSignedIn("the token is not good yet: is a clock wrong?")
    return Identity(_username(said, meant), "user", groups=_groups(said, meant), expires=expires + LEEWAY)


def _time(said: Mapping[str, Any], claim: str) -> datetime | None:
    value = said.get(claim)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not math.isfinite(value)):  # an int may be too big for a float
        raise NotSignedIn(f"the token's {claim} is no time")
    if not 0 <= value <= _LAST.timestamp():
        raise NotSignedIn(f"the token's {claim} is out of range")
    return datetime.fromtimestamp(value, UTC)


def _username(said: Mapping[str, Any], meant: Claims) -> str:
    value = said.get(meant.username)
    if not isinstance(value, str) or not value or len(value) > LONGEST or not value.isprintable():
        raise NotSignedIn(f"the token says no user: its claim {meant.username} must be a text")
    if meant.username == "email" and said.get("email_verified", True) is not True:
        raise NotSignedIn("the token's email is not verified")
    name = meant.username_prefix + value
    if name == _ADMIN or name.startswith(RESERVED):
        raise NotSignedIn("the token's user has a name that is the server's own to give")
    return name


def _groups(said: Mapping[str, Any], meant: Claims) -> tuple[str, ...]:
    value = said.get(meant.groups) or []
    found = [value] if isinstance(value, str) else value
    is_right = isinstance(found, list) and len(found) <= MOST_GROUPS
    if not is_right or not all(isinstance(one, str) and len(one) <= LONGEST for one in found):
        raise NotSignedIn(f"the token's groups can't be read: its claim {meant.groups} must be a list of texts")
    named = (meant.groups_prefix + one for one in found if one.isprintable())
    return tuple(dict.fromkeys(name for name in named if not name.startswith(RESERVED)))
