"""What does the start ask of the server it has just started? Keys for the local robots, and whether they are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from casare_api.machinery import credentials
from casare_api.machinery.errors import ApiError
from casare_client import Client, Unreachable

NAMESPACE = "default"
ONLINE = ("Idle", "Busy")


def declare_robot_keys(client: Client, keys: Mapping[str, str]) -> None:
    """Makes the server know the local robots' keys, by robot. One that a person revoked stays revoked."""
    for robot, key in keys.items():
        spec = {"role": "robot", "robotName": robot, "hash": credentials.digest(key)}
        try:
            known = client.get("ApiKey", robot, NAMESPACE)
        except ApiError as error:
            if error.status != 404:
                raise
            metadata = {"name": robot, "namespace": NAMESPACE}
            client.create(
                {"apiVersion": "fleet.casare.net/v1", "kind": "ApiKey", "metadata": metadata, "spec": {**spec, **_WHY}}
            )
            continue
        if any(known["spec"].get(field) != value for field, value in spec.items()):
            client.patch("ApiKey", robot, {"spec": spec}, NAMESPACE)


def phases(client: Client, agents: Mapping[str, int | None]) -> dict[str, str]:
    """The phase of each robot, by its name; empty where this agent (by its process id) has not reported yet.

    A robot may still count as online from the run before, until its lease has passed.
    """
    try:
        found = client.list("Robot", NAMESPACE)["items"]
    except (ApiError, Unreachable):
        found = []
    known = {(robot["metadata"]["name"], *_report(robot)) for robot in found}
    return {name: next((phase for n, p, phase in known if (n, p) == (name, pid)), "") for name, pid in agents.items()}


def _report(robot: Mapping[str, Any]) -> tuple[int | None, str]:
    status = robot.get("status") or {}
    return (status.get("agent") or {}).get("pid"), str(status.get("phase") or "")


_WHY = {"description": "a robot that 'casare up' runs on this computer"}
