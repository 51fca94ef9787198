"""Many submit at once, by way of several writers: one job a key, no job beyond the limit, none refused that has room."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from casare_api.decisions import lifecycle
from casare_api.kinds import KINDS, Object
from casare_api.machinery.errors import ApiError
from casare_store import admission, headroom, rendering
from casare_store.batch import IDEMPOTENCY
from casare_store.operations import Found, Operation
from casare_store.store import Store

JOB, QUOTA = KINDS["Job"], KINDS["Quota"]


def job(name: str, **spec: Any) -> Object:
    meta = {"name": name, "namespace": "default"}
    workflow = {"runner": "command", "args": ["true"]}
    return {"apiVersion": JOB.api_version, "kind": "Job", "metadata": meta, "spec": {"workflow": workflow, **spec}}


def limited(most: int) -> Operation:
    meta = {"name": "default", "namespace": "default"}
    return admission.create(QUOTA, {"metadata": meta, "spec": {"maxQueued": most, "agingInterval": "5m"}})


async def submit(stores: list[Store], jobs: list[Object]) -> list[Any]:
    """All at once, in turn by each of the stores; what became of each."""
    writes = [stores[n % len(stores)].writer.write(admission.create(JOB, one)) for n, one in enumerate(jobs)]
    return await asyncio.gather(*writes, return_exceptions=True)


def codes(outcomes: list[Any]) -> list[int]:
    return sorted(one.status if isinstance(one, ApiError) else 200 if isinstance(one, Found) else 201 for one in outcomes)


async def waiting(store: Store) -> int:
    async with store.pool.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM jobs WHERE phase = 'Queued'")
        (count,) = await cursor.fetchone() or (None,)
        return int(count)


def test_two_writers_make_one_job_of_each_key(with_store: Any) -> None:
    async def body(store: Store) -> None:
        other = await Store.open(store.url)
        try:
            done = await submit([store, other], [job(f"j{n}", idempotencyKey=f"k{n // 4}") for n in range(400)])
        finally:
            await other.close()
        assert codes(done) == [200] * 300 + [201] * 100
        for n in range(0, 400, 4):
            assert len({one["metadata"]["uid"] for one in done[n : n + 4]}) == 1
        assert await waiting(store) == 100

    with_store(body)


def test_the_database_is_the_last_guard_and_its_word_is_plain(with_store: Any) -> None:
    """A way of writing that knows nothing of keys: as another release might."""

    async def body(store: Store) -> None:
        await store.writer.write(admission.create(JOB, job("a", idempotencyKey="k")))
        unaware = admission.create(JOB, job("b", idempotencyKey="k"))
        unaware.instead = None
        with pytest.raises(ApiError) as refused:
            await store.writer.write(unaware)
        assert refused.value.status == 409
        assert refused.value.message == 'Job "b" can\'t be stored: another job of this namespace has this spec.idempotencyKey'

    with_store(body)


def test_a_batch_finds_jobs_by_their_key(with_store: Any) -> None:
    async def body(store: Store) -> None:
        made = await store.writer.write(admission.create(JOB, job("a", idempotencyKey="k")))
        async with store.batch([(IDEMPOTENCY, "default", "k"), (IDEMPOTENCY, "default", "none")]) as batch:
            assert batch.known == {(IDEMPOTENCY, "default", "k"): made}
            assert await batch.read([(IDEMPOTENCY, "elsewhere", "k")]) == {}

    with_store(body)


@pytest.mark.parametrize("limit", [0, 1, 499, 700, 1200])
def test_exactly_as_many_wait_as_may_whoever_submits(with_store: Any, limit: int) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(limited(limit))
        other = await Store.open(store.url)
        try:
            done = await submit([store, other], [job(f"j{n}") for n in range(1000)])
        finally:
            await other.close()
        taken = min(limit, 1000)
        assert codes(done) == [201] * taken + [429] * (1000 - taken) and await waiting(store) == taken

    with_store(body)


def test_what_leaves_the_queue_and_what_fails_in_a_batch_is_counted_right(with_store: Any) -> None:
    """One batch in which jobs are cancelled, refused and submitted; there is room for exactly as many as left."""

    async def body(store: Store) -> None:
        await store.writer.write(limited(10))
        assert codes(await submit([store], [job(f"old{n}") for n in range(10)])) == [201] * 10

        def cancelled(name: str) -> Operation:
            return admission.update(
                JOB, "default", name, lambda now, context: {**now, "spec": {**now["spec"], "cancel": True}}
            )

        too_large = job("large", parameters={"text": "x" * (admission.MAX_OBJECT + 1)})
        wanted = [*(cancelled(f"old{n}") for n in range(4)), admission.create(JOB, too_large)]
        wanted += [admission.create(JOB, job(f"new{n}")) for n in range(9)]
        done = await asyncio.gather(*map(store.writer.write, wanted), return_exceptions=True)
        assert codes(done[:4]) == [201] * 4 and codes(done[4:5]) == [413]
        assert codes(done[5:]) == [201] * 4 + [429] * 5 and await waiting(store) == 10

    with_store(body)


def test_there_is_no_count_while_there_must_be_room(with_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(limited(1000))
        await store.writer.write(admission.create(JOB, job("first")))
        monkeypatch.setattr(headroom, "_COUNT", "SELECT count() -- nobody may ask this")
        for n in range(50):
            await store.writer.write(admission.create(JOB, job(f"j{n}")))
        assert await waiting(store) == 51

    with_store(body)


def test_a_count_is_brought_up_to_date_from_the_log(with_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever became of the jobs in between, and whoever did it; nobody counts again."""

    async def body(store: Store) -> None:
        robot, other = "00000000-0000-4000-8000-000000000000", await Store.open(store.url)
        monkeypatch.setattr(headroom, "LOG_COSTS", 0)
        monkeypatch.setattr(headroom, "FULL_FOR", 0.0)

        def move(name: str, step: Any) -> Operation:
            return admission.system(JOB, job(name), step)

        try:
            await store.writer.write(limited(10))
            assert codes(await submit([store], [job(f"j{n}") for n in range(8)])) == [201] * 8
            monkeypatch.setattr(headroom, "_COUNT", "SELECT count() -- nobody may ask this")
            for name in ("j0", "j1", "j2"):
                await other.writer.write(move(name, lambda now, context: lifecycle.assign(now, "pc", robot, context.now)))
            await other.writer.write(move("j0", lambda now, context: lifecycle.lose(now, "Lost", "", context.now)))
            await other.writer.write(admission.remove(JOB, "default", "j1"))
            await other.writer.write(admission.remove(JOB, "default", "j3"))
            await other.writer.write(admission.update(
                JOB, "default", "j4", lambda now, context: {**now, "spec": {**now["spec"], "priority": 3}}
            ))  # fmt: skip
            left = await waiting(store)
            assert left == 5, "j0, j4, j5, j6, j7"
            done = await submit([store], [job(f"k{n}") for n in range(9)])
            assert codes(done) == [201] * 5 + [429] * 4 and await waiting(store) == 10
        finally:
            await other.close()

    with_store(body)


