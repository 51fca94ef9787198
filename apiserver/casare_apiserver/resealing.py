"""How does an admin bring Secrets under another key? Step by step: the route that counts them and seals them anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from casare_api.kinds import GROUP, Object
from casare_api.machinery.errors import ApiError
from casare_apiserver.wire import Request
from casare_store import resealing
from casare_store.resealing import Place, Server, Step
from casare_store.sealing import Sealer
from casare_store.store import Store


@dataclass(frozen=True, slots=True)
class Resealing:
    """The handler of .../sealing."""

    store: Store

    async def step(self, request: Request) -> None:
        """GET counts, POST seals anew. Raises ApiError 400, 405, 409 where an apiserver lacks the key, 503 without one.

        Whoever goes on where the last answer ended, until one says no more, has seen all.
        """
        if request.method not in ("GET", "HEAD", "POST"):
            raise ApiError(405, "MethodNotAllowed", "Secrets are counted by GET and sealed anew by POST")
        at, sealer, writes = Place.parse(request.query.get("continue", "")), self.store.sealer, request.method == "POST"
        if sealer is None:
            raise ApiError.unavailable("this apiserver has no key to seal Secrets with: set its CASARE_SECRET_KEY")
        servers = await resealing.servers(self.store)
        if writes:
            check_known(sealer, servers)
        found = await resealing.step(self.store, sealer, at, writes=writes)
        await request.object(200, _shown(sealer, servers, found))


def check_known(sealer: Sealer, servers: Sequence[Server]) -> None:
    """Nothing comes under a key that an apiserver can't open it with. Raises ApiError 409."""
    for server in servers:
        if sealer.key_id not in server.keys:
            why = f"the apiserver at {place(server)} can't open what is sealed with the key {sealer.key_id}: name that "
            raise ApiError(409, "Conflict", f"{why}in its CASARE_SECRET_KEY_FALLBACKS and restart it first")


def place(server: Server) -> str:
    """Where an apiserver is, for people."""
    return server.address or "the database's own computer"


def _shown(sealer: Sealer, servers: Sequence[Server], found: Step) -> Object:
    return {
        "apiVersion": f"{GROUP}/v1", "kind": "SecretSealing",
        "metadata": {"continue": str(found.next)} if found.next is not None else {},
        "key": sealer.key_id, "opens": list(sealer.key_ids),
        "apiservers": [{"key": one.keys[0], "opens": list(one.keys), "address": one.address} for one in servers],
        "part": found.part, "found": dict(found.found), "resealed": found.resealed,
        "broken": [{"key": one.key, "name": one.name} for one in found.broken],
    }  # fmt: skip
