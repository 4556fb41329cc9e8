"""What a caller asks for, checked before any rule is looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headgate.errors import InvalidRequest, StepNotSerializable
from headgate.intake.replays import Pace
from headgate.model.canonical import encode
from headgate.model.cost import NO_HINT, CostHint
from headgate.policy.run_budget import Ceiling
from headgate.store.protocols import Spawn

NAME_MAX = 128
KEY_MAX = 255
COST_MAX = 1e15


@dataclass(frozen=True, slots=True)
class Submission:
    """A run that somebody wants. Nothing in it is trusted."""

    workflow: str
    input: Any = None
    """A JSON value."""
    tenant: str = "default"
    user: str | None = None
    lane: str | None = None
    """The workflow's own lane by default."""
    deadline_ms: int | None = None
    """Wall-clock milliseconds after which nobody wants the result; the workflow's default otherwise."""
    idempotency_key: str | None = None
    replay_of: str | None = None
    origin_id: str | None = None
    """Replays only: the first run of the chain."""
    assume: str | None = None
    """Replays only: ``done`` or ``not_done``."""
    pace: Pace | None = None
    """Replays only: how fast they may come in."""
    spawn: Spawn | None = None
    """Sub-runs only, as the next two."""
    grant: Ceiling | None = None
    """Its ceilings, in place of its workflow's."""
    latest_ms: int | None = None
    """Its parent's deadline, which is never passed."""
    cost: CostHint = NO_HINT
    """What the caller says it will take."""
    api_key: str | None = None
    """The id of the API key it came with."""
    input_text: str | None = None
    """The input as canonical JSON text, if the caller has it already; ``input`` is ignored then."""


def check(submission: Submission, *, max_bytes: int) -> str:
    """The input as JSON text.

    Raises:
        InvalidRequest: every field that is wrong, at once.
    """
    problems: list[tuple[str, str]] = []
    _check_name(problems, "tenant", submission.tenant, NAME_MAX)
    if submission.user is not None:
        _check_name(problems, "user", submission.user, NAME_MAX)
    if submission.idempotency_key is not None:
        _check_name(problems, "idempotency_key", submission.idempotency_key, KEY_MAX)
    for quantity, value in submission.cost.given():
        if not _is_amount(value):
            problems.append((f"cost.{quantity}", "must be a number above 0"))
    if submission.assume not in (None, "done", "not_done"):
        problems.append(("assume", "must be 'done' or 'not_done'"))
    text = submission.input_text
    if text is None:
        try:
            text = encode(submission.input, what="input")
        except StepNotSerializable as error:
            problems.append(("input", str(error)))
            text = "null"
    if not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            problems.append(("input", "holds half a surrogate pair, which is not text"))
            size = 0
    else:
        size = len(text)
    if problems:
        raise InvalidRequest(problems)
    if size > max_bytes:
        raise InvalidRequest([("input", f"has {size} bytes; the limit is {max_bytes}")], reason="too_large")
    return text


def _is_amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= COST_MAX


def _check_name(problems: list[tuple[str, str]], field: str, value: object, most: int) -> None:
    if not isinstance(value, str):
        problems.append((field, "must be text"))
    elif not 1 <= len(value) <= most:
        problems.append((field, f"must have 1 to {most} characters"))
    elif not value.isprintable():
        problems.append((field, "must be printable"))
