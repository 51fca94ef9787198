"""Who is calling, and may he? That is answered without the database: of it only the change log is there in here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from casare_store import embedded

from ..conftest import until
from .conftest import Api, QuickServer, Robot, is_status, message

DISCOVERY, WHO = "/apis/fleet.casare.net/v1", "/apis/authentication.k8s.io/v1/selfsubjectreviews"
# Whoever reads the log keeps its connections; without it no key is believed for long.
_END_OTHERS = """
SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
WHERE datname = %s AND application_name NOT IN ('casare-log', 'casare-listen')"""


@pytest.fixture
def alone(database: str, tmp_path: Path) -> Iterator[Api]:
    """The admin at an apiserver without a controller, on a database of its own."""
    server = QuickServer(database, tmp_path)
    try:
        server.run("apiserver", "-m", "casare_apiserver")
        until(server.is_ready, lambda: f"the apiserver is ready; {server.log('apiserver')}")
        found = Api(server)
        yield found
        found.close()
    finally:
        server.stop()


@contextmanager
def only_the_log_is_there(postgres: embedded.Server, database: str) -> Iterator[None]:
    """Nothing can be asked of the database: all other connections are gone, and it takes no new ones."""
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            connection.execute(_END_OTHERS, (name,))
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def code(caller: Api, method: str, path: str, **more: Any) -> int:
    return caller.call(method, path, **more).status_code


def test_a_caller_is_known_and_let_in_without_a_round_trip(postgres: embedded.Server, alone: Api) -> None:
    viewer, robot = alone.of(alone.issue_key("ann", "viewer")), Robot(alone, "pc-01").api
    callers, one = (alone, viewer, robot), alone.path("Robot", "pc-01")
    assert [code(caller, "GET", DISCOVERY) for caller in callers] == [200] * 3  # they are known from here on
    with only_the_log_is_there(postgres, alone.server.database):
        for _ in range(10):
            assert [code(caller, "GET", DISCOVERY) for caller in callers] == [200] * 3
            selected = [caller.call("GET", caller.path("Robot"), params={"fieldSelector": "no=1"}) for caller in callers[:2]]
            assert all("field label not supported: no" in message(answer, 400) for answer in selected), "they may list"
            assert code(robot, "POST", WHO, json={}) == 201
            assert is_status(robot.delete("Robot", "pc-01"), 403, "Forbidden")
            assert is_status(alone.http.post(WHO, json={}), 403, "Forbidden"), "nobody"
        # What has to look, and so shows that nothing else did: who asks for an object; a key that nobody knows, which may
        # have been made just now; and who would be refused, and may have been given what he asks for just now.
        for answer in (viewer.call("GET", one), alone.call("GET", one, key="crpa_of-nobody"), viewer.call("DELETE", one)):
            assert is_status(answer, 503, "ServiceUnavailable")
    until(lambda: code(viewer, "GET", one) == 200, "the database is back")
    until(lambda: code(alone, "GET", one, key="crpa_of-nobody") == 401, "and nobody knows that key")
    until(lambda: code(viewer, "DELETE", one) == 403, "nor that anybody may delete robots")
