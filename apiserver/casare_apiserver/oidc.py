"""Whose is this token? OpenID Connect bearer tokens of one issuer, as a setting beside the keys.

A token is believed when it is signed by a key of the issuer (RS or ES algorithms and no others), was made by it for
this server, and is good now by the database's clock. What was found good is remembered for as long as it and the
issuer's keys stay good, so that a request costs a look-up.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import jwt
import structlog

from casare_api.decisions import signin
from casare_api.decisions.access import Identity
from casare_api.decisions.signin import Claims, NotSignedIn
from casare_api.machinery.errors import ApiError
from casare_apiserver.issuer import ALGORITHMS, Issuer, check_url

LONGEST = 32 * 1024  # characters of a token
REMEMBERED = 10_000  # tokens
_ALLOWED = frozenset(one for group in ALGORITHMS.values() for one in group)
# What pyjwt leaves to us: it would ask this machine's clock.
_CHECKED = {"require": ["exp", "iss", "aud"], "verify_exp": False, "verify_nbf": False, "verify_iat": False}
# What comes of bytes that anybody may send: also numbers that are too big, and brackets that are too deep.
_MALFORMED = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SignIns:
    """The tokens of one issuer for one audience. `now` is the database's clock."""

    issuer: Issuer
    audience: str
    claims: Claims
    now: Callable[[], datetime]
    _found: dict[str, Identity] = field(default_factory=dict, repr=False)  # by the digest of the token
    _version: int = 0  # of the issuer's keys, that they were found with

    @classmethod
    def of(
        cls, url: str, audience: str, claims: Claims, ca_file: Path | None, now: Callable[[], datetime]
    ) -> SignIns:
        """Raises ValueError for an address that can't be an issuer's, OSError for a file that is not there."""
        check_url(url)
        trust = ssl.create_default_context(cafile=str(ca_file) if ca_file is not None else None)
        return cls(Issuer(url, trust), audience, claims, now)

    def known(self, digest: str) -> Identity | None:
        """The holder of a token that was found good before, and is."""
        self._forget_after_renewal()
        known = self._found.get(digest)
        return known if known is not None and known.expires is not None and known.expires > self.now() else None

    async def identify(self, token: str, digest: str) -> Identity:
        """The holder of a token. Raises ApiError 401, 503."""
        known = self.known(digest)
        if known is not None:
            return known
        try:
            found = signin.identity(await self._verified(token), self.claims, self.now())
        except NotSignedIn as why:
            log.info("a sign-in was refused", why=str(why))
            raise ApiError(401, "Unauthorized", f"Unauthorized: {why}") from None
        self._forget_after_renewal()  # it was verified with the keys as they are now
        self._found.pop(digest, None)
        while len(self._found) >= REMEMBERED:
            self._found.pop(next(iter(self._found)))
        self._found[digest] = found
        return found

    def _forget_after_renewal(self) -> None:
        """What was found with other keys of the issuer than it has now is looked at again."""
        if self._version != self.issuer.version:
            self._found.clear()
            self._version = self.issuer.version

    async def _verified(self, token: str) -> dict[str, object]:
        """The claims of a token that is ours. Raises ApiError 401, 503, NotSignedIn."""
        algorithm, kid = _header(token)
        for key in await self.issuer.keys(kid, algorithm):
            try:
                said: dict[str, object] = jwt.decode(
                    token, key.key, algorithms=[algorithm], audience=self.audience, issuer=self.issuer.url,
                    options=_CHECKED,  # type: ignore[arg-type]
                )
                return said
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidAudienceError:
                raise NotSignedIn("the token was made for another audience") from None
            except jwt.InvalidIssuerError:
                raise NotSignedIn("the token was made by another issuer") from None
            except jwt.MissingRequiredClaimError as error:
                raise NotSignedIn(f"the token says no {error.claim}") from None
            except _MALFORMED:
                break
        raise ApiError.unauthorized()


def is_token(text: str) -> bool:
    """Whether this could be a signed token: three parts of base64, of which the first begins with a brace."""
    return text.startswith("eyJ") and text.count(".") == 2 and len(text) <= LONGEST


def _header(token: str) -> tuple[str, str | None]:
    """Algorithm and key id. Raises ApiError 401."""
    try:
        said = jwt.get_unverified_header(token)
    except _MALFORMED:
        raise ApiError.unauthorized() from None
    algorithm, kid = said.get("alg"), said.get("kid")
    if not isinstance(algorithm, str) or algorithm not in _ALLOWED or not isinstance(kid, str | None):
        raise ApiError.unauthorized()
    return algorithm, kid
