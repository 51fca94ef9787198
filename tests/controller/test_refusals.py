"""How much of what is refused is in the audit log: equal attempts once a minute, and never so many that they fill it."""

from __future__ import annotations

from time import monotonic
from typing import Any

from casare_api.decisions.auditing import Refusal
from casare_apiserver.refusals import AGAIN, BURST, MOST_KNOWN, Refusals
from casare_store import auditing
from casare_store.store import Store

from ..store.conftest import with_store

__all__ = ["with_store"]


def refusal(name: str, role: str = "viewer") -> Refusal:
    return Refusal("eve", role, "10.0.0.7", "get", "secrets", "default", name, 403, "Secret")


async def counts(store: Store) -> list[int]:
    import orjson

    page = await auditing.read(store.pool, auditing.Query(after=0, limit=1000))
    return [orjson.loads(row.entry)["count"] for row in page.rows]


def test_equal_refusals_are_one_row_a_minute_and_all_of_them_are_counted(with_store: Any) -> None:
    async def body(store: Store) -> None:
        found = Refusals(store)
        for _ in range(7):
            found.note(refusal("db"))
        await found._flush()
        for _ in range(5):
            found.note(refusal("db"))
        await found._flush()
        assert await counts(store) == [7]
        found._written = {what: at - AGAIN for what, at in found._written.items()}
        await found._flush()
        assert await counts(store) == [7, 5]
        found.note(refusal("last"))
        await found.stop()  # which was never started: nothing is lost, nothing is twice
        assert await counts(store) == [7, 5]

    with_store(body)


def test_an_attacker_can_not_fill_the_log_nor_the_memory(with_store: Any) -> None:
    async def body(store: Store) -> None:
        found = Refusals(store)
        for round_ in range(3):
            for number in range(2 * MOST_KNOWN):
                found.note(refusal(f"{round_}-{number}"))
            assert len(found._counts) <= MOST_KNOWN
            await found._flush()
        assert len(await counts(store)) <= BURST + 3, "and one sum a flush"
        found._filled = monotonic() - 600  # ten minutes later
        await found._flush()
        assert sum(await counts(store)) == 6 * MOST_KNOWN  # what was not told one by one is in a sum

    with_store(body)


def test_strangers_do_not_hide_what_somebody_with_a_key_tries(with_store: Any) -> None:
    async def body(store: Store) -> None:
        found = Refusals(store)
        for number in range(MOST_KNOWN - 1):
            found.note(refusal(f"x-{number}", "anonymous"))
        await found._flush()
        found.note(refusal("payroll"))
        await found._flush()
        page = await auditing.read(store.pool, auditing.Query(limit=1))
        assert '"payroll"' in page.rows[0].entry

    with_store(body)
