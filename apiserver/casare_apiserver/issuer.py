"""Which keys does the issuer of sign-ins sign with? Found by OIDC discovery, kept, and asked for anew when needed.

The issuer is asked in a thread, never on the event loop, and at most once in some seconds, whatever tokens come. While
it can't be reached, the keys that are known go on being good.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jwt
import orjson
import structlog

from casare_api.machinery.errors import ApiError

RETRY = 5.0  # seconds between questions to the issuer
RENEWED = 600.0  # seconds after which keys are asked for again, to hear of one that was taken back
PATIENCE = 5.0  # seconds that the issuer may take
MOST = 1024 * 1024  # bytes of an answer
WEAKEST = 2048  # bits of an RSA key
ALGORITHMS = {"RSA": ("RS256", "RS384", "RS512"), "EC": ("ES256", "ES384", "ES512")}
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and the algorithms that it may sign with."""

    kid: str | None
    key: Any = field(repr=False)
    algorithms: tuple[str, ...]


@dataclass(slots=True)
class Issuer:
    """The keys of one issuer. `version` is another one whenever they are other keys."""

    url: str
    trust: ssl.SSLContext
    version: int = 0
    _keys: tuple[SigningKey, ...] | None = None
    _asked_at: float = -RENEWED  # loop time
    _known_at: float = -RENEWED
    _asking: asyncio.Task[None] | None = None

    async def keys(self, kid: str | None, algorithm: str) -> list[SigningKey]:
        """Those that may have signed a token with this header. Raises ApiError 503 when none were ever learned."""
        found = self._fitting(kid, algorithm)
        now = asyncio.get_running_loop().time()
        if found and now - self._known_at > RENEWED:
            self._ask()  # nobody waits for that
        elif not found:
            await asyncio.shield(self._ask())
            found = self._fitting(kid, algorithm)
        if self._keys is None:
            raise ApiError.unavailable("the issuer of sign-ins can't be reached: try again in a moment, or use a key")
        return found

    def _fitting(self, kid: str | None, algorithm: str) -> list[SigningKey]:
        return [
            one for one in self._keys or () if algorithm in one.algorithms and (kid is None or one.kid in (None, kid))
        ]

    def _ask(self) -> asyncio.Future[None]:
        """Asks the issuer, unless it was asked just now; what is under way is waited for."""
        loop = asyncio.get_running_loop()
        if self._asking is None or self._asking.done():
            if loop.time() - self._asked_at < RETRY:
                done = loop.create_future()
                done.set_result(None)
                return done
            self._asked_at = loop.time()
            self._asking = loop.create_task(self._learn(), name="oidc-keys")
        return self._asking

    async def _learn(self) -> None:
        try:
            found = await asyncio.to_thread(fetch, self.url, self.trust)
        except Exception as error:  # whatever the network or the issuer comes up with
            log.warning("the keys of the issuer of sign-ins can't be read", issuer=self.url, why=_line(error))
            return
        known = [(one.kid, _numbers(one)) for one in self._keys or ()]
        if known != [(one.kid, _numbers(one)) for one in found]:
            self.version += 1
        self._keys, self._known_at = found, asyncio.get_running_loop().time()


def check_url(url: str) -> None:
    """An issuer is asked over HTTPS, or on this computer. Raises ValueError."""
    parts = urlsplit(url)
    is_local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not (parts.scheme == "https" or is_local) or not parts.hostname:
        raise ValueError(f"an issuer's address begins with https://, not {url[:100]!r}")


def fetch(url: str, trust: ssl.SSLContext) -> tuple[SigningKey, ...]:
    """The keys that the issuer has now. Raises ValueError, httpx2.HTTPError."""
    with httpx2.Client(verify=trust, timeout=PATIENCE, follow_redirects=False) as client:
        found = _get(client, url.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != url:
            raise ValueError(f"it says that it is the issuer {str(found.get('issuer'))[:100]!r}")
        jwks = str(found.get("jwks_uri") or "")
        check_url(jwks)
        said = _get(client, jwks).get("keys")
    keys = [key for one in (said if isinstance(said, list) else []) if (key := _key(one)) is not None]
    if not keys:
        raise ValueError("it has no key that a token may be signed with (RSA of 2048 bits, or EC)")
    return tuple(keys)


def _get(client: httpx2.Client, url: str) -> Mapping[str, Any]:
    with client.stream("GET", url) as answer:
        answer.raise_for_status()
        body = b""
        for part in answer.iter_bytes():
            body += part
            if len(body) > MOST:
                raise ValueError(f"its answer is longer than {MOST} bytes")
    said = orjson.loads(body)
    if not isinstance(said, dict):
        raise ValueError("its answer is no JSON object")
    return said


def _key(said: Any) -> SigningKey | None:
    """A key that may sign; None for any other, also one that would be shared with the issuer (HS256)."""
    if not isinstance(said, dict) or said.get("use") not in (None, "sig") or said.get("kty") not in ALGORITHMS:
        return None
    try:
        key = jwt.PyJWK(said).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    algorithms = ALGORITHMS[said["kty"]]
    if getattr(key, "key_size", 0) < (WEAKEST if said["kty"] == "RSA" else 256) or hasattr(key, "private_numbers"):
        return None
    kid = said.get("kid")
    named = said.get("alg")
    return SigningKey(
        kid if isinstance(kid, str) else None, key,
        tuple(one for one in algorithms if named in (None, one)),
    )


def _numbers(key: SigningKey) -> Any:
    return key.key.public_numbers()


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).split("\n")[0][:200]
