"""What does every answer tell a browser, whatever it is? That it is nothing to run, to frame, to guess or to leak.

What is the same for all goes out with uvicorn's own headers, also with its answers to what is no HTTP; the policy for
content depends on the path: the pages at /docs and /redoc load their scripts from elsewhere, all else is data.
"""

from __future__ import annotations

DATA = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_CDN = "https://cdn.jsdelivr.net"  # where the scripts of FastAPI's pages are; what they show is this server's alone
_PAGE = (b"content-security-policy", (
    f"default-src 'none'; script-src 'unsafe-inline' {_CDN}; style-src 'unsafe-inline' {_CDN} "
    "https://fonts.googleapis.com; font-src https://fonts.gstatic.com; img-src 'self' data: https:; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
).encode())  # fmt: skip
_PAGES = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc"})


def of_all(hsts_seconds: int = 0) -> list[tuple[str, str]]:
    """For every answer of a listener; over TLS with the seconds in which browsers ask this host in no other way."""
    found = [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")]
    return [*found, ("strict-transport-security", f"max-age={hsts_seconds}")] if hsts_seconds else found


def policy(path: str) -> tuple[bytes, bytes]:
    """What a browser may load and run for what FastAPI serves at a path."""
    return _PAGE if path.rstrip("/") in _PAGES else DATA
