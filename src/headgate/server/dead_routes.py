"""Dead letters for people: list, look at, replay in bulk, dismiss, purge.

A bulk request handles one bounded batch, oldest first, and says where the next one begins. Replays are admitted one
by one like any submission; the first that is refused for lack of room ends the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from headgate.config.units import Rate, parse_duration, parse_rate
from headgate.errors import InvalidRequest, UnknownWorkflow
from headgate.gate import Gate
from headgate.intake.replays import Pace
from headgate.model.decision import Refusal
from headgate.model.ids import is_uuid
from headgate.model.reason import Reason
from headgate.model.run import DEAD, RunRecord
from headgate.server.answers import as_response, json_answer
from headgate.server.auth import Caller, Right
from headgate.server.dead_shapes import (
    DeadBatch,
    DeadLetterDetail,
    DeadPage,
    DeadQuery,
    DeadReplayRequest,
    DeadSettleRequest,
    Replayed,
)
from headgate.server.run_routes import body_schema, caller_of, problems, small_object, unknown_run
from headgate.server.views import dead_change_view, history_view, run_view, summary_view
from headgate.store.protocols import DeadFilter

STALE = frozenset({Reason.QUEUE_EXPIRED.value, Reason.DEADLINE_PASSED.value, Reason.DEADLINE_UNREACHABLE.value})
"""Ends of work that became too old to matter: replayed only by decision."""
BATCH_MAX = 500
IDS_MAX = 300
_CHANGES = 50
_WHICH = ("workflow", "tenant", "lane", "reason", "older_than", "since", "ids")
_FILTER = (*_WHICH, "all", "limit", "after", "dry_run")


class DeadRoutes:
    """The routes below ``/v1/dead``."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def router(self) -> APIRouter:
        """All of them, documented."""
        router = APIRouter(prefix="/v1/dead", tags=["dead letters"])
        router.add_api_route(
            "", self.page, summary="List dead letters, newest first", response_model=DeadPage,
            responses=problems(400, 401, 403),
        )  # fmt: skip
        router.add_api_route(
            "/{run_id}", self.get, summary="A dead letter with its history and replays",
            response_model=DeadLetterDetail, responses=problems(401, 403, 404),
        )  # fmt: skip
        router.add_api_route(
            "/replay", self.replay, methods=["POST"], summary="Carry a batch of dead letters out again",
            response_model=Replayed, responses=problems(400, 401, 403),
            openapi_extra=body_schema(DeadReplayRequest, required=True),
        )  # fmt: skip
        for action, summary in (("dismiss", "Take a batch off the list"), ("purge", "Delete a batch for good")):
            router.add_api_route(
                f"/{action}", getattr(self, action), methods=["POST"], summary=summary, response_model=DeadBatch,
                responses=problems(400, 401, 403), openapi_extra=body_schema(DeadSettleRequest, required=True),
            )  # fmt: skip
        return router

    async def page(self, request: Request, wanted: Annotated[DeadQuery, Query()]) -> Response:
        caller = caller_of(request, Right.READ)
        wish = _Wish(wanted.model_dump(), caller, now_ms=self._gate.clock.now_ms(), most=BATCH_MAX)
        found = replace(wish.found, resolved=wanted.resolved, beyond=wanted.before, oldest_first=False)
        letters = self._gate.store.dead_letters
        runs = [] if wish.nobodys else await letters.page(found)
        changes = await letters.changes(tenant=caller.tenant, limit=_CHANGES if wanted.record else 0)
        following = runs[-1].id if len(runs) == found.limit else None
        view = {"dead": [summary_view(run) for run in runs], "next": following}
        if wanted.record:
            view["record"] = [dead_change_view(change) for change in changes]
        return as_response(json_answer(view))

    async def get(self, request: Request, run_id: str) -> Response:
        caller = caller_of(request, Right.READ)
        gate = self._gate
        answer = await gate.intake.locate(run_id, tenant=caller.tenant)
        if answer is None or answer.run.state not in DEAD:
            raise unknown_run(run_id)
        letters = gate.store.dead_letters
        steps = await gate.store.runs.steps(run_id)
        view = run_view(answer, steps, models=gate.settings.models, now_ms=gate.clock.now_ms())
        view["history"] = [history_view(line) for line in await letters.history(run_id)]
        view["replays"] = [summary_view(run) for run in await letters.replays(answer.run.origin_id)]
        return as_response(json_answer(view))

    async def replay(self, request: Request) -> Response:
        caller = caller_of(request, Right.REPLAY)
        gate = self._gate
        fields = await small_object(request, (*_FILTER, "include_expired", "assume", "rate"))
        wish = _Wish(fields, caller, now_ms=gate.clock.now_ms(), most=BATCH_MAX)
        wish.check_that_it_chooses()
        stale = wish.flag("include_expired") or bool(wish.found.ids)
        assume = wish.one_of("assume", ("done", "not_done"))
        rate: Rate | None = wish.parsed("rate", parse_rate)
        if not stale and wish.found.reasons and STALE.issuperset(wish.found.reasons):
            wish.mistake("reason", "names only work that became too old to matter; include_expired: true replays it")
        wish.check()
        runs = [] if wish.nobodys else await gate.store.dead_letters.page(replace(wish.found, stale=stale))
        batch = _Batch(wish, runs)
        for run in () if wish.dry_run else runs:
            pace = None if rate is None else Pace(*rate, who=caller.tenant or "*")
            try:
                answer = await gate.intake.replay(run.id, tenant=caller.tenant, assume=assume, pace=pace)
            except UnknownWorkflow as error:
                batch.skip(run, Reason.UNKNOWN_WORKFLOW, str(error))
                continue
            if not isinstance(answer, Refusal):
                batch.done.append({"id": run.id, "replay": answer.run.id})
            elif answer.contended or answer.nothing_there:
                batch.stop(answer)
                break
            else:
                batch.skip(run, answer.reason, answer.detail)
        gate.poke()
        return as_response(json_answer(batch.view("replayed")))

    async def dismiss(self, request: Request) -> Response:
        return await self._settle(request, "dismissed")

    async def purge(self, request: Request) -> Response:
        return await self._settle(request, "purged")

    async def _settle(self, request: Request, what: str) -> Response:
        caller = caller_of(request, Right.REPLAY)
        gate = self._gate
        letters, now_ms = gate.store.dead_letters, gate.clock.now_ms()
        wish = _Wish(await small_object(request, (*_FILTER, "why")), caller, now_ms=now_ms, most=BATCH_MAX)
        wish.check_that_it_chooses()
        why = wish.text("why") or ""
        if not why.strip():
            wish.mistake("why", "is required: say in words for others; it is recorded")
        wish.check()
        resolved = what == "purged" and bool(wish.found.ids)
        runs = [] if wish.nobodys else await letters.page(replace(wish.found, resolved=resolved))
        batch = _Batch(wish, runs)
        act = letters.dismiss if what == "dismissed" else letters.purge
        for run in () if wish.dry_run else runs:
            if await act(run.id, tenant=caller.tenant, by=caller.label, why=why, now_ms=now_ms):
                batch.done.append({"id": run.id})
            else:
                batch.skip(run, Reason.NOT_REPLAYABLE, "it is being replayed, or somebody has dealt with it")
        return as_response(json_answer(batch.view(what)))


