"""How does a computer become a robot? By its own Robot resource, which it makes where nobody has declared it.

A Robot that this agent made carries an annotation and follows the agent's settings; one that people declared is
theirs and is left as it is. One that was deleted is not made again, by this process or a later one (see `memory`).
"""

from __future__ import annotations

import logging

from casare_agent import memory as memories
from casare_agent.config import Settings
from casare_agent.memory import Memory
from casare_api.decisions.approval import ENROLLED_BY
from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_client import Client

_log = logging.getLogger("casare.agent")
REGISTERED_BY = "fleet.casare.net/registered-by"


class Deleted(Exception):
    """This robot was deleted since its agent was here last, and nobody has said that it shall come back."""


def declared(settings: Settings, capabilities: list[str]) -> Object:
    """The Robot as the settings describe it."""
    return {
        "apiVersion": "fleet.casare.net/v1",
        "kind": "Robot",
        "metadata": {
            "name": settings.name,
            "namespace": settings.namespace,
            "annotations": {REGISTERED_BY: "agent"},
        },
        "spec": {
            "robotId": settings.robot_id,
            "displayName": settings.display_name,
            "environment": settings.environment,
            "capabilities": capabilities,
            "tags": list(settings.tags),
            "maxConcurrentJobs": settings.max_concurrent_jobs,
        },
    }


def difference(current: Object, wanted: Object) -> Object | None:
    """The merge patch that brings our own Robot to the settings; None where it is there, or not ours."""
    annotations = current["metadata"].get("annotations") or {}
    if annotations.get(REGISTERED_BY) != "agent":
        return None
    stands = current.get("spec") or {}
    fields = wanted["spec"].items()
    if ENROLLED_BY in annotations:  # in which environment it is was decided when it joined
        fields = ((field, value) for field, value in fields if field != "environment")
    differs = {field: value for field, value in fields if (stands.get(field) or None) != (value or None)}
    return {"spec": differs} if differs else None


def register(client: Client, wanted: Object, known: Memory | None = None) -> tuple[Object, Memory]:
    """The Robot as it stands at the server, made or brought up to date; and what to remember of it.

    `known` is what was remembered. Raises Deleted, ApiError, Unreachable.
    """
    namespace, key = wanted["metadata"]["namespace"], client.whoami().get("uid")
    robot = _made(client, wanted, may_create=not memories.was_deleted(known, key))
    return robot, Memory(robot["metadata"]["uid"], namespace, key)


def _made(client: Client, wanted: Object, may_create: bool) -> Object:
    name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
    try:
        current = client.get("Robot", name, namespace)
    except ApiError as error:
        if error.status != 404:
            raise
        if not may_create:
            raise Deleted from None
        return _create(client, wanted)
    patch = difference(current, wanted)
    if patch is None:
        return current
    changed = client.patch("Robot", name, patch, namespace)
    _log.info("robot %s: %s changed to this agent's settings", name, ", ".join(patch["spec"]))
    return changed


def _create(client: Client, wanted: Object) -> Object:
    try:
        created = client.create(wanted)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
        return _made(client, wanted, may_create=True)  # somebody was faster
    _log.info("robot %s registered", created["metadata"]["name"])
    return created