def test_a_namespace_that_was_full_is_counted_again_soon(with_store: Any) -> None:
    async def body(store: Store) -> None:
        now = 0.0
        store.writer.lanes[0].headroom.clock = lambda: now  # which all lanes share
        await store.writer.write(limited(1))
        assert codes(await submit([store], [job("a")])) == [201]
        assert codes(await submit([store], [job("b")])) == [429]
        await store.writer.write(admission.remove(JOB, "default", "a"))
        assert codes(await submit([store], [job("b")])) == [429], "refused without a look"
        now += headroom.FULL_FOR
        assert codes(await submit([store], [job("b")])) == [201]

    with_store(body)


def test_jobs_that_go_back_to_the_queue_use_up_room(with_store: Any) -> None:
    async def body(store: Store) -> None:
        robot = "00000000-0000-4000-8000-000000000000"
        await store.writer.write(limited(600))
        assert codes(await submit([store], [job(f"j{n}") for n in range(100)])) == [201] * 100

        def move(name: str, step: Any) -> Operation:
            return admission.system(JOB, job(name), step)

        names = [f"j{n}" for n in range(100)]
        assign = [move(n, lambda now, context: lifecycle.assign(now, "pc", robot, context.now)) for n in names]
        await asyncio.gather(*map(store.writer.write, assign))
        assert codes(await submit([store], [job(f"k{n}") for n in range(550)])) == [201] * 550
        back = [move(n, lambda now, context: lifecycle.lose(now, "Lost", "", context.now)) for n in names]
        await asyncio.gather(*map(store.writer.write, back))
        assert await waiting(store) == 650, "they are never refused"
        assert codes(await submit([store], [job("more")])) == [429]

    with_store(body)


