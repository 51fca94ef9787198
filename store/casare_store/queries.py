"""Which objects does a list mean? A query of a kind, and the SQL that says the same: of now, and of the log's past."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from casare_api.kinds import Kind
from casare_api.kinds.job import FINAL, JOB
from casare_api.machinery.selectors import FieldSelector, FieldTerm, LabelSelector, Requirement
from casare_store.columns import FIELD_COLUMNS

Clause = tuple[str, list[Any]]  # a condition, and the arguments for its `%s`
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Query:
    """Which objects of a kind: a namespace (None: all) and selectors; `limit` 0 means all of them."""

    kind: Kind
    namespace: str | None = None
    labels: LabelSelector | None = None
    fields: FieldSelector | None = None
    limit: int = 0
    after: tuple[str, str] | None = None  # namespace and name of the last object of the page before

    @property
    def has_selectors(self) -> bool:
        return bool((self.labels and self.labels.requirements) or (self.fields and self.fields.terms))


def conditions(query: Query) -> Clause:
    """The condition on the rows `t` of the kind's table, and its arguments."""
    fields = [_compared(_field_column(query.kind, term.field), term) for term in _terms(query)]
    return _all([*_place(query, "t.namespace", "t.name"), *fields, *_implied(query), *_labels(query, "t.labels")])


def past_place(query: Query) -> Clause:
    """The condition on the log's own rows: where the objects are that the query means."""
    return _all(_place(query, 'namespace COLLATE "C"', 'name COLLATE "C"'))


def past_selection(query: Query) -> Clause:
    """The condition on what the log says of objects: their labels and selectable fields, as texts of `t`."""
    position = {name: number for number, name in enumerate(query.kind.selectable)}
    fields = [_compared(f"(t.fields::jsonb ->> {position[term.field]})", term) for term in _terms(query)]
    return _all([*fields, *_labels(query, "t.labels::jsonb")])


# -- parts ---------------------------------------------------------------------------------------------------------


def _all(clauses: Iterable[Clause]) -> Clause:
    parts, args = ["true"], []
    for condition, values in clauses:
        parts.append(condition)
        args += values
    return " AND ".join(parts), args


def _place(query: Query, namespace: str, name: str) -> list[Clause]:
    """In the namespace that is meant, and behind the page before."""
    found: list[Clause] = []
    if query.namespace is not None and query.kind.namespaced:
        found.append((f"{namespace} = %s", [query.namespace]))
    if query.after is not None:
        found.append((f"({namespace}, {name}) > (%s, %s)", [*query.after]))
    return found


def _terms(query: Query) -> tuple[FieldTerm, ...]:
    return query.fields.terms if query.fields else ()


def _compared(value: str, term: FieldTerm) -> Clause:
    return f"coalesce({value}, '') {'<>' if term.operator == '!=' else '='} %s", [term.value]


def _implied(query: Query) -> list[Clause]:
    """What follows from an agent's selection (its robot's jobs, no final phase), said so that the index of live jobs
    answers it: a job that is not final and has a robot is live. Without it every relist would read all jobs."""
    terms = _terms(query) if query.kind is JOB else ()
    left_out = {term.value for term in terms if term.field == "status.phase" and term.operator == "!="}
    uids = [term.value for term in terms if term.field == "status.robotUID" and term.operator != "!="]
    if not left_out >= FINAL or not uids or not _UUID.fullmatch(uids[0]):
        return []
    return [("t.phase IN ('Assigned', 'Running')", []), ("t.robot_uid = %s::uuid", uids[:1])]


def _field_column(kind: Kind, field: str) -> str:
    if field in ("metadata.name", "metadata.namespace"):
        return f"t.{field.removeprefix('metadata.')}"
    return f"t.{FIELD_COLUMNS[kind.kind][field]}"


def _labels(query: Query, column: str) -> list[Clause]:
    return [_label_clause(one, column) for one in (query.labels.requirements if query.labels else ())]


def _label_clause(requirement: Requirement, column: str) -> Clause:
    """One label requirement as SQL over a jsonb value; an absent label satisfies NotIn and DoesNotExist."""
    key, values = requirement.key, list(requirement.values)
    value = f"({column} ->> %s)"
    if requirement.operator == "In":
        return f"{value} = ANY(%s)", [key, values]
    if requirement.operator == "NotIn":
        return f"({value} IS NULL OR {value} <> ALL(%s))", [key, key, values]
    if requirement.operator == "Exists":
        return f"{value} IS NOT NULL", [key]
    if requirement.operator == "DoesNotExist":
        return f"{value} IS NULL", [key]
    compare = ">" if requirement.operator == "Gt" else "<"
    number = f"(CASE WHEN {value} ~ '^-?[0-9]{{1,18}}$' THEN {value}::bigint END)"
    return f"{number} {compare} %s", [key, key, int(values[0])]
