"""The truth about capacity, metrics, approvals, and whether this process is well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from headgate.errors import InvalidRequest
from headgate.gate import Gate
from headgate.model.ids import is_uuid
from headgate.model.reason import Reason
from headgate.server.answers import ProblemError, as_response, json_answer, problem, temporary
from headgate.server.auth import Right
from headgate.server.metrics import Exposition
from headgate.server.run_routes import body_schema, caller_of, problems, small_object
from headgate.server.shapes import ApprovalList, ApprovalsQuery, Decided, Decision, Health
from headgate.server.views import approval_view

READY_S = 2.0
"""A store that does not answer within this is not ready."""
_NOTE_MAX = 1000
_STATES = {"approve": "approved", "deny": "denied"}


class FleetRoutes:
    """Everything that is not about one run."""

    def __init__(self, gate: Gate, exposition: Exposition, draining: Callable[[], bool]) -> None:
        self._gate = gate
        self._exposition = exposition
        self._draining = draining

    def router(self) -> APIRouter:
        """All routes, documented."""
        router = APIRouter()
        router.add_api_route(
            "/v1/capacity",
            self.capacity,
            tags=["fleet"],
            summary="Every resource, lane and limit with its use",
            responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}, **problems(401, 403)},
        )
        router.add_api_route(
            "/metrics",
            self.metrics,
            tags=["fleet"],
            summary="Prometheus metrics",
            response_class=Response,
            responses={200: {"content": {"text/plain": {}}}, **problems(401, 403)},
        )
        router.add_api_route(
            "/v1/approvals",
            self.approvals,
            tags=["approvals"],
            summary="Questions that wait for a person",
            response_model=ApprovalList,
            responses=problems(400, 401),
        )
        router.add_api_route(
            "/v1/approvals/{approval_id}",
            self.decide,
            methods=["POST"],
            tags=["approvals"],
            summary="Answer one",
            response_model=Decided,
            responses=problems(400, 401, 403, 404),
            openapi_extra=body_schema(Decision, required=True),
        )
        for path, endpoint, words in (
            ("/healthz", self.health, "Whether this process is alive"),
            ("/readyz", self.ready, "Whether it takes new work"),
        ):
            router.add_api_route(
                path,
                endpoint,
                methods=["GET"],
                tags=["health"],
                summary=words,
                response_model=Health,
                responses=problems(503),
            )
            router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
        return router

    async def capacity(self, request: Request) -> Response:
        caller_of(request, Right.OBSERVE)
        return as_response(json_answer(self._gate.capacity()))

    async def metrics(self, request: Request) -> Response:
        caller_of(request, Right.OBSERVE)
        capacity = self._gate.capacity()
        text = await asyncio.to_thread(self._exposition.text, capacity)
        return Response(text, media_type=self._exposition.content_type, headers={"cache-control": "no-store"})

    async def approvals(self, request: Request, wanted: Annotated[ApprovalsQuery, Query()]) -> Response:
        caller = caller_of(request, Right.READ)
        waiting = await self._gate.store.approvals.waiting(
            queue=wanted.queue, tenant=caller.tenant, limit=wanted.limit, now_ms=self._gate.clock.now_ms()
        )
        return as_response(json_answer({"approvals": [approval_view(one) for one in waiting]}))

    async def decide(self, request: Request, approval_id: str) -> Response:
        caller = caller_of(request, Right.DECIDE)
        fields = await small_object(request, ("decision", "note"))
        wish, note = fields.get("decision"), fields.get("note")
        mistakes = []
        if not isinstance(wish, str) or wish not in _STATES:
            mistakes.append(("decision", "must be 'approve' or 'deny'"))
        if note is not None and not (isinstance(note, str) and len(note) <= _NOTE_MAX):
            mistakes.append(("note", f"must be text of at most {_NOTE_MAX} characters"))
        if mistakes:
            raise InvalidRequest(mistakes)
        gate = self._gate
        now_ms = gate.clock.now_ms()
        decided = None
        if is_uuid(approval_id):
            decided = await gate.store.approvals.decide(
                approval_id,
                tenant=caller.tenant,
                approved=wish == "approve",
                by=caller.label,
                note=note,
                now_ms=now_ms,
            )
        if decided is None:
            raise ProblemError(problem(404, Reason.NOT_FOUND, "there is no such approval"))
        applied = decided.state == _STATES[str(wish)]
        if applied and decided.decided_ms == now_ms:
            gate.bus.emit(
                "approval_decided",
                tenant=decided.tenant,
                run_id=decided.run_id,
                queue=decided.queue,
                approval_id=decided.id,
                outcome=decided.state,
                queued_ms=now_ms - decided.asked_ms,
            )
            gate.poke()
        return as_response(json_answer({**approval_view(decided), "applied": applied}))

    async def health(self) -> Response:
        return as_response(json_answer({"status": "ok"}))

    async def ready(self) -> Response:
        if self._draining():
            raise ProblemError(
                temporary(Reason.DRAINING, "this server is shutting down", scope="server", retry_after_ms=5000)
            )
        try:
            async with asyncio.timeout(READY_S):
                await self._gate.store.runs.overview()
        except TimeoutError:
            raise ProblemError(
                temporary(Reason.STORE_UNAVAILABLE, "the store does not answer", scope="store", retry_after_ms=2000)
            ) from None
        # Drained by hand, it still answers questions and commands, so it must stay reachable.
        drained = self._gate.controls.in_force.drain is not None
        return as_response(json_answer({"status": "drained" if drained else "ready"}))
