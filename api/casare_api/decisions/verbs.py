"""What can be done with a resource? The verbs of Kubernetes that this server knows."""

from __future__ import annotations

from typing import Literal

Verb = Literal["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
READ: frozenset[Verb] = frozenset({"get", "list", "watch"})
