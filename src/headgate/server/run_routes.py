"""Reading, following, cancelling and replaying runs. Another tenant's run is as unknown as one that never was."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from headgate.errors import InvalidRequest
from headgate.gate import Gate
from headgate.model.decision import Refusal
from headgate.model.ids import is_uuid
from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.server.answers import ProblemError, as_response, json_answer, problem, refused
from headgate.server.auth import Caller, Right
from headgate.server.front import CALLER, HEADERS, demand_json, read_body
from headgate.server.run_request import read_object
from headgate.server.shapes import (
    Accepted,
    CancelRequest,
    Problem,
    ReplayRequest,
    RunDetail,
    RunPage,
    RunRequest,
    RunsQuery,
)
from headgate.server.streams import RunStreams
from headgate.server.submit import accepted
from headgate.server.views import NO_SUB_RUNS, run_view, summary_view
from headgate.store.protocols import RunFilter

SMALL_BODY = 16 * 1024
_DETAIL_MAX = 500


def caller_of(request: Request, right: Right) -> Caller:
    """Whoever sent the request, if they may.

    Raises:
        ProblemError: they may not (403).
    """
    caller: Caller = request.scope[CALLER]
    caller.demand(right)
    return caller


async def small_object(request: Request, known: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a small JSON body, which may be missing.

    Raises:
        InvalidRequest, ProblemError: as for any body.
    """
    headers = request.scope[HEADERS]
    body = await read_body(request.receive, headers, most=SMALL_BODY)
    if body:
        demand_json(headers)
    return read_object(body, known)


