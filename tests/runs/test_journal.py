"""How calls are known again, and what can be remembered of them."""

from __future__ import annotations

import functools
import json
from datetime import date
from pathlib import Path
from typing import Any

import pydantic
import pytest

from headgate.errors import StepNotSerializable
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.runs.context import Run
from headgate.runs.journal import arguments_text, function_name
from headgate.runs.values import LARGEST_JSON, describe, storable, to_json

from .bench import Bench, on_bench


class Hit(pydantic.BaseModel):
    title: str
    on: date


class Searcher:
    async def find(self) -> None: ...
    def __call__(self) -> None: ...


async def find(title: str) -> Hit:
    return Hit(title=title, on=date(2026, 11, 20))


def test_functions_are_named_by_where_they_are_defined() -> None:
    assert function_name(find).endswith("test_journal.find")
    assert function_name(Searcher().find).endswith("test_journal.Searcher.find")
    assert function_name(functools.partial(find, "x")) == function_name(find)
    assert function_name(Searcher()).endswith("test_journal.Searcher")


def test_an_argument_without_a_json_form_is_named() -> None:
    assert arguments_text((1, {"b": 2, "a": 1}), {"x": None}) == '[[1,{"a":1,"b":2}],{"x":null}]'
    with pytest.raises(StepNotSerializable, match=r"argument 2 cannot be written as JSON.*key="):
        arguments_text((1, object()), {})
    with pytest.raises(StepNotSerializable, match=r"argument 'when' cannot be written as JSON.*key="):
        arguments_text((1,), {"when": date(2026, 1, 1)})


def test_results_are_bounded_and_words_are_made_storable() -> None:
    with pytest.raises(StepNotSerializable, match="at most"):
        to_json("x" * LARGEST_JSON, what="it")
    with pytest.raises(StepNotSerializable, match="it cannot be written as JSON"):
        to_json(["\ud800"], what="it")
    assert storable("a\0b\ud800") == "a\ufffdb?"
    assert storable("x" * 10, 5) == "xxxx…"
    assert describe(ValueError()) == "ValueError"


def test_a_call_answers_the_same_value_the_first_time_and_from_memory(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        seen: list[Any] = []

        async def job(run: Run) -> None:
            seen.append(await run.call("tool", find, "a"))
            seen.append(await run.call("tool", find, "b", returns=Hit))
            if run.attempt == 1:
                await run.call("other", broken)

        async def broken() -> None:
            raise ConnectionResetError("gone")

        bench.workflow(job)
        await bench.worker()
        assert (await bench.ended(await bench.submit())).state is RunState.SUCCEEDED
        first = [{"title": "a", "on": "2026-11-20"}, Hit(title="b", on=date(2026, 11, 20))]
        assert seen == first * 2

    on_bench(tmp_path, main)


def test_a_key_stands_for_arguments_that_cannot_be_written(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def use(thing: object) -> str:
            return await bench.do("use")

        async def job(run: Run, how: str) -> Any:
            return await run.call("tool", use, object(), key="the thing" if how == "key" else None)

        bench.workflow(job)
        await bench.worker()
        assert json.loads((await bench.ended(await bench.submit("key"))).result or "") == "did use"
        bare = await bench.ended(await bench.submit("bare"))
        assert (bare.state, bare.reason) == (RunState.FAILED, Reason.ERROR)
        assert "argument 1" in (bare.detail or "")
        assert bench.ledger == {"use": 1}

    on_bench(tmp_path, main)


def test_steps_may_change_places_between_attempts(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def broken() -> None:
            raise ConnectionResetError("gone")

        async def job(run: Run) -> None:
            for what in ("a", "b") if run.attempt == 1 else ("b", "new", "a"):
                await run.call("tool", bench.do, what)
            if run.attempt == 1:
                await run.call("tool", broken)

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert ended.state is RunState.SUCCEEDED
        assert bench.ledger == {"a": 1, "b": 1, "new": 1}
        steps = await bench.store.runs.steps(ended.id)
        assert [step.seq for step in steps] == [0, 1, 2]

    on_bench(tmp_path, main)


def test_unknown_resources_and_effects_are_refused(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def job(run: Run, what: str) -> None:
            if what == "resource":
                await run.call("toool", bench.do, "x")
            await run.call("tool", bench.do, "x", effect="twice")  # type: ignore[arg-type]  # the mistake under test

        bench.workflow(job)
        await bench.worker()
        resource = await bench.ended(await bench.submit("resource"))
        assert "did you mean 'tool'?" in (resource.detail or "")
        effect = await bench.ended(await bench.submit("effect"))
        assert "'twice' is not a valid Effect" in (effect.detail or "")
        assert bench.ledger == {}

    on_bench(tmp_path, main)


def test_a_result_that_cannot_be_remembered_fails_the_run(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        async def raw() -> object:
            return object()

        async def job(run: Run) -> None:
            await run.call("tool", raw)

        bench.workflow(job)
        await bench.worker()
        ended = await bench.ended(await bench.submit())
        assert (ended.state, ended.reason) == (RunState.FAILED, Reason.ERROR)
        assert "test_journal" in (ended.detail or "")
        assert "cannot be written as JSON" in (ended.detail or "")

    on_bench(tmp_path, main)
