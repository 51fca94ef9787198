"""The audit log's rules, without a database: what is said of a write, what never is, and how the rows hang together."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.decisions import audit_fields, auditing
from casare_api.decisions.audit_chain import NOTHING, Broken, Check, Link, Row, hashed, place
from casare_api.decisions.auditing import Caller, Deed
from casare_api.kinds import KINDS, Object
from casare_store.auditing import Trail

NOW = datetime(2026, 11, 23, 17, tzinfo=UTC)
ANN = Caller("ann", "operator", "10.0.0.7", "create", "robots", "default", "u-1")
SECRET = "hunter2"


def robot(name: str, **spec: Any) -> Object:
    return {"kind": "Robot", "metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec}


def trail(*deeds: tuple[Caller, str, Object | None, Object | None], end: Link | None = None) -> tuple[list[Row], Link]:
    """The rows that a batch would write, and the end of the log behind them."""
    found = Trail(end or Link())
    for rv, (by, kind, old, new) in enumerate(deeds, 1):
        found.note(by, KINDS[kind], old, new, rv)
    statement = found.close(NOW)
    if statement is None:
        return [], found.end
    _, numbers, actors, objects, entries, hashes = statement[1]
    columns = zip(numbers, hashes, entries, actors, objects, strict=True)
    return [Row(*one) for one in columns], found.end


def fields(old: Object | None, new: Object, sealed: bool = False) -> dict[str, Object]:
    return {one.pop("field"): one for one in audit_fields.changed(old, new, sealed)}


# -- fields ----------------------------------------------------------------------------------------------------------


def test_a_changed_field_says_its_values_where_they_can_hold_no_secret() -> None:
    old = robot("r", desiredState="Active", maxConcurrentJobs=1, tags=["a"], serves=["x"])
    new = robot("r", desiredState="Paused", maxConcurrentJobs=2, tags=["a"])
    assert fields(old, new) == {
        "spec.desiredState": {"from": "Active", "to": "Paused"},
        "spec.maxConcurrentJobs": {"from": 1, "to": 2},
        "spec.serves": {"from": ["x"]},
    }


def test_one_is_not_true_and_nothing_is_not_null() -> None:
    assert fields({"spec": {"a": 1, "b": None}}, {"spec": {"a": True}}) == {
        "spec.a": {"from": 1, "to": True},
        "spec.b": {"from": None},
    }


def test_what_every_write_moves_is_no_news() -> None:
    meta = {"name": "a", "uid": "u", "resourceVersion": "1", "generation": 1, "managedFields": [{}]}
    assert fields({"metadata": meta}, {"metadata": {**meta, "resourceVersion": "2", "generation": 2}}) == {}


@pytest.mark.parametrize("below", sorted(audit_fields.HIDDEN))
def test_nothing_is_said_of_values_below_a_name_that_may_hold_a_secret(below: str) -> None:
    new = {"spec": {below: {"name": SECRET, "role": [SECRET], "number": 4711}, "role": {below: SECRET, "x": [4711]}}}
    told = audit_fields.changed({}, new)
    assert SECRET not in str(told) and not any("to" in one for one in told if below in one["field"])
    assert "4711" not in str(audit_fields.changed({}, {"spec": {below: 4711, "x": {below: [4711]}}}))


@given(st.recursive(
    st.just(SECRET), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "a.b", "url"]), inner),
    max_leaves=6,
))  # fmt: skip
def test_a_text_in_a_field_that_nobody_knows_is_never_said(value: Any) -> None:
    assert SECRET not in str(audit_fields.changed(None, {"spec": {"unheardOf": value}, "status": value}))


def test_a_sealed_kind_says_paths_alone() -> None:
    told = audit_fields.changed(None, {"metadata": {"labels": {"a": "b"}}, "data": {"k": "v"}, "type": "Opaque"}, sealed=True)
    assert told == [{"field": "metadata.labels.a"}, {"field": "data.k"}, {"field": "type"}]


def test_a_write_of_thousands_of_fields_says_some_and_that_there_are_more() -> None:
    told = audit_fields.changed(None, {"data": {f"k{n}": "v" for n in range(5000)}})
    assert len(told) == audit_fields.MOST + 1 and told[-1] == {"more": True}
    long = audit_fields.changed(None, {"spec": {"role": "x" * 10_000, "tags": ["x"] * 1000}})
    assert long == [{"field": "spec.role"}, {"field": "spec.tags"}]


# -- rows ------------------------------------------------------------------------------------------------------------


def test_jobs_that_one_request_makes_are_one_row_with_all_names_and_two_requests_are_two() -> None:
    bob = Caller("bob", "operator", "10.0.0.8", "create", "jobs")
    jobs = [{"kind": "Job", "metadata": {"name": f"j{n}", "namespace": "default", "uid": str(n)}, "spec": {}} for n in range(4)]
    rows, _ = trail(*((by, "Job", None, job) for job, by in zip(jobs, (ANN, bob, ANN, ANN), strict=True)))
    assert [(row.actor, row.object) for row in rows] == [("ann", "Job/default/*"), ("bob", "Job/default/j1")]
    assert '"count":3,"names":["j0","j2","j3"],"resourceVersion":"1","lastResourceVersion":"4"' in rows[0].entry


def test_each_object_that_is_changed_has_a_row_of_its_own_with_its_fields() -> None:
    rows, _ = trail(*((ANN, "Robot", robot(name), robot(name, maxConcurrentJobs=2)) for name in "ab"))
    assert [row.object for row in rows] == ["Robot/default/a", "Robot/default/b"]
    assert all('"fields":[{"field":"spec.maxConcurrentJobs","to":2}]' in row.entry for row in rows)


def test_events_and_renewals_of_leases_are_no_deeds() -> None:
    event = {"metadata": {"name": "e", "namespace": "default", "uid": "e"}}
    held = [{"metadata": {"name": "l", "uid": "l"}, "spec": {"holderIdentity": who}} for who in ("a", "a", "b")]
    rows, _ = trail((ANN, "Event", None, event), (ANN, "Lease", held[0], held[1]), (ANN, "Lease", held[1], held[2]))
    assert [row.object for row in rows] == ["Lease//l"]


def test_what_was_undone_has_no_row() -> None:
    found = Trail(Link())
    for rv in (1, 2, 3):
        found.note(ANN, KINDS["Robot"], None, robot(f"r{rv}"), rv)
    found.back_to(1)
    assert [deed.rv for deed in found.deeds] == [1]
    assert Trail(Link()).close(NOW) is None


def test_a_deed_and_what_it_holds_are_not_in_any_repr() -> None:
    deed = Deed(ANN, KINDS["Secret"], None, {"data": SECRET, "metadata": {}}, 1)
    assert SECRET not in repr(deed) and SECRET not in repr(Trail(Link(), [deed]))


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_what_a_caller_made_up_can_be_stored(text: str) -> None:
    plain = auditing.plain(text)
    plain.encode()
    assert "\0" not in plain and len(plain) == min(len(text), auditing.ANYTHING)


def test_a_key_that_was_taken_for_a_name_is_left_out() -> None:
    assert auditing.plain("/api/crpa_abc-def_ghi/x") == "/api/crpa_.../x" and auditing.plain("cjt_1") == "cjt_..."
    assert auditing.plain("PC_01") == "PC_01"


# -- the chain -------------------------------------------------------------------------------------------------------


def chain(count: int) -> tuple[list[Row], Link]:
    rows: list[Row] = []
    end = Link()
    for number in range(count):
        more, end = trail((ANN, "Robot", None, robot(f"r{number}")), end=end)
        rows += more
    return rows, end


def walk(rows: list[Row], end: Link, start: Link | None = None, *expected: str) -> Check:
    check = Check(start or Link(), expected)
    for row in rows:
        check.add(row)
    check.finish(end)
    return check


def test_the_rows_of_several_batches_are_one_chain() -> None:
    rows, end = chain(5)
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5] and (rows[-1].seq, rows[-1].hash) == (end.seq, end.hash)
    assert rows[0].hash == hashed(NOTHING, rows[0].entry.encode())
    assert all(after.hash == hashed(before.hash, after.entry.encode()) for before, after in pairwise(rows))
    assert walk(rows, end, None, rows[2].hash, end.hash).count == 5
    assert walk([], Link()).count == 0


@given(st.data())
def test_whatever_is_done_to_a_log_is_found(data: st.DataObject) -> None:
    rows, end = chain(6)
    at = data.draw(st.integers(0, 5))
    how = data.draw(st.sampled_from(("remove", "change", "swap", "repeat", "insert", "refile", "rehash")))
    row = rows[at]
    other = row.entry.replace("ann", "eve")
    if how == "remove":
        del rows[at]
    elif how == "change":
        rows[at] = Row(row.seq, row.hash, other, "eve", row.object)
    elif how == "swap":
        rows[at], rows[at - 1] = rows[at - 1], rows[at]
    elif how == "repeat":
        rows.insert(at, row)
    elif how == "insert":
        rows.insert(at, Row(row.seq, hashed(rows[at - 1].hash, other.encode()), other, "eve", row.object))
    elif how == "refile":
        rows[at] = Row(row.seq, row.hash, row.entry, "eve", row.object)
    else:  # a changed row with the hash that fits it: the next one, or the end of the log, does not fit it
        rows[at] = Row(row.seq, hashed(rows[at - 1].hash if at else NOTHING, other.encode()), other, "eve", row.object)
    with pytest.raises(Broken):
        walk(rows, end)


def test_a_chain_that_was_made_anew_from_some_row_on_is_found_by_a_later_hash() -> None:
    rows, end = chain(6)
    forged, forged_end = trail((ANN, "Robot", None, robot("forged")), end=Link(rows[2].seq, rows[2].hash))
    assert walk([*rows[:3], *forged], forged_end).count == 4
    with pytest.raises(Broken, match="no row has the hash"):
        walk([*rows[:3], *forged], forged_end, None, end.hash)


def test_rows_that_were_dropped_by_their_age_are_told_of_by_the_log_itself() -> None:
    rows, end = chain(4)
    start = Link(rows[1].seq, rows[1].hash)
    with pytest.raises(Broken, match="rows 1 to 2 are missing, and no row says that they were dropped"):
        walk(rows[2:], end, start)
    told = Trail(end)
    told.others.append(auditing.dropped(start.seq, start.hash, 2))
    statement = told.close(NOW)
    assert statement is not None
    _, numbers, actors, objects, entries, hashes = statement[1]
    last = Row(numbers[0], hashes[0], entries[0], actors[0], objects[0])
    assert walk([*rows[2:], last], told.end, start, start.hash).dropped == start


def test_the_place_of_a_row_is_what_it_is_found_by() -> None:
    assert place({"kind": "Job", "namespace": "a", "name": "j"}) == "Job/a/j"
    assert place({"kind": "Namespace", "name": "a"}) == "Namespace//a"
    assert place({"resource": "audit"}) == "audit//"
