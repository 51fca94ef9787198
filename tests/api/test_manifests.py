"""Do the example manifests work as they stand: applied, applied again, and run by a robot?"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from casare_api.kinds import Object, dig
from casare_cli.apply import apply_paths
from casare_client import Client
from casare_store import embedded
from tests.conftest import Server, running, until

MANIFESTS = str(Path(__file__).parents[2] / "manifests")


def applied(client: Client) -> list[str]:
    out, err = io.StringIO(), io.StringIO()
    assert apply_paths(client, [MANIFESTS], None, out, err) == 0, err.getvalue()
    assert err.getvalue() == ""
    return out.getvalue().splitlines()


def start_agent(server: Server, directory: Path, *programs: str) -> None:
    """An agent that finds these programs on its path, and Python."""
    for program in programs:
        (directory / program).write_text("#!/bin/sh\n")
        (directory / program).chmod(0o755)
    server.start_agent("examples-1", PATH=f"{directory}:{Path(sys.executable).parent}")


@pytest.fixture
def robot(server: Server, tmp_path: Path) -> str:
    if "examples-1" not in server.processes:
        start_agent(server, tmp_path, "chromium")
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
    assert dig(invoices, "status", "outputs", "report") == "artifact://report.csv"
    report = b"".join(client.read_artifact("invoices-2026-10", "report.csv")).decode()
    assert report.startswith("number,customer or payer,date,") and report.count("RE-2026-") >= 318
    assert "Invoices of 2026-10: 266 of 318 are settled" in "".join(client.read_log("default", "invoices-2026-10"))

    assert dig(ended(client, "prices-2026-11-20"), "status", "outputs", "offers") == 12
    assert dig(client.get("Robot", "pc-berlin-1"), "status", "phase") in (None, "Pending")
    assert until(lambda: dig(client.get("Schedule", "nightly-cleanup"), "status", "nextFireTime"), "its next time")


def test_the_nightly_cleanup_runs_as_its_schedule_would_run_it(client: Client, robot: str) -> None:
    applied(client)
    template = client.get("Schedule", "nightly-cleanup")["spec"]["jobTemplate"]
    client.create({"apiVersion": "fleet.casare.net/v1", "kind": "Job", "metadata": {"name": "tonight"}, **template})
    assert dig(ended(client, "tonight"), "status", "phase") == "Succeeded"
    assert "removed 3 files" in "".join(client.read_log("default", "tonight"))


def test_the_price_watch_waits_with_a_plain_reason_where_no_robot_has_a_browser(
    postgres: embedded.Server, tmp_path: Path
) -> None:
    with running(postgres, tmp_path) as server, server.client() as client:
        programs = tmp_path / "programs"
        programs.mkdir()
        start_agent(server, programs)
        applied(client)
        assert dig(ended(client, "invoices-2026-10"), "status", "phase") == "Succeeded"  # the robot itself is well

        until(
            lambda: "browser" in str(dig(client.get("Job", "prices-2026-11-20"), "status", "reasons")),
            "it says what it waits for",
        )
        assert dig(client.get("Job", "prices-2026-11-20"), "status", "phase") == "Queued"

        server.processes["examples-1"].terminate()
        server.processes["examples-1"].wait(timeout=30)
        start_agent(server, programs, "chromium")
        assert dig(ended(client, "prices-2026-11-20"), "status", "outputs", "offers") == 12
