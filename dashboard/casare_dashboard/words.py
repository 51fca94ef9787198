"""How are moments, spans and statuses written for a person? The same way on every page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from casare_api.kinds import Object, dig
from casare_api.machinery import durations, times

# Streamlit's names of colours, which it shades for light and dark itself.
COLOURS = {
    "Idle": "green", "Busy": "blue", "Pending": "gray", "Offline": "red", "Paused": "orange", "Drained": "orange",
    "Draining": "orange", "Maintenance": "orange", "Restarting": "orange", "Refused": "red",
    "Queued": "violet", "Assigned": "blue", "Running": "blue", "Succeeded": "green", "Failed": "red",
    "Cancelled": "gray", "Expired": "orange", "Lost": "red", "True": "green", "False": "red",
    "Active": "green", "Revoked": "red",
}  # fmt: skip


def colour(status: str) -> str:
    """The colour of a status; gray for words that are not known here."""
    return COLOURS.get(status, "gray")


def moment(obj: Object, *path: str) -> datetime | None:
    """The time at a path; None where there is none or it can't be read."""
    value = dig(obj, *path)
    try:
        return times.from_text(value) if value else None
    except (TypeError, ValueError):
        return None


def seconds_since(obj: Object, now: datetime, *path: str) -> float | None:
    """How long ago the time at a path was, in seconds to a tenth, never less than 0."""
    then = moment(obj, *path)
    return round(max(0.0, (now - then).total_seconds()), 1) if then else None


def ago(obj: Object, now: datetime, *path: str) -> str:
    """`3m12s ago`, or an empty text."""
    seconds = seconds_since(obj, now, *path)
    return "" if seconds is None else f"{age(seconds)} ago"


def clock(then: datetime | None) -> str:
    """`2026-11-22 20:31:05 UTC`, or an empty text."""
    return f"{then:%Y-%m-%d %H:%M:%S} UTC" if then else ""


def plain(value: Any) -> str:
    """A value of a resource as one line: lists by commas, labels as key=value."""
    if isinstance(value, list):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={plain(item)}" for key, item in value.items())
    return "" if value is None else str(value)


def facts(pairs: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """Only those pairs that say something, as text."""
    return [(name, plain(value)) for name, value in pairs if value not in (None, "", [], {})]


def span(seconds: float) -> str:
    """How long something took: `350 ms`, `12s`, `3m12s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else age(seconds)


def age(seconds: float) -> str:
    """How long ago something was: `0s`, `12s`, `3m12s`."""
    return str(durations.human(timedelta(seconds=seconds)))
