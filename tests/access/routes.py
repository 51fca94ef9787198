"""Which routes are there? All that the running server says of itself, each with what it does in the words of rules.

Nothing is listed by hand: a kind, a subresource or a path that is added is here by itself.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass

from casare_api.kinds import SERVED
from casare_apiserver.routes import _NAMED, _SPECIAL, parse

from ..api.conftest import MERGE, Api

NEVER = "watch=true&resourceVersion=999999999999"  # a watch from then ends at once, where it is allowed at all
_FILLED = {"name": "nobody", "revision": "0" * 16, "sha256": "0" * 64, "file": "f", "hash": "0" * 64}
_ONE = {"get": "get", "head": "get", "put": "update", "patch": "patch", "delete": "delete", "post": "create"}
_ALL = {**_ONE, "get": "list", "delete": "deletecollection"}


_WATCHED = {kind.plural for kind in SERVED}


@dataclass(frozen=True)
class Route:
    """One request that can be made of an object that there is not; `does` is `jobs/log create`."""

    method: str
    path: str
    does: str
    namespace: str | None

    def __str__(self) -> str:
        return f"{self.method} {self.path} ({self.does})"


def documented(api: Api) -> dict[str, list[str]]:
    """Each path of the API's own documents with its methods."""
    found: dict[str, list[str]] = {}
    for document in api.call("GET", "/openapi/v3").json()["paths"].values():
        for path, item in api.call("GET", document["serverRelativeURL"]).json()["paths"].items():
            found[path] = [method for method in item if method in _ONE]
    return found


def routes(api: Api, namespaces: list[str]) -> Iterator[Route]:
    """All routes of resources: of namespaces in each of these."""
    known = documented(api)
    for path, methods in known.items():
        for namespace in namespaces if "{namespace}" in path else [None]:
            filled = path.replace("{namespace}", namespace or "")
            for name, value in _FILLED.items():
                filled = filled.replace(f"{{{name}}}", value)
            assert "{" not in filled, f"what stands for {filled}?"
            meant = parse(filled)
            if meant is None:
                continue
            named = "/".join(filter(None, (meant.plural, meant.subresource)))
            for method in methods:
                verb = (_ONE if meant.name else _ALL)[method]
                verb = "create" if (meant.plural, method) == ("blobs", "put") else verb
                yield Route(method.upper(), filled, f"{named} {verb}", namespace)
                if verb == "list" and meant.plural in _WATCHED:
                    yield Route("GET", f"{filled}?{NEVER}", f"{named} watch", namespace)


def undocumented(api: Api) -> set[tuple[str, str]]:
    """Subresources that the router serves and no document has."""
    there = {(path.plural, path.subresource or "") for one in routes(api, ["x"]) if (path := parse(one.path.partition("?")[0]))}
    return (_SPECIAL | _NAMED) - there


class Caller:
    """Somebody with a key, or ("") without one, on one connection."""

    def __init__(self, api: Api, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", api.server.port, timeout=30)
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def asks(self, route: Route) -> int:
        """The code of the answer. Nothing is ever changed by it, also where it is allowed."""
        path = route.path
        if route.does.endswith("deletecollection"):
            path += "?dryRun=All"
        type_ = MERGE if route.method == "PATCH" else "application/json"
        body = b"{}" if route.method not in ("GET", "HEAD") else None
        self._connection.request(route.method, path, body, {**self._headers, "content-type": type_})
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status < 500 or answer.status == 504, (str(route), text)
        if answer.status in (401, 403) and route.method != "HEAD":
            assert json.loads(text)["kind"] == "Status", str(route)
        return answer.status

    def close(self) -> None:
        self._connection.close()
