"""Many callers share one commit; a faulty operation fails alone; nothing is unbounded."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import StoreError
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.decision import Admission
from headgate.store.open import open_store
from headgate.store.protocols import RunFilter
from headgate.store.sqlite import operations
from headgate.store.sqlite.store import SqliteStore
from headgate.testing.store_conformance_ground import Ground, bound


async def _open(path: Path, mode: Any = "inline") -> tuple[SqliteStore, Ground]:
    ground = Ground(lambda: open_store(f"sqlite:///{path}/runs.db", mode=mode))
    await ground.enter()
    store = ground.store
    assert isinstance(store, SqliteStore)
    return store, ground


def _inline(path: Path, main: Any) -> None:
    async def enter(_clock: LoopClock) -> None:
        store, ground = await _open(path)
        try:
            await main(store, ground)
        finally:
            await store.close()

    run_virtual(enter)


def test_callers_share_commits(tmp_path: Path) -> None:
    async def main() -> None:
        store, ground = await _open(tmp_path, "thread")
        await asyncio.gather(*(ground.admit() for _ in range(300)))
        statistics = store.statistics()
        assert statistics.operations == 300
        assert statistics.commits < 150
        assert statistics.extra["operations_per_commit"] == 300 / statistics.commits
        assert statistics.extra["file_bytes"] > 0
        assert statistics.extra["wal_bytes"] > 0
        await store.close()

    asyncio.run(main())


def test_one_turn_of_the_loop_is_one_commit(tmp_path: Path) -> None:
    async def main(store: SqliteStore, ground: Ground) -> None:
        await asyncio.gather(*(ground.admit() for _ in range(40)))
        assert store.statistics().commits == 1

    _inline(tmp_path, main)


def test_a_faulty_operation_fails_alone(tmp_path: Path) -> None:
    async def main(store: SqliteStore, ground: Ground) -> None:
        twin = ground.new_id()
        answers = await asyncio.gather(
            ground.ask(),
            ground.ask(id=twin),
            ground.ask(id=twin),  # the same id again: the row's own rule refuses it
            ground.ask(cost=-1.0),
            ground.ask(bounds=(bound(3),)),
            ground.ask(bounds=(bound(3),)),
            return_exceptions=True,
        )
        assert [type(answer).__name__ for answer in answers] == [
            "Admission",
            "Admission",
            "StoreError",
            "ValueError",
            "Admission",
            "Refusal",
        ]
        assert store.statistics().failures == 2
        assert len(await store.runs.page(RunFilter())) == 3
        await ground.check_counters()

    _inline(tmp_path, main)


def test_nothing_of_a_rolled_back_group_stays_in_memory(tmp_path: Path) -> None:
    async def main(store: SqliteStore, ground: Ground) -> None:
        await ground.admit()
        for _ in range(3):
            with pytest.raises(ValueError, match="cost"):
                await ground.ask(cost=-1.0, bounds=(bound(2),))
        second = await ground.admit(bounds=(bound(2),))
        assert second.virtual_start == 1.0
        await ground.check_counters()

    _inline(tmp_path, main)


def test_waiting_operations_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(store: SqliteStore, ground: Ground) -> None:
        monkeypatch.setattr(operations, "CAPACITY", 5)
        answers = await asyncio.gather(*(ground.ask() for _ in range(8)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, StoreError)]
        assert len(refused) == 3
        assert refused[0].reason == "store_unavailable"
        assert "5 operations waiting" in str(refused[0])
        assert isinstance(await ground.ask(), Admission)

    _inline(tmp_path, main)


def test_a_cancelled_caller_leaves_the_store_sound(tmp_path: Path) -> None:
    async def main() -> None:
        store, ground = await _open(tmp_path, "thread")
        callers = [asyncio.ensure_future(ground.ask()) for _ in range(50)]
        await asyncio.sleep(0)
        for caller in callers[::2]:
            caller.cancel()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert sum(isinstance(answer, asyncio.CancelledError) for answer in answers) == 25
        await ground.admit()
        assert len(await store.runs.page(RunFilter(limit=100))) == 51
        await ground.check_counters()
        await store.close()

    asyncio.run(main())


def test_several_event_loops_use_one_store(tmp_path: Path) -> None:
    admitted: list[int] = []

    def another_loop(store: SqliteStore, ground: Ground) -> None:
        async def offer_many() -> None:
            answers = await asyncio.gather(*(ground.ask(bounds=(bound(100),)) for _ in range(40)))
            admitted.append(sum(isinstance(answer, Admission) for answer in answers))

        asyncio.run(offer_many())

    async def main() -> None:
        store, _ = await _open(tmp_path, "thread")
        threads = []
        for number in range(4):
            ground = Ground(lambda: open_store(""))
            ground.store = store
            ground._random.seed(number)
            threads.append(threading.Thread(target=another_loop, args=(store, ground)))
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert sum(admitted) == 100
        await store.close()

    asyncio.run(main())


def test_an_inline_store_belongs_to_its_loop(tmp_path: Path) -> None:
    async def main() -> None:
        store, ground = await _open(tmp_path)

        def elsewhere() -> None:
            with pytest.raises(StoreError, match="event loop that opened it"):
                asyncio.run(ground.ask())

        await asyncio.to_thread(elsewhere)
        await store.close()

    asyncio.run(main())


def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    async def main(store: SqliteStore, ground: Ground) -> None:
        writes, _ = store._connections
        kept = [(await ground.admit(input='"' + "x" * 3000 + '"')).id for _ in range(20)]
        writes.pragma("max_page_count", writes.pragma("page_count"))
        refused = 0
        for _ in range(20):
            try:
                kept.append((await ground.admit(input='"' + "x" * 3000 + '"')).id)
            except StoreError as error:
                refused += 1
                said = str(error)
                assert "no room left" in said, said
        assert refused > 0
        await ground.check_counters()
        claims = await ground.claim(5)
        assert len(claims) == 5, "what fits still works"
        writes.pragma("max_page_count", 1_000_000)
        kept.append((await ground.admit()).id)
        assert {run.id for run in await store.runs.page(RunFilter(limit=100))} == set(kept)
        await ground.check_counters()

    _inline(tmp_path, main)


def test_an_answer_is_durable_before_it_is_given(tmp_path: Path) -> None:
    async def main(store: SqliteStore, ground: Ground) -> None:
        writes, _ = store._connections
        assert writes.pragma("journal_mode") == "wal"
        assert writes.pragma("synchronous") == 2
        await ground.admit()
        assert not writes.in_transaction

    _inline(tmp_path, main)


def test_reads_are_not_held_up_by_a_writer(tmp_path: Path) -> None:
    async def main() -> None:
        store, ground = await _open(tmp_path, "thread")
        run = await ground.admit()
        entered, leave = threading.Event(), threading.Event()

        def hold(_tx: object) -> None:
            entered.set()
            assert leave.wait(30)

        held = store._writer.submit(hold)
        assert await asyncio.to_thread(entered.wait, 30)
        assert await store.runs.get(run.id) == run
        assert not held.done()
        leave.set()
        await held
        await store.close()

    asyncio.run(main())


def test_what_came_in_just_before_the_end_is_carried_out(tmp_path: Path) -> None:
    """The thread has seen an empty queue; before it looks at the closing flag, an operation and the end come in."""

    async def main() -> None:
        loop, came = asyncio.get_running_loop(), threading.Event()
        answers: list[asyncio.Future[Any]] = []

        async def come() -> None:
            answers.append(thread.submit(lambda _tx: "done"))
            answers.append(asyncio.ensure_future(thread.close()))
            await asyncio.sleep(0)  # `close` has said so
            came.set()

        class Queue(deque[Any]):
            def __bool__(self) -> bool:
                found = len(self) > 0
                if not came.is_set():
                    asyncio.run_coroutine_threadsafe(come(), loop)
                    assert came.wait(10)
                return found

        thread = operations.ThreadOperations("closing", lambda group: [(one(None), None) for one in group])
        thread._queue = Queue()
        thread._wake.set()
        await asyncio.to_thread(came.wait, 10)
        assert (await asyncio.wait_for(asyncio.gather(*answers), 10))[0] == "done"

    asyncio.run(main())
