"""Shapes of requests and answers about dead letters, for OpenAPI and for reading queries."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from headgate.server.shapes import RunDetail, RunSummary, Shape


class HistoryShape(Shape):
    """A worker let go of the run without success, or it ended otherwise."""

    at: str
    start: int = Field(description="Which start it was; 0: it never started.")
    owner: str | None
    state: str = Field(description="What the run became.")
    reason: str | None
    detail: str | None


class DeadChangeShape(Shape):
    at: str
    action: Literal["dismiss", "purge"]
    run_id: str
    workflow: str
    tenant: str
    cause: str | None = Field(description="The reason with which the run had ended.")
    by: str = Field(description="The key's label.")
    why: str


class DeadPage(Shape):
    dead: list[RunSummary]
    next: str | None = Field(description="Pass it as `before` to continue; null at the end.")
    record: list[DeadChangeShape] | None = Field(default=None, description="With `record=true`.")


class DeadLetterDetail(RunDetail):
    """Everything about a dead letter."""

    history: list[HistoryShape]
    replays: list[RunSummary] = Field(description="All replays of its lineage, oldest first.")


class DeadSelection(Shape):
    """Which dead letters: all that fit every field that is given, oldest first."""

    workflow: str | None = None
    tenant: str | None = None
    lane: str | None = None
    reason: str | list[str] | None = Field(default=None, description="Why they ended; one or several.")
    older_than: str | None = Field(default=None, examples=["1h"], description="Ended longer ago.")
    since: str | None = Field(default=None, examples=["1d"], description="Ended within the last ….")
    ids: list[str] | None = Field(default=None, min_length=1, description="Only these.")
    all: bool = Field(default=False, description="Needed where nothing else says which ones.")
    limit: int = Field(default=100, ge=1, le=500)
    after: str | None = Field(default=None, description="The `next` of the batch before.")
    dry_run: bool = Field(default=False, description="Only say which ones.")


class DeadReplayRequest(DeadSelection):
    include_expired: bool = Field(default=False, description="Also those that were too old to matter.")
    assume: Literal["done", "not_done"] | None = None
    rate: str | None = Field(default=None, examples=["10/min"], description="Replays of this tenant (or fleet).")


class DeadSettleRequest(DeadSelection):
    why: str = Field(max_length=500, description="In words for others; it is recorded.")


class Skipped(Shape):
    id: str
    reason: str
    detail: str


class Stopped(Shape):
    reason: str
    scope: str = Field(description="Whose limit it was; `replays`: the rate that was asked for.")
    detail: str
    retry_after_ms: int | None


class _Batch(Shape):
    matched: int
    dry_run: bool
    ids: list[str] = Field(description="With `dry_run`: which ones.")
    skipped: list[Skipped]
    stopped: Stopped | None = Field(description="The refusal that ended the batch.")
    next: str | None = Field(description="Pass it as `after` to continue; null at the end.")


class ReplayedOne(Shape):
    id: str
    replay: str


class Replayed(_Batch):
    replayed: list[ReplayedOne]


class SettledOne(Shape):
    id: str


class DeadBatch(_Batch):
    dismissed: list[SettledOne] | None = None
    purged: list[SettledOne] | None = None


class DeadQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")
    workflow: str | None = Field(default=None, max_length=63)
    tenant: str | None = Field(default=None, max_length=128)
    lane: str | None = Field(default=None, max_length=63)
    reason: list[str] = Field(default=[], max_length=20, description="Repeatable.")
    older_than: str | None = Field(default=None, max_length=32)
    since: str | None = Field(default=None, max_length=32)
    resolved: bool = Field(default=False, description="Also those that need nobody any more.")
    record: bool = Field(default=False, description="Also who dismissed and purged what.")
    before: str | None = Field(default=None, max_length=36)
    limit: int = Field(default=50, ge=1, le=500)
