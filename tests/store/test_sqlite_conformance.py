"""The SQLite store keeps every promise of the protocols, in both ways of running it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.store.open import open_store
from headgate.testing import store_conformance


@pytest.mark.parametrize("case", store_conformance.CASES, ids=store_conformance.name_of)
def test_with_a_writer_thread(case: store_conformance.Case, tmp_path: Path) -> None:
    asyncio.run(store_conformance.check(case, lambda: open_store(f"sqlite:///{tmp_path}/runs.db", mode="thread")))


@pytest.mark.parametrize("case", store_conformance.CASES, ids=store_conformance.name_of)
def test_on_virtual_time(case: store_conformance.Case, tmp_path: Path) -> None:
    async def main(_clock: LoopClock) -> None:
        await store_conformance.check(case, lambda: open_store(f"sqlite:///{tmp_path}/runs.db", mode="inline"))

    run_virtual(main)


def test_every_case_of_the_suite_is_listed() -> None:
    for module in vars(store_conformance).values():
        cases = getattr(module, "CASES", None)
        if cases is None or module is store_conformance or not hasattr(module, "__name__"):
            continue
        written = {
            name
            for name, value in vars(module).items()
            if asyncio.iscoroutinefunction(value) and not name.startswith("_") and value.__module__ == module.__name__
        }
        assert written == {store_conformance.name_of(case) for case in cases}
