"""What a process wrote itself it is handed, and need not read: it must be the same as what the log says, and in order."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import orjson
import pytest

from casare_api.decisions import lifecycle
from casare_api.kinds import KINDS, Object
from casare_store import admission, changes
from casare_store.changes import Change, LogReader, Own
from casare_store.connection import connect
from casare_store.operations import Context, Operation
from casare_store.store import Store
from casare_store.writer import Writer

from .conftest import ROBOT, labelled, relabel, robot

JOB = KINDS["Job"]
UID = "0198a000-0000-7000-8000-000000000001"
TRICKY = '"resourceVersion":"1"'  # as it stands in an object's text


def job(name: str) -> Object:
    """A job that says resourceVersion wherever people may say anything."""
    meta = {"name": name, "namespace": "default", "labels": {"resourceVersion": "1"}, "annotations": {"a": TRICKY}}
    spec = {"workflow": {"runner": "command", "args": [TRICKY]}, "parameters": {"resourceVersion": "1", "b": TRICKY}}
    return {"apiVersion": JOB.api_version, "kind": "Job", "metadata": meta, "spec": spec}


def moved(name: str, move: Any) -> Operation:
    """A move of a job, as a report or a duty makes it."""

    def change(current: Object, context: Context) -> Object:
        return dict(move(current, context.now))

    return admission.system(JOB, job(name), change)


def assigned(current: Object, now: datetime) -> Object:
    return lifecycle.assign(current, "pc-01", UID, now)


def said(phase: str) -> Any:
    return lambda current, now: lifecycle.report(current, UID, {"attempt": 1, "phase": phase, "exitCode": 0}, now)


async def life(store: Store, name: str) -> list[Object | None]:
    """A job's states from its submission to its end."""
    steps = [admission.create(JOB, job(name)), moved(name, assigned), moved(name, said("Running"))]
    return [await store.writer.write(step) for step in [*steps, moved(name, said("Succeeded"))]]


async def logged(store: Store) -> list[Change]:
    connection = await connect(store.url, "test")
    try:
        return await changes.read_since(connection, 0)
    finally:
        await connection.close()


def plain(change: Change) -> dict[str, Any]:
    """A change with its texts as values: how they are spaced is nobody's business."""
    found = change._asdict()
    texts = ("labels", "fields", "old_labels", "old_fields")
    return found | {key: orjson.loads(found[key]) if found[key] is not None else None for key in texts}


def test_what_is_handed_over_is_what_the_log_says(with_store: Any) -> None:
    async def body(store: Store) -> None:
        store.writer.own.is_read = True
        await life(store, "j")
        await store.writer.write(admission.create(ROBOT, labelled("r", site="berlin")))
        await store.writer.write(relabel("r", site="paris"))
        secret = {"metadata": {"name": "s", "namespace": "default"}, "data": {"a": "aHVudGVyMg=="}, "type": "Opaque"}
        await asyncio.gather(store.writer.write(admission.create(KINDS["Secret"], secret)), return_exceptions=True)
        await store.writer.write(admission.remove(JOB, "default", "j"))
        await store.writer.write(admission.remove(ROBOT, "default", "r"))
        handed = store.writer.own.after(1)  # the first one, the namespace's, was before
        assert [plain(one) for one in handed] == [plain(one) for one in (await logged(store))[1:]]
        assert {(one.kind, one.type) for one in handed} >= {
            ("Job", "ADDED"), ("Job", "MODIFIED"), ("Job", "DELETED"), ("Robot", "MODIFIED"), ("Robot", "DELETED")
        }  # fmt: skip

    with_store(body)


def test_a_moved_job_has_its_new_version_in_its_text_and_nothing_else_of_it_is_touched(with_store: Any) -> None:
    """From one digit to two, and from two to three."""

    async def body(store: Store) -> None:
        for number in range(30):
            states = await life(store, f"j{number}")
            shown = [orjson.loads(one.object) for one in await logged(store) if one.name == f"j{number}"]
            assert shown == states
            async with store.batch() as batch:
                (kept,) = (await batch.read([("Job", "default", f"j{number}")])).values()
            assert kept == states[-1]
            assert kept["spec"]["parameters"] == job("x")["spec"]["parameters"]
        assert (await store.head()).rv > 100

    with_store(body)


def test_own_changes_and_those_of_others_arrive_once_and_in_order(with_store: Any) -> None:
    async def body(store: Store) -> None:
        other = Writer(store.url)
        await other.start()
        seen: list[int] = []
        total = 1 + 2 * 400

        async def follow() -> None:
            async for found in LogReader(store.url, store.writer.own).follow(0):
                seen.extend(change.rv for change in found)
                if len(seen) >= total:
                    return

        async def write(writer: Writer, prefix: str) -> None:
            for start in range(0, 400, 20):
                some = [admission.create(ROBOT, robot(f"{prefix}{n}")) for n in range(start, start + 20)]
                await asyncio.gather(*map(writer.write, some))

        await asyncio.gather(follow(), write(store.writer, "own"), write(other, "others"))
        await other.stop()
        assert seen == list(range(1, total + 1))

    with_store(body)


def test_news_of_others_right_behind_an_own_change_do_not_wait_for_the_next_look(
    with_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "LOOK_EVERY", 1e6)  # the next look does not come within this test

    async def body(store: Store) -> None:
        other = Writer(store.url)
        await other.start()
        reader = LogReader(store.url, store.writer.own).follow(0)
        rv = (await anext(reader))[-1].rv
        for number in range(20):  # the loop does not turn between the two tellings
            await store.writer.write(admission.create(ROBOT, robot(f"own{number}")))
            await other.write(admission.create(ROBOT, robot(f"theirs{number}")))
            rv += 2
            while (found := await anext(reader))[-1:] == [] or found[-1].rv < rv:
                pass
        await reader.aclose()
        await other.stop()

    with_store(body)


def test_what_nobody_reads_is_forgotten_before_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAX_OWN_BYTES", 1000)
    own = Own()
    for rv in range(1, 30):
        own.add([Change(rv, "Robot", "ADDED", "default", "r", UID, b"x" * 100, None, b"[]", None, None)])
    held = own.after(min(own._changes) - 1)
    assert 0 < sum(len(change.object) for change in held) <= 1100
    assert held[-1].rv == 29

