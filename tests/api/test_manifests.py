"""Do the example manifests work as they stand: applied, applied again, and run by a robot?"""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from casare_api.kinds import Object, dig
from casare_cli.apply import apply_paths
from casare_client import Client
from tests.conftest import Server, until

MANIFESTS = str(Path(__file__).parents[2] / "manifests")


def applied(client: Client) -> list[str]:
    out, err = io.StringIO(), io.StringIO()
    assert apply_paths(client, [MANIFESTS], None, out, err) == 0, err.getvalue()
    assert err.getvalue() == ""
    return out.getvalue().splitlines()


@pytest.fixture
def robot(server: Server) -> str:
    server.start_agent("examples-1")
    return "examples-1"


def ended(client: Client, name: str) -> Object:
    phases = ("Succeeded", "Failed", "Cancelled", "Expired")

    def found() -> Object | None:
        job = client.get("Job", name)
        return job if dig(job, "status", "phase") in phases else None

    job = until(found, f"the end of {name}", 60.0)
    assert job is not None
    return job


def test_the_examples_apply_twice_and_run(client: Client, robot: str) -> None:
    assert {line.rpartition(" ")[2] for line in applied(client)} <= {"created", "unchanged"}
    assert {line.rpartition(" ")[2] for line in applied(client)} == {"unchanged"}

    invoices = ended(client, "invoices-2026-10")
    assert dig(invoices, "status", "phase") == "Succeeded", invoices["status"]
    assert dig(invoices, "status", "message") == "matched 266 of 318 invoices"
    assert dig(invoices, "status", "outputs", "amountOpen") == "28536.62"
    assert "Invoices of 2026-10: 266 of 318 are settled" in "".join(client.read_log("default", "invoices-2026-10"))

    capable = "browser" in (dig(client.get("Robot", robot), "spec", "capabilities") or [])
    if capable:
        assert dig(ended(client, "prices-2026-11-20"), "status", "outputs", "offers") == 12
    else:
        reason = until(lambda: dig(client.get("Job", "prices-2026-11-20"), "status", "reasons"), "why it waits")
        assert "browser" in str(reason)

    assert dig(client.get("Robot", "pc-berlin-1"), "status", "phase") in (None, "Pending")
    assert until(lambda: dig(client.get("Schedule", "nightly-cleanup"), "status", "nextFireTime"), "its next time")


def test_the_nightly_cleanup_runs_as_its_schedule_would_run_it(client: Client, robot: str) -> None:
    applied(client)
    template = client.get("Schedule", "nightly-cleanup")["spec"]["jobTemplate"]
    client.create({"apiVersion": "fleet.casare.net/v1", "kind": "Job", "metadata": {"name": "tonight"}, **template})
    assert dig(ended(client, "tonight"), "status", "phase") == "Succeeded"
    assert "removed 3 files" in "".join(client.read_log("default", "tonight"))
