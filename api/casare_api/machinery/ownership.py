"""Who owns which field, and what does a write do to that? ``metadata.managedFields`` and server-side apply.

Every way of writing has a name, its manager, and an entry in ``managedFields`` with the fields it set (``managers``).
``updated`` keeps the entries true after an ordinary write, which takes what it changes without asking. ``applied``
merges a configuration into an object: what its manager applied before and now leaves out goes, unless somebody else
owns it; another value for what somebody else owns is a conflict, unless force is used.

The rules are those of a Kubernetes server (apimachinery ``util/managedfields``, structured-merge-diff), with two
exceptions. An item of a keyed list that its applier leaves out stays if anybody else owns a field in it. And the time
of an ``Update`` entry moves only when its fields do, so that a heartbeat leaves ``managedFields`` as they are.

Nothing here changes what it is given; results share with their inputs. Objects are as deep as admission lets them be.
"""

from __future__ import annotations

from functools import reduce

from casare_api.machinery import fieldsets, lastapplied, managers, merging, structure
from casare_api.machinery.conflicts import ApplyConflict, Conflict, conflict_error, conflicts
from casare_api.machinery.fieldsets import Fields
from casare_api.machinery.managers import APPLY, UPDATE, Entry
from casare_api.machinery.ownable import Object, bare, complete, nothing, ownable, rebuilt
from casare_api.machinery.patches import check_depth
from casare_api.machinery.structure import Changes, Schema, Untyped

__all__ = ["ApplyConflict", "Conflict", "Entry", "Object", "Schema", "Untyped", "applied", "conflict_error", "updated"]

BEFORE_APPLY = "before-first-apply"


# -- ordinary writes -----------------------------------------------------------------------------------------------


def updated(
    schema: Schema, old: Object | None, new: Object, manager: str, now: str, api_version: str, subresource: str = ""
) -> list[Entry] | None:
    """The entries after a write that turns ``old`` (None: created) into ``new``; None if there are none and were none.

    The manager gets what the write added and altered; all others lose that, and everybody what it took away.
    A write to the main endpoint may bring entries of its own: ``[]`` and ``[{}]`` forget all that was, well-formed
    ones count in place of the old ones, malformed ones don't count. An object without entries stays without until
    somebody applies to it: owners of a few fields would make nobody's of the others. The same list comes back where
    nothing changed.
    """
    entries = _starting_point(old, new, subresource)
    if old is not None and not entries:
        return entries
    before = nothing(subresource) if old is None else ownable(old, subresource)
    try:
        changes = structure.compare(complete(schema), before, ownable(new, subresource))
    except Untyped:  # items that can't be told apart: whose they are can't be told either
        return entries
    if not changes.touched and not changes.gone:
        return entries
    gained = managers.entry(manager, UPDATE, api_version, now, changes.touched, subresource)
    return _after(entries or [], changes, gained)


def _starting_point(old: Object | None, new: Object, subresource: str) -> list[Entry] | None:
    entries = None if old is None else _entries(old)
    given = _entries(new)
    if subresource or given is None or given is entries or given == entries:
        return entries
    if given in ([], [{}]):
        return []
    return managers.well_formed(given) or entries


def _after(entries: list[Entry], changes: Changes, gained: Entry) -> list[Entry]:
    """The entries after an ordinary write; ``gained`` is what its manager got by it."""
    others: list[Entry] = []
    mine, identity = gained, managers.identity(gained)
    for each in entries:
        if managers.identity(each) == identity:
            mine = _grown(each, changes, gained)
        elif (left := _less(each, changes))["fieldsV1"]:
            others.append(left)
    result = managers.ordered(managers.capped([*others, mine] if mine["fieldsV1"] else others))
    return entries if result == entries else result


def _grown(entry: Entry, changes: Changes, gained: Entry) -> Entry:
    fields: Fields = entry["fieldsV1"]
    grown = fieldsets.without(fields, changes.gone) if changes.gone else fields
    grown = fieldsets.union(grown, changes.touched)
    if grown is fields or grown == fields:
        return entry
    moved = {"time": gained["time"]} if changes.touched else {}
    return {**entry, **moved, "fieldsV1": grown}