ROBOT_UID = "00000000-0000-4000-8000-000000000000"
ELSEWHERE = "00000000-0000-4000-8000-000000000001"
MOMENT = "2001-01-01T00:00:00Z"
# What decides where, when and how often a job runs.
FORGED = {"attempt": 7, "robotName": "theirs", "robotUID": ELSEWHERE, "attempts": [], "earlierAttempts": {"Lost": 9},
          **dict.fromkeys(("heldUntil", "assignedTime", "startedTime", "finishedTime", "cancelTime", "drainTime"), MOMENT)}  # fmt: skip
STEPS = (
    lambda now, context: lifecycle.assign(now, "pc", ROBOT_UID, context.now),
    lambda now, context: lifecycle.report(now, ROBOT_UID, {"attempt": 1, "phase": "Running"}, context.now),
)


def written(name: str, **said: Any) -> Operation:
    """A write of its status by whoever may."""
    return admission.update(
        JOB, "default", name, lambda now, context: {**now, "status": {**now["status"], **said}}, status=True
    )


def test_nobody_puts_a_job_on_a_robot_or_back_in_the_queue_by_its_status(with_store: Any) -> None:
    async def body(store: Store) -> None:
        for steps, phases in ((0, ("Assigned", "Running")), (1, ("Queued", "Running")), (2, ("Queued", "Assigned"))):
            name = f"after-{steps}"
            await store.writer.write(admission.create(JOB, job(name)))
            for step in STEPS[:steps]:
                await store.writer.write(admission.system(JOB, job(name), step))
            before = await store.writer.write(written(name))
            for phase in phases:
                with pytest.raises(ApiError, match="Forbidden") as refused:
                    await store.writer.write(written(name, **FORGED, phase=phase))
                assert refused.value.status == 422
            after = await store.writer.write(written(name, **FORGED, message="looked at", progress={"percent": 3}))
            assert after["status"] == {**before["status"], "message": "looked at", "progress": {"percent": 3}}

    with_store(body)


def test_who_ends_a_job_by_its_status_says_when_and_not_where(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(JOB, job("a")))
        for step in STEPS:
            await store.writer.write(admission.system(JOB, job("a"), step))
        before = await store.writer.write(written("a"))
        ended = await store.writer.write(written("a", **FORGED, phase="Failed"))
        times = {"startedTime": MOMENT, "finishedTime": MOMENT}
        assert ended["status"] == {**before["status"], "phase": "Failed", **times}
        with pytest.raises(ApiError, match="does not go from Failed"):
            await store.writer.write(written("a", phase="Assigned"))

    with_store(body)


def test_the_index_of_keys_is_used(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET enable_seqscan = off")
        query = "EXPLAIN " + rendering.BY_IDEMPOTENCY.replace("$1", "ARRAY['a']").replace("$2", "ARRAY['b']")
        plan = "\n".join(row[0] for row in connection.execute(query).fetchall())
    assert "jobs_idempotency" in plan
