"""From which address does a request come? The connection's, or what proxies that are trusted say of it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from casare_apiserver.wire import Scope, header

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
UNKNOWN = "unknown"  # of a connection that has none, such as one over a socket of this computer


@dataclass(frozen=True)
class Addresses:
    """`proxies` may say for whom they ask, in X-Forwarded-For; from all others that header means nothing."""

    proxies: tuple[Network, ...] = ()

    def trusts(self, address: str) -> bool:
        """Whether an address is a proxy that asks for many."""
        return bool(self.proxies) and _is_in(address, self.proxies)

    @classmethod
    def parse(cls, text: str) -> Addresses:
        """From addresses and networks with commas between. Raises ValueError with one line for people."""
        found = []
        for part in filter(None, (one.strip() for one in text.split(","))):
            try:
                found.append(ipaddress.ip_network(part, strict=False))
            except ValueError:
                raise ValueError(f"{part[:60]!r} is no address and no network, such as 10.0.0.0/8") from None
        return cls(tuple(found))

    def of(self, scope: Scope) -> str:
        """The address of whoever asks: behind trusted proxies the last one that none of them vouches for."""
        client = scope.get("client")
        peer = str(client[0]) if client else UNKNOWN
        if not self.proxies or not _is_in(peer, self.proxies):
            return peer
        for said in reversed(header(scope, b"x-forwarded-for").split(",")):
            address = _address(said.strip())
            if address is None:
                return peer
            peer = address
            if not _is_in(peer, self.proxies):
                return peer
        return peer


@lru_cache(maxsize=4096)
def _is_in(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found  # as a socket of version 6 shows one of version 4
    return any(found in network for network in networks)


def _address(text: str) -> str | None:
    """An address as it is written, None for anything else; some proxies add the port."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