def _less(entry: Entry, changes: Changes) -> Entry:
    fields: Fields = entry["fieldsV1"]
    left = fieldsets.without(fields, changes.gone) if changes.gone else fields
    left = fieldsets.difference(left, changes.touched)
    return entry if left is fields else {**entry, "fieldsV1": left}


def _entries(obj: Object) -> list[Entry] | None:
    found: list[Entry] | None = (obj.get("metadata") or {}).get("managedFields")
    return found


# -- apply ---------------------------------------------------------------------------------------------------------


def applied(
    schema: Schema,
    live: Object | None,
    config: Object,
    manager: str,
    now: str,
    api_version: str,
    force: bool,
    subresource: str = "",
) -> tuple[Object, list[Entry]]:
    """The object that a configuration makes of ``live`` (None: creates), without its entries, and the entries.

    Nothing is defaulted here, and defaults are nobody's: the entries stand as they are when the object has been
    defaulted. ApplyConflict where others own what the configuration would change, unless ``force``; Untyped for one
    that does not fit the schema, ApiError 400 for one that is nested too deep.
    """
    check_depth(config)
    full = complete(schema)
    structure.check(full, config)
    whole = bare(config) if live is None else live
    before, wanted = ownable(whole, subresource), ownable(config, subresource)
    mine = managers.entry(manager, APPLY, api_version, now, _wrote(full, wanted), subresource)
    last, others = _told_apart(_entries(whole) or _before_apply(full, before, mine), mine)
    after = _put_on(full, before, wanted, last, [*others, mine])
    changes = structure.compare(full, before, after)
    if not force:
        own = lastapplied.agreed(schema, whole, api_version, subresource) if manager == lastapplied.MANAGER else {}
        _refuse(others, changes, own)
    if after == before and last is not None and last | {"time": now} == mine:
        mine = last
    entries = [each for each in (mine, *(_less(each, changes) for each in others)) if each["fieldsV1"]]
    result = rebuilt(whole, before, after)
    if manager == lastapplied.MANAGER:
        result = lastapplied.refreshed(result, config)
    return result, managers.ordered(entries)


def _wrote(schema: Schema, wanted: Object) -> Fields:
    """What the manager owns from now on."""
    fields = structure.written(schema, wanted)
    return {step: node for step, node in fields.items() if node or step != "f:metadata"}  # an empty one says nothing


def _before_apply(schema: Schema, live: Object, mine: Entry) -> list[Entry]:
    """To whom all belongs that was there before anybody counted."""
    fields = structure.compare(schema, nothing(mine.get("subresource", "")), live).touched
    return [mine | {"manager": BEFORE_APPLY, "operation": UPDATE, "fieldsV1": fields}] if fields else []


def _told_apart(entries: list[Entry], mine: Entry) -> tuple[Entry | None, list[Entry]]:
    """The entry that this one replaces, and all others."""
    identity = managers.identity(mine)
    same = [each for each in entries if managers.identity(each) == identity]
    return (same[0] if same else None), [each for each in entries if managers.identity(each) != identity]


def _put_on(schema: Schema, before: Object, wanted: Object, last: Entry | None, owners: list[Entry]) -> Object:
    """The object with what is wanted, and without what the manager wanted before and no owner wants now."""
    merged: Object = merging.merged(schema, before, wanted)
    if last is None:
        return merged
    kept: Fields = reduce(fieldsets.union, (each["fieldsV1"] for each in owners))
    left: Object = merging.pruned(schema, merged, last["fieldsV1"], kept)
    return left


def _refuse(others: list[Entry], changes: Changes, own: Fields) -> None:
    """ApplyConflict if the changes take anything from others, but for what is the manager's own already."""
    taken = ((each, fieldsets.difference(each["fieldsV1"], _less(each, changes)["fieldsV1"])) for each in others)
    if found := conflicts((each, fieldsets.difference(fields, own)) for each, fields in taken):
        raise ApplyConflict(found)