class _Batch:
    """How far a bulk request came."""

    def __init__(self, wish: _Wish, runs: list[RunRecord]) -> None:
        self._wish, self._runs = wish, runs
        self.done: list[dict[str, str]] = []
        found = {run.id for run in runs}
        self._unknown = [] if wish.found.beyond else [run_id for run_id in wish.found.ids if run_id not in found]
        self._skipped: list[dict[str, str]] = []
        self._stopped: dict[str, Any] | None = None

    def skip(self, run: RunRecord, reason: Reason, detail: str) -> None:
        self._skipped.append({"id": run.id, "reason": reason.value, "detail": detail})

    def stop(self, refusal: Refusal) -> None:
        self._stopped = {
            "reason": refusal.reason.value,
            "scope": refusal.scope,
            "detail": refusal.detail,
            "retry_after_ms": refusal.retry_after_ms,
        }

    def view(self, name: str) -> dict[str, Any]:
        handled = len(self._runs) if self._wish.dry_run else len(self.done) + len(self._skipped)
        more = self._stopped is not None or len(self._runs) == self._wish.found.limit
        last = self._runs[handled - 1].id if handled else self._wish.found.beyond
        return {
            "matched": len(self._runs),
            "dry_run": self._wish.dry_run,
            "ids": [run.id for run in self._runs] if self._wish.dry_run else [],
            name: self.done,
            "skipped": [*self._skipped, *map(_not_found, () if more else self._unknown)],
            "stopped": self._stopped,
            "next": last if more else None,
        }


