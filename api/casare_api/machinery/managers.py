"""How is ``metadata.managedFields`` written? Its entries: one for each manager, operation, version and subresource.

An entry has ``manager``, ``operation``, ``apiVersion``, ``time`` (RFC 3339; missing if nobody knows), ``fieldsType``,
``fieldsV1`` and, for writes to a subresource, ``subresource``. In a list that is in order those who applied come
first, and the older before the younger; no two have the same identity and none owns nothing.
"""

from __future__ import annotations

from typing import Any

from casare_api.machinery import fieldsets, times
from casare_api.machinery.fieldsets import Fields

Entry = dict[str, Any]
Identity = tuple[str, str, str, str]

APPLY, UPDATE = "Apply", "Update"
MAX_UPDATE_ENTRIES = 10
ANCIENT = "ancient-changes"


def entry(
    manager: str, operation: str, api_version: str, time: str | None, fields: Fields, subresource: str = ""
) -> Entry:
    made: Entry = {"manager": manager, "operation": operation, "apiVersion": api_version}
    if time:
        made["time"] = time
    made["fieldsType"] = "FieldsV1"
    made["fieldsV1"] = fields
    if subresource:
        made["subresource"] = subresource
    return made


def identity(each: Entry) -> Identity:
    """Manager, operation, version, subresource. Whoever applies is the same whatever version he applies in."""
    operation = each["operation"]
    version = "" if operation == APPLY else each["apiVersion"]
    return each["manager"], operation, version, each.get("subresource", "")


def ordered(entries: list[Entry]) -> list[Entry]:
    """As on the wire."""
    return sorted(entries, key=_rank) if len(entries) > 1 else entries


def capped(entries: list[Entry]) -> list[Entry]:
    """With a bounded number of Update entries: the oldest of a version become one, with the time of the youngest."""
    if len(entries) <= MAX_UPDATE_ENTRIES:
        return entries
    updates = sorted((each for each in entries if each["operation"] == UPDATE), key=_age)
    excess = len(updates) - MAX_UPDATE_ENTRIES
    kept = [each for each in entries if each["operation"] == APPLY]
    heaps: dict[str, Entry] = {}
    for each in updates:
        version = each["apiVersion"]
        if excess <= 0:
            kept.append(each)
        elif version not in heaps:
            heaps[version] = each
        else:
            heaps[version] = _heaped(heaps[version], each)
            excess -= 1
    return kept + list(heaps.values())


def well_formed(entries: object) -> list[Entry] | None:
    """Entries that somebody else wrote, put in order; None if any of them is not one."""
    if not isinstance(entries, list):
        return None
    try:
        found = [_well_formed(each) for each in entries]
    except (ValueError, TypeError, KeyError):
        return None
    return ordered(list({identity(each): each for each in found if each["fieldsV1"]}.values()))


def _well_formed(given: Any) -> Entry:
    if not isinstance(given, dict):
        raise TypeError("an entry of managedFields is an object")
    manager, operation, version = given.get("manager", ""), given["operation"], given["apiVersion"]
    time, subresource = given.get("time"), given.get("subresource", "")
    if operation not in (APPLY, UPDATE) or given["fieldsType"] != "FieldsV1" or not version:
        raise ValueError("no entry of managedFields")
    if not all(isinstance(each, str) for each in (manager, version, subresource)):
        raise TypeError("an entry of managedFields is told by texts")
    if time is not None:
        times.from_text(time)
    return entry(manager, operation, version, time, fieldsets.checked(given.get("fieldsV1") or {}), subresource)


def _heaped(heap: Entry, younger: Entry) -> Entry:
    fields = fieldsets.union(heap["fieldsV1"], younger["fieldsV1"])
    return entry(ANCIENT, UPDATE, younger["apiVersion"], max(_time(heap), _time(younger)), fields)


def _time(each: Entry) -> str:
    return each.get("time") or ""


def _rank(each: Entry) -> tuple[str, ...]:
    return each["operation"], _time(each), each["manager"], each["apiVersion"], each.get("subresource", "")


def _age(each: Entry) -> tuple[bool, tuple[str, ...]]:
    """Oldest first; what was heaped up before is older than anything."""
    return each["manager"] != ANCIENT, _rank(each)
