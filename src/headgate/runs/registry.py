"""The workflows that this process has code for.

A workflow is ``async def name(run, input) -> JSON value``; the second parameter may be left out. If it is
annotated (a pydantic model, a dataclass, a TypedDict, ``dict[str, int]`` …), the input of every run is read as
that before the function sees it.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import types
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from headgate.errors import UnknownWorkflow

NAME = re.compile(r"^[a-z][a-z0-9_-]{0,62}$")
"""Names become labels and URLs."""

WorkflowFunction = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Workflow:
    """A registered function and how it wants its input."""

    name: str
    function: WorkflowFunction
    takes_input: bool
    input_type: TypeAdapter[Any] | None
    """``None``: the input is handed over as the JSON value it is."""


class WorkflowRegistry:
    """Functions by workflow name."""

    def __init__(self) -> None:
        self._workflows: dict[str, Workflow] = {}

    def register(self, name: str, function: WorkflowFunction) -> None:
        """Make ``function`` carry out the runs of ``name``.

        Raises:
            TypeError: it is not an async function of (run) or (run, input), or its input's annotation cannot be
                used; the message says what to write instead.
            ValueError: the name is malformed or taken.
        """
        if not NAME.match(name):
            raise ValueError(
                f"{name!r} is not a workflow name; use lower-case letters, digits, - and _, starting with a letter"
            )
        if name in self._workflows:
            raise ValueError(f"the workflow {name!r} is registered already; names are given once per process")
        takes_input, input_type = _read_signature(name, function)
        self._workflows[name] = Workflow(name, function, takes_input, input_type)

    def names(self) -> tuple[str, ...]:
        """Every registered name, in order of registration."""
        return tuple(self._workflows)

    def get(self, name: str) -> Workflow:
        """The workflow of that name.

        Raises:
            UnknownWorkflow: there is none; the message offers the nearest.
        """
        workflow = self._workflows.get(name)
        if workflow is None:
            near = difflib.get_close_matches(name, self._workflows, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownWorkflow(f"this process has no workflow {name!r}{hint}")
        return workflow


def _read_signature(name: str, function: WorkflowFunction) -> tuple[bool, TypeAdapter[Any] | None]:
    plain: Any = function
    while isinstance(plain, functools.partial):
        plain = plain.func
    if not inspect.iscoroutinefunction(plain):
        raise TypeError(
            f"workflow {name!r}: {plain!r} is not an async function; write `async def {name}(run, input): ...`"
        )
    parameters = list(inspect.signature(function).parameters.values())
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    variable = [one for one in parameters if one.kind is one.VAR_POSITIONAL]
    demanded = [one.name for one in positional[2:] if one.default is one.empty] + [
        one.name for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty
    ]
    if demanded or (not positional and not variable):
        extra = f"; nothing would fill {', '.join(demanded)}" if demanded else ""
        raise TypeError(f"workflow {name!r} must take (run) or (run, input){extra}")
    if len(positional) < 2:
        return bool(variable), None
    return True, _input_type(name, plain, positional[1])


def _input_type(name: str, function: Any, parameter: inspect.Parameter) -> TypeAdapter[Any] | None:
    if parameter.annotation in (parameter.empty, Any, object):
        return None
    try:
        # Only this one annotation is resolved: others (such as Run) may live under TYPE_CHECKING.
        holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
        hints = get_type_hints(holder, globalns=function.__globals__, localns=_closure(function), include_extras=True)
    except NameError as error:
        raise TypeError(
            f"workflow {name!r}: the annotation of {parameter.name!r} cannot be read ({error}); its type must be "
            "importable at run time (module level, not under TYPE_CHECKING), or leave the annotation out"
        ) from error
    wanted = hints[parameter.name]
    if wanted in (Any, object):
        return None
    try:
        return TypeAdapter(wanted)
    except PydanticUserError as error:
        raise TypeError(
            f"workflow {name!r}: {wanted!r} cannot describe a JSON input ({error.message}); use a pydantic model, "
            "a dataclass, a TypedDict or built-in types"
        ) from error


def _closure(function: Any) -> dict[str, Any]:
    names = function.__code__.co_freevars
    cells = function.__closure__ or ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=True) if _filled(cell)}


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