def _not_found(run_id: str) -> dict[str, str]:
    return {"id": run_id, "reason": Reason.UNKNOWN_RUN.value, "detail": "there is no such dead letter to deal with"}


class _Wish:
    """Which dead letters a request means, read."""

    def __init__(self, fields: dict[str, Any], caller: Caller, *, now_ms: int, most: int) -> None:
        self._fields = fields
        self._problems: list[tuple[str, str]] = []
        self.dry_run = self.flag("dry_run")
        older: float | None = self.parsed("older_than", parse_duration)
        since: float | None = self.parsed("since", parse_duration)
        tenant = self.text("tenant")
        self.nobodys = caller.tenant is not None and tenant not in (None, caller.tenant)
        """It names another tenant than the key's: there is nothing of that name to be seen."""
        limit = fields.get("limit")
        if limit is not None and not (type(limit) is int and 1 <= limit <= most):
            self.mistake("limit", f"must be a whole number from 1 to {most}")
            limit = None
        beyond = self.text("after")
        if beyond is not None and not is_uuid(beyond):
            self.mistake("after", "must be the id of a run")
        self.found = DeadFilter(
            tenant=caller.tenant or tenant,
            workflow=self.text("workflow"),
            lane=self.text("lane"),
            reasons=self._texts("reason", 20),
            ended_before_ms=None if older is None else now_ms - round(1000 * older),
            ended_from_ms=None if since is None else now_ms - round(1000 * since),
            ids=self._texts("ids", IDS_MAX),
            oldest_first=True,
            beyond=beyond,
            limit=limit or 100,
        )
        self.check()

    def mistake(self, field: str, words: str) -> None:
        self._problems.append((field, words))

    def check(self) -> None:
        """Raises:
        InvalidRequest: what is wrong, all of it.
        """
        if self._problems:
            raise InvalidRequest(self._problems)

    def check_that_it_chooses(self) -> None:
        """A batch acts on everything only if that is said, so that an empty list of ids is no disaster."""
        if self._fields.get("ids") == []:
            self.mistake("ids", "is empty; name at least one, or leave it out")
        elif not self.flag("all") and all(self._fields.get(name) is None for name in _WHICH):
            self.mistake("all", "nothing says which ones; all: true means every one")

    def flag(self, name: str) -> bool:
        value = self._fields.get(name)
        if value is not None and type(value) is not bool:
            self.mistake(name, "must be true or false")
        return value is True

    def text(self, name: str) -> str | None:
        value = self._fields.get(name)
        if value is None or (isinstance(value, str) and 1 <= len(value) <= 500):
            return value
        self.mistake(name, "must be text of at most 500 characters")
        return None

    def one_of(self, name: str, choices: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and value not in choices:
            self.mistake(name, f"must be {' or '.join(choices)}")
        return value

    def parsed(self, name: str, parse: Callable[[Any], Any]) -> Any:
        value = self._fields.get(name)
        if value is None:
            return None
        try:
            return parse(value)
        except ValueError as error:
            self.mistake(name, str(error))
            return None

    def _texts(self, name: str, most: int) -> tuple[str, ...]:
        value = self._fields.get(name)
        values = [value] if isinstance(value, str) else [] if value is None else value
        if not isinstance(values, list) or len(values) > most or not all(isinstance(one, str) for one in values):
            self.mistake(name, f"must be a text or a list of at most {most} texts")
            return ()
        return tuple(values)