def body_schema(shape: type[Any], *, required: bool) -> dict[str, Any]:
    """How OpenAPI shows a body that we read ourselves."""
    schema = {"application/json": {"schema": shape.model_json_schema()}}
    return {"requestBody": {"required": required, "content": schema}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How OpenAPI shows the refusals of an endpoint."""
    words = {
        400: "Malformed",
        401: "No valid API key",
        403: "Not allowed",
        404: "Unknown",
        409: "In conflict with what is stored",
        413: "Too large",
        415: "Not JSON",
        422: "Well-formed, but impossible",
        429: "Contended: try again when told",
        503: "Nothing there: try again when told",
    }
    return {
        status: {
            "description": words[status],
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


class RunRoutes:
    """The routes below ``/v1/runs``."""

    def __init__(self, gate: Gate, streams: RunStreams) -> None:
        self._gate = gate
        self._streams = streams

    def router(self) -> APIRouter:
        """All of them, documented."""
        router = APIRouter(prefix="/v1/runs", tags=["runs"])
        router.add_api_route(
            "",
            self.submit,
            methods=["POST"],
            status_code=202,
            summary="Ask for a run",
            responses={
                202: {"model": Accepted, "description": "Stored durably"},
                200: {"model": Accepted, "description": "Known already"},
                **problems(400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
            },
            openapi_extra=body_schema(RunRequest, required=True),
        )
        router.add_api_route(
            "", self.page, summary="List runs, newest first", response_model=RunPage, responses=problems(400, 401)
        )
        router.add_api_route(
            "/{run_id}", self.get, summary="One run", response_model=RunDetail, responses=problems(401, 404)
        )
        router.add_api_route(
            "/{run_id}/events",
            self.events,
            summary="Follow a run (server-sent events)",
            response_class=Response,
            responses={200: {"content": {"text/event-stream": {}}}, **problems(401, 404, 429)},
        )
        router.add_api_route(
            "/{run_id}/cancel",
            self.cancel,
            methods=["POST"],
            summary="Ask for a run's end",
            response_model=RunDetail,
            responses=problems(401, 403, 404),
            openapi_extra=body_schema(CancelRequest, required=False),
        )
        router.add_api_route(
            "/{run_id}/replay",
            self.replay,
            methods=["POST"],
            status_code=202,
            summary="Carry a dead letter out again",
            responses={202: {"model": Accepted}, **problems(400, 401, 403, 404, 409, 429, 503)},
            openapi_extra=body_schema(ReplayRequest, required=False),
        )
        router.responses = {500: {"model": Problem, "description": "Unexpected; it was logged"}}
        return router

    async def submit(self) -> Response:
        """Documentation only: `headgate.server.front` answers this path before routing."""
        raise ProblemError(problem(404, Reason.NOT_FOUND, "there is nothing here"))

    async def page(self, request: Request, wanted: Annotated[RunsQuery, Query()]) -> Response:
        caller = caller_of(request, Right.READ)
        if wanted.before is not None and not is_uuid(wanted.before):
            raise InvalidRequest([("before", "must be the id of a run")])
        if wanted.parent is not None and not is_uuid(wanted.parent):
            raise InvalidRequest([("parent", "must be the id of a run")])
        if caller.tenant is not None and wanted.tenant not in (None, caller.tenant):
            return as_response(json_answer({"runs": [], "next": None}))
        runs = await self._gate.store.runs.page(
            RunFilter(
                tenant=wanted.tenant if caller.tenant is None else caller.tenant,
                workflow=wanted.workflow,
                lane=wanted.lane,
                states=tuple(wanted.state),
                reason=wanted.reason,
                before=wanted.before,
                limit=wanted.limit,
                parent=wanted.parent,
            )
        )
        following = runs[-1].id if len(runs) == wanted.limit else None
        return as_response(json_answer({"runs": [summary_view(run) for run in runs], "next": following}))

    async def get(self, request: Request, run_id: str) -> Response:
        caller = caller_of(request, Right.READ)
        return as_response(json_answer(await self._view(run_id, caller)))

    async def events(self, request: Request, run_id: str) -> Response:
        caller = caller_of(request, Right.READ)
        gate = self._gate
        if await gate.intake.locate(run_id, tenant=caller.tenant) is None:
            raise unknown_run(run_id)
        seen = request.scope[HEADERS].get(b"last-event-id")
        return self._streams.respond(
            caller.key_id,
            run_id,
            gate.store,
            lambda: gate.intake.locate(run_id, tenant=caller.tenant),
            last_event_id=None if seen is None else seen.decode("latin-1")[:64],
        )

    async def cancel(self, request: Request, run_id: str) -> Response:
        caller = caller_of(request, Right.CANCEL)
        fields = await small_object(request, ("detail",))
        words = fields.get("detail")
        if words is not None and not (isinstance(words, str) and len(words) <= _DETAIL_MAX):
            raise InvalidRequest([("detail", f"must be text of at most {_DETAIL_MAX} characters")])
        gate = self._gate
        before = await gate.store.runs.get(run_id, tenant=caller.tenant) if is_uuid(run_id) else None
        if before is None:
            raise unknown_run(run_id)
        run = await gate.cancel(
            run_id,
            tenant=caller.tenant,
            detail=f"cancelled by {caller.label}" + (f": {words}" if words else ""),
        )
        if run is None:
            raise unknown_run(run_id)
        if run.state is RunState.CANCELLED and not before.state.terminal:
            self._tell_end(run)
        gate.poke()
        self._streams.hint(run_id)
        return as_response(json_answer(await self._view(run_id, caller), status=200 if run.state.terminal else 202))

    async def replay(self, request: Request, run_id: str) -> Response:
        caller = caller_of(request, Right.REPLAY)
        fields = await small_object(request, ("assume",))
        answer = await self._gate.intake.replay(run_id, tenant=caller.tenant, assume=fields.get("assume"))
        if isinstance(answer, Refusal):
            return as_response(refused(answer))
        self._gate.poke(answer.run)
        return as_response(accepted(answer))

    async def _view(self, run_id: str, caller: Caller) -> dict[str, Any]:
        gate = self._gate
        answer = await gate.intake.locate(run_id, tenant=caller.tenant)
        if answer is None:
            raise unknown_run(run_id)
        steps = await gate.store.runs.steps(run_id)
        below, used = NO_SUB_RUNS, (0, 0)
        if answer.run.spawned:
            children = gate.store.children
            below, used = await children.counts(run_id), await children.used_below(run_id)
        now_ms = gate.clock.now_ms()
        return run_view(answer, steps, models=gate.settings.models, now_ms=now_ms, sub_runs=below, used_below=used)

    def _tell_end(self, run: RunRecord) -> None:
        started = run.started_ms
        self._gate.bus.emit(
            "run_finished",
            workflow=run.workflow,
            tenant=run.tenant,
            lane=run.lane,
            run_id=run.id,
            outcome=run.state.value,
            reason=run.reason,
            ran_ms=None if started is None or run.finished_ms is None else run.finished_ms - started,
            attempts=run.attempts,
            calls=run.used_calls,
            model_tokens=run.used_model_tokens,
            degraded=run.degraded,
        )


def unknown_run(run_id: str) -> ProblemError:
    """The same words whether the run never was, was pruned, or is another tenant's."""
    shown = json.dumps(run_id[:60])
    return ProblemError(
        problem(404, Reason.UNKNOWN_RUN, f"there is no run {shown}", headers=[(b"x-should-retry", b"false")])
    )
