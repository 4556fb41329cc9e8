"""Registering workflows: what is accepted, and what the refusals say."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError
from typing_extensions import TypedDict

from headgate.errors import UnknownWorkflow
from headgate.runs.registry import WorkflowRegistry

if TYPE_CHECKING:
    from decimal import Decimal

    from headgate.runs.context import Run


class Ticket(TypedDict):
    title: str


@dataclass
class Order:
    number: int


async def plain(run: Run, ticket: Any) -> None: ...
async def without_input(run: Run) -> None: ...
async def typed(run: Run, ticket: Ticket) -> None: ...
async def order(run: Run, order: Order, times: int = 1) -> None: ...
async def anything(*args: Any) -> None: ...
async def hidden(run: Run, price: Decimal) -> None: ...
async def three(run: Run, ticket: Any, more: int) -> None: ...
async def nothing() -> None: ...
def not_async(run: Run, ticket: Any) -> None: ...


def test_workflows_are_found_by_name() -> None:
    registry = WorkflowRegistry()
    registry.register("triage", plain)
    registry.register("report", without_input)
    assert registry.names() == ("triage", "report")
    assert registry.get("triage").takes_input
    assert not registry.get("report").takes_input
    with pytest.raises(UnknownWorkflow, match="did you mean 'triage'"):
        registry.get("triag")
    with pytest.raises(UnknownWorkflow, match=r"no workflow 'zzz'$"):
        registry.get("zzz")


def test_a_name_is_given_once_and_is_well_formed() -> None:
    registry = WorkflowRegistry()
    registry.register("triage", plain)
    with pytest.raises(ValueError, match="registered already"):
        registry.register("triage", without_input)
    with pytest.raises(ValueError, match="not a workflow name"):
        registry.register("Tri age", plain)


def test_inputs_are_read_as_annotated() -> None:
    registry = WorkflowRegistry()
    registry.register("typed", typed)
    registry.register("order", order)
    registry.register("half", functools.partial(order, times=2))
    registry.register("anything", anything)
    reader = registry.get("typed").input_type
    assert reader is not None
    assert reader.validate_json('{"title": "help"}') == {"title": "help"}
    with pytest.raises(ValidationError):
        reader.validate_json('{"title": 3}')
    for name in ("order", "half"):
        reader = registry.get(name).input_type
        assert reader is not None
        assert reader.validate_json('{"number": 3}') == Order(3)
    assert registry.get("anything").takes_input
    assert registry.get("anything").input_type is None


def test_types_of_the_place_of_definition_are_found() -> None:
    @dataclass
    class Local:
        number: int

    async def local(run: Run, wish: Local) -> int:
        return Local(1).number

    registry = WorkflowRegistry()
    registry.register("local", local)
    reader = registry.get("local").input_type
    assert reader is not None
    assert reader.validate_json('{"number": 3}') == Local(3)


def test_what_cannot_be_a_workflow_is_refused_with_words() -> None:
    registry = WorkflowRegistry()
    with pytest.raises(TypeError, match="is not an async function; write `async def x"):
        registry.register("x", not_async)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(TypeError, match="nothing would fill more"):
        registry.register("x", three)
    with pytest.raises(TypeError, match=r"must take \(run\) or \(run, input\)$"):
        registry.register("x", nothing)
    with pytest.raises(TypeError, match=r"annotation of 'price' cannot be read .*not under TYPE_CHECKING"):
        registry.register("x", hidden)
    assert registry.names() == ()
