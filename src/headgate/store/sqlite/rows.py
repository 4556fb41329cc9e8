"""Rows to nouns and back: the order of columns, once.

A row is a tuple in exactly this order. Building a `RunRecord` through its slots skips the frozen dataclass's
slower ``__init__``; it happens twice for every run, so it counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from headgate.model.control import Control, ControlChange
from headgate.model.run import RunRecord, RunState
from headgate.model.step import Effect, Step, StepState
from headgate.store.protocols import ApiKey, Approval

Row = tuple[Any, ...]

_CONVERTED = ("cancel_requested", "degraded", "state")
"""Fields whose stored form differs; they stand last."""
_RUN_FIELDS = (
    *(field.name for field in dataclasses.fields(RunRecord) if field.name not in _CONVERTED),
    *_CONVERTED,
)
_SOURCES = {"input": "coalesce(input, (SELECT i.input FROM inputs AS i WHERE i.run = runs.seq))"}
"""Where a field is not simply its column."""
_CLAIMED = {
    "owner": "?1",
    "lease_until_ms": "?2",
    "started_ms": "coalesce(started_ms, ?3)",
    "term": "term + 1",
    "reason": "NULL",
    "detail": "NULL",
    "state": "'running'",
}
"""What `claimable_runs` shows in place of the columns that claiming changes."""
_NUMBERS = frozenset(
    field.name for field in dataclasses.fields(RunRecord) if str(field.type).split(" ")[0] in {"int", "float", "bool"}
)

COLUMNS = {
    "run_columns": ", ".join(_SOURCES.get(name, name) for name in _RUN_FIELDS),
    "claimed_columns": ", ".join((_SOURCES | _CLAIMED).get(name, name) for name in _RUN_FIELDS),
    "step_columns": ", ".join(field.name for field in dataclasses.fields(Step)),
    "key_columns": ", ".join(field.name for field in dataclasses.fields(ApiKey)),
    "approval_columns": ", ".join(field.name for field in dataclasses.fields(Approval)),
    "control_columns": ", ".join(field.name for field in dataclasses.fields(Control)),
    "control_change_columns": ", ".join(field.name for field in dataclasses.fields(ControlChange)),
}
"""Fills the ``{…}`` of the statement files."""

RAW_RUN_COLUMNS = ", ".join(
    source if name in _NUMBERS else f"CAST({source} AS BLOB)"
    for name in _RUN_FIELDS
    for source in (_SOURCES.get(name, name),)
)
"""`run_columns` with text left as bytes, for a row whose text is not valid UTF-8."""

UNREADABLE = (ValueError, KeyError)
"""What building a noun from a damaged row raises (`UnicodeDecodeError` is a `ValueError`)."""

_SETTERS = tuple(RunRecord.__dict__[name].__set__ for name in _RUN_FIELDS)
_SET_CANCEL, _SET_DEGRADED, _SET_STATE = _SETTERS[-3:]
_PLAIN = _SETTERS[:-3]
_CANCEL, _DEGRADED, _STATE = range(len(_PLAIN), len(_SETTERS))
_STATES = {state.value: state for state in RunState}
RUN_WIDTH = len(_SETTERS)
"""Columns after these in a row belong to the statement, not to the record."""


def run_of(row: Row) -> RunRecord:
    """The record of a row that starts with ``run_columns``.

    Raises:
        KeyError: its state is not one we know.
    """
    record: RunRecord = object.__new__(RunRecord)
    for set_field, value in zip(_PLAIN, row, strict=False):
        set_field(record, value)
    _SET_CANCEL(record, row[_CANCEL] != 0)
    _SET_DEGRADED(record, row[_DEGRADED] != 0)
    _SET_STATE(record, _STATES[row[_STATE]])
    return record


def run_of_raw(row: Row) -> RunRecord:
    """The record of a row read with `RAW_RUN_COLUMNS`: damaged characters are shown as U+FFFD."""
    return run_of(tuple(value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in row))


def step_of(row: Row) -> Step:
    """The step of a row that starts with ``step_columns``.

    Raises:
        ValueError: its effect or state is not one we know.
    """
    key, seq, resource, function, nth, effect, state, *rest = row[:18]
    return Step(key, seq, resource, function, nth, Effect(effect), StepState(state), *rest)


def row_of_step(step: Step, state: StepState) -> Row:
    """What `begin_step`, `record_step` and `keep_done_step` bind after what says whose step it is."""
    return (
        step.key,
        step.seq,
        step.resource,
        step.function,
        step.nth,
        step.effect.value,
        state.value,
        step.result,
        step.queued_ms,
        step.ran_ms,
        step.tries,
        step.degraded,
        step.model_tokens,
        step.started_ms,
        step.finished_ms,
        step.money,
        step.input_tokens,
        step.degradation,
    )


def json_list(numbers: Sequence[int]) -> str:
    """Whole numbers as a JSON array, for ``json_each``."""
    return f"[{','.join(map(str, numbers))}]"
