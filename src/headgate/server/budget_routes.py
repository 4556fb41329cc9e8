"""``POST /v1/runs/{id}/budget``: somebody decides that a run may go on beyond its ceilings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from headgate.config.units import parse_amount, parse_duration
from headgate.errors import InvalidRequest
from headgate.gate import Gate
from headgate.model.ids import is_uuid
from headgate.model.reason import Reason
from headgate.model.run import RunRecord
from headgate.server.answers import ProblemError, as_response, json_answer, problem
from headgate.server.auth import Right
from headgate.server.run_routes import body_schema, caller_of, problems, small_object, unknown_run
from headgate.server.shapes import BudgetRequest, BudgetState
from headgate.server.views import budget_view

_FIELDS = ("calls", "model_tokens", "money", "wall")


class BudgetRoutes:
    """Raising the ceilings of one run."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def router(self) -> APIRouter:
        """The route, documented."""
        router = APIRouter()
        router.add_api_route(
            "/v1/runs/{run_id}/budget",
            self.raise_budget,
            methods=["POST"],
            tags=["runs"],
            summary="Raise the ceilings of a run; one that waits for it goes on",
            response_model=BudgetState,
            responses=problems(400, 401, 403, 404, 409),
            openapi_extra=body_schema(BudgetRequest, required=True),
        )
        return router

    async def raise_budget(self, request: Request, run_id: str) -> Response:
        caller = caller_of(request, Right.BUDGET)
        fields = await small_object(request, _FIELDS)
        gate = self._gate
        before = await gate.store.runs.get(run_id, tenant=caller.tenant) if is_uuid(run_id) else None
        if before is None:
            raise unknown_run(run_id)
        _refuse_ended(before)
        run = await gate.raise_budget(run_id, tenant=caller.tenant, **_raise(fields, before))
        if run is None:
            raise unknown_run(run_id)
        _refuse_ended(run)  # meanwhile
        return as_response(json_answer(budget_view(run)))


def _refuse_ended(run: RunRecord) -> None:
    if run.state.terminal:
        raise ProblemError(problem(409, Reason.INVALID_REQUEST, f"the run has ended as {run.state.value}"))


def _raise(fields: dict[str, Any], run: RunRecord) -> dict[str, Any]:
    """The wished totals, and what is to be added to the ceilings (``+20``).

    Raises:
        InvalidRequest: what is wrong with them.
    """
    # Whether a run has a ceiling never changes; how high it is may change at any moment.
    wishes: tuple[tuple[str, str, float | None, Callable[[Any], float]], ...] = (
        ("calls", "calls", run.budget_calls, parse_amount),
        ("model_tokens", "model_tokens", run.budget_model_tokens, parse_amount),
        ("money", "money", run.budget_money, parse_amount),
        ("wall", "wall_s", run.budget_wall_ms, parse_duration),
    )
    to: dict[str, Any] = {}
    by: dict[str, Any] = {}
    mistakes = []
    for name, argument, present, parse in wishes:
        value = fields.get(name)
        if value is None:
            continue
        more = isinstance(value, str) and value.lstrip().startswith("+")
        try:
            amount = parse(value.lstrip()[1:] if more else value)
        except ValueError as error:
            mistakes.append((name, str(error)))
            continue
        if present is None:
            mistakes.append((name, "the run has no such ceiling"))
        else:
            (by if more else to)[argument] = int(amount) if name in ("calls", "model_tokens") else amount
    if not mistakes and not (to or by):
        mistakes.append(("calls", "or model_tokens, money or wall is needed"))
    if mistakes:
        raise InvalidRequest(mistakes)
    return {**to, "more": by}
