"""What is a key, and what is kept of it? The same for whoever makes one: the server, the command, an agent.

Always holds: a secret is 256 bits of chance behind a prefix that says what it is for; what is kept is its SHA-256, and
a hint that tells it from others.
"""

from __future__ import annotations

import hashlib
import secrets

KEY, JOIN_TOKEN = "crpa_", "cjt_"  # prefixes: of ApiKeys, and of JoinTokens
BITS = 256


def new(prefix: str = KEY) -> str:
    """A secret that nobody has."""
    return prefix + secrets.token_urlsafe(BITS // 8)


def digest(secret: str) -> str:
    """How it is kept: `sha256:` and the hex of its SHA-256."""
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def hint(secret: str) -> str:
    """What may be shown of it: enough to tell it from others."""
    return f"{secret[:5]}...{secret[-4:]}"
