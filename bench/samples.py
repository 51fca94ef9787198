"""What is written in the benchmarks? Robots and Jobs as people declare them, 700 bytes of JSON each."""

from __future__ import annotations

from typing import Any

import orjson

GROUP = "/apis/fleet.casare.net/v1"
SIZE = 700  # bytes of JSON as a client sends it
SMALL = 400  # the same for a job among thousands
NOTE = "bench.casare.net/note"  # annotation that fills an object up to its size
WORKFLOW = "reconcile-invoices"


def robot(namespace: str, name: str) -> dict[str, Any]:
    """A Robot of 700 bytes."""
    return _filled({
        "apiVersion": "fleet.casare.net/v1", "kind": "Robot",
        "metadata": {
            "name": name, "namespace": namespace, "labels": {"team": "finance", "site": "berlin-2", "tier": "standard"},
            "annotations": {NOTE: ""},
        },
        "spec": {
            "displayName": f"Finance workstation {name}", "environment": "production",
            "capabilities": ["browser", "desktop"], "tags": ["invoices", "month-end", "sap"], "maxConcurrentJobs": 2,
            "maintenanceWindows": [{"name": "patches", "cron": "0 2 * * 0", "duration": "2h"}],
        },
    })  # fmt: skip


def job(namespace: str, name: str) -> dict[str, Any]:
    """A Job of 700 bytes that runs the benchmark's workflow."""
    return _filled({
        "apiVersion": "fleet.casare.net/v1", "kind": "Job",
        "metadata": {
            "name": name, "namespace": namespace, "labels": {"team": "finance", "period": "2026-03"},
            "annotations": {NOTE: ""},
        },
        "spec": {
            "workflowRef": {"name": WORKFLOW}, "priority": 10, "timeout": "30m",
            "requirements": {"capabilities": ["browser"], "tags": ["invoices"]},
            "parameters": {"month": "2026-03", "ledger": "receivables", "tolerance": 0.01, "currency": "EUR"},
        },
    })  # fmt: skip


def small_job(namespace: str, name: str) -> dict[str, Any]:
    """A Job of 400 bytes that runs the benchmark's workflow, as one of a list."""
    return _filled({
        "metadata": {"name": name, "namespace": namespace, "labels": {"period": "2026-03"}, "annotations": {NOTE: ""}},
        "spec": {
            "workflowRef": {"name": WORKFLOW}, "timeout": "30m",
            "requirements": {"capabilities": ["browser"], "tags": ["invoices"]},
            "parameters": {"month": "2026-03", "ledger": "receivables"},
        },
    }, SMALL)  # fmt: skip


def workflow(namespace: str) -> dict[str, Any]:
    """The workflow that the jobs name."""
    return {
        "apiVersion": "fleet.casare.net/v1", "kind": "Workflow",
        "metadata": {"name": WORKFLOW, "namespace": namespace},
        "spec": {"runner": "command", "args": ["true"]},
    }  # fmt: skip


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def path(namespace: str, plural: str, name: str = "", subresource: str = "") -> str:
    """The REST path of a collection, an object or its subresource."""
    return "/".join(part for part in (f"{GROUP}/namespaces/{namespace}", plural, name, subresource) if part)


def _filled(obj: dict[str, Any], size: int = SIZE) -> dict[str, Any]:
    missing = size - len(orjson.dumps(obj))
    obj["metadata"]["annotations"][NOTE] = ("lorem ipsum dolor sit amet " * 30)[:missing]
    assert len(orjson.dumps(obj)) == size
    return obj
