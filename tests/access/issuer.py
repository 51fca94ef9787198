"""A small real issuer of sign-ins: OpenID discovery and keys over HTTP, and tokens that it signs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "casare"
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@dataclass
class Issuer:
    """`keys` are what it signs with, by their id; `asked` counts how often somebody wanted to know them."""

    url: str = ""
    keys: dict[str, Private] = field(default_factory=dict)
    extra: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0

    def token(self, kid: str = "one", key: Any = None, algorithm: str | None = None, headers: Any = None, **claims: Any) -> str:
        """A token for ada that is good for a minute, unless it is said otherwise; None leaves a claim out."""
        now = time.time()
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "groups": ["auditors"], "exp": now + 60, "nbf": now, **claims}
        key = self.keys[kid] if key is None else key
        algorithm = algorithm or ("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, key, algorithm, headers={"kid": kid, **(headers or {})})

    def documents(self) -> dict[str, Any]:
        return {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [*self.extra, *({**_public(key), "kid": kid} for kid, key in self.keys.items())]},
        }


def _public(key: Private) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        return RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return ECAlgorithm.to_jwk(key.public_key(), as_dict=True)


@contextmanager
def issuing(issuer: Issuer) -> Iterator[Issuer]:
    """The issuer while it is there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = issuer.documents().get(self.path)
            issuer.asked += self.path == "/keys"
            body = json.dumps(found).encode()
            self.send_response(200 if found is not None else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
