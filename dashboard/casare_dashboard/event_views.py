"""What happened to an object? Its events as plain rows, the latest first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from casare_api.kinds import Object
from casare_dashboard import words


def rows(events: Iterable[Object], now: datetime) -> list[dict[str, Any]]:
    """One row an event; `Times` counts how often it happened."""
    return [
        {
            "When": words.ago(event, now, "lastTimestamp") or words.ago(event, now, "metadata", "creationTimestamp"),
            "Type": str(event.get("type") or "Normal"),
            "Reason": str(event.get("reason") or ""),
            "Message": str(event.get("message") or ""),
            "Times": event.get("count") or 1,
        }
        for event in sorted(events, key=_when, reverse=True)
    ]


def _when(event: Object) -> str:
    return str(event.get("lastTimestamp") or (event.get("metadata") or {}).get("creationTimestamp") or "")
