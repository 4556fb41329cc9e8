"""What operators set by hand: pause and resume, override and reset, and who did."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from headgate.config.units import Rate, parse_duration, parse_rate, parse_share
from headgate.controls.declared import declared_words
from headgate.errors import InvalidRequest
from headgate.gate import Gate
from headgate.model.control import FLEET, Control, ControlKind
from headgate.model.reason import Reason
from headgate.server.answers import ProblemError, as_response, json_answer, problem
from headgate.server.auth import Right
from headgate.server.run_routes import body_schema, caller_of, problems, small_object
from headgate.server.shapes import ControlList, ControlRequest, ControlsQuery, ControlState, ResetQuery
from headgate.server.views import control_change_view, control_view

_NUMBERS = ("limit", "rate", "depth", "max_age", "share", "weight", "shed_at", "model_tokens")
_FIELDS = ("pause", "stop_running", *_NUMBERS, "reason", "expires")
_KINDS = (ControlKind.OVERRIDE, ControlKind.PAUSE)
T = TypeVar("T")


class ControlRoutes:
    """The routes below ``/v1/controls``."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def router(self) -> APIRouter:
        """All of them, documented."""
        router = APIRouter(prefix="/v1/controls", tags=["controls"])
        router.add_api_route(
            "",
            self.controls,
            summary="What is set by hand or held back by a rule, and the record of changes",
            response_model=ControlList,
            responses=problems(400, 401, 403),
        )
        router.add_api_route(
            "/{target:path}",
            self.put,
            methods=["PUT"],
            summary="Pause, resume or override a target, such as a lane or a tenant, in the whole fleet",
            response_model=ControlState,
            responses=problems(400, 401, 403, 404),
            openapi_extra=body_schema(ControlRequest, required=True),
        )
        router.add_api_route(
            "/{target:path}",
            self.reset,
            methods=["DELETE"],
            summary="Go back to what is declared",
            response_model=ControlState,
            responses=problems(400, 401, 403, 404),
        )
        return router

    async def controls(self, request: Request, wanted: Annotated[ControlsQuery, Query()]) -> Response:
        caller_of(request, Right.OBSERVE)
        changes = await self._gate.store.controls.changes(target=wanted.target, limit=wanted.limit)
        views = [view for view in self._in_force() if wanted.target in (None, view["target"])]
        return as_response(json_answer({"controls": views, "changes": [control_change_view(one) for one in changes]}))

    async def put(self, request: Request, target: str) -> Response:
        caller = caller_of(request, Right.CONTROL)
        fields = await small_object(request, _FIELDS)
        wish = _Wish(fields, target, by=caller.label, now_ms=self._gate.clock.now_ms())
        gate = self._gate
        if wish.controls:
            await gate.controls.put(gate.store, *wish.controls)
        if wish.resumes:
            kinds = [ControlKind.PAUSE]
            resumed = await gate.controls.drop(gate.store, target, kinds, by=caller.label, reason=wish.reason)
            if not resumed and not wish.controls:
                words = (
                    "the fleet is not drained" if target == FLEET else f"nobody has paused {target[:100]!r} by hand"
                )
                raise ProblemError(problem(404, Reason.NOT_FOUND, words))
        return self._state(target)

    async def reset(self, request: Request, target: str, wanted: Annotated[ResetQuery, Query()]) -> Response:
        caller = caller_of(request, Right.CONTROL)
        gate = self._gate
        dropped = await gate.controls.drop(gate.store, target, _KINDS, by=caller.label, reason=wanted.reason)
        cooled = await gate.controls.end_cooldown(gate.store, target, by=caller.label, reason=wanted.reason)
        if not dropped and not cooled:
            raise ProblemError(problem(404, Reason.NOT_FOUND, f"nothing is set by hand on {target[:100]!r}"))
        return self._state(target)

    def _state(self, target: str) -> Response:
        views = [view for view in self._in_force() if view["target"] == target]
        return as_response(json_answer({"target": target, "controls": views}))

    def _in_force(self) -> list[dict[str, Any]]:
        in_force = self._gate.controls.in_force
        controls = [*in_force.overrides.values(), *in_force.pauses.values()]
        settings = self._gate.settings
        return [
            {**control_view(one), "declared": declared_words(one, settings)}
            for one in sorted(controls, key=lambda one: (one.target, one.kind))
        ]


class _Wish:
    """A request's body, read."""

    def __init__(self, fields: dict[str, Any], target: str, *, by: str, now_ms: int) -> None:
        self._problems: list[tuple[str, str]] = []
        pause = self._typed(fields, "pause", bool, "true or false")
        stops: bool | None = self._typed(fields, "stop_running", bool, "true or false")
        numbers = self._numbers(fields)
        expires_s: float | None = self._parsed(fields, "expires", parse_duration)
        self.reason: str = self._typed(fields, "reason", str, "text") or ""
        self.resumes = pause is False
        overrides = any(fields.get(name) is not None for name in _NUMBERS)
        if not self.reason.strip():
            self._problems.append(("reason", "is required: say why, in words for others"))
        if pause is None and not overrides:
            self._problems.append(("pause", "or a number to override is needed"))
        if stops and not pause:
            self._problems.append(("stop_running", "belongs to `pause: true`"))
        if self._problems:
            raise InvalidRequest(self._problems)
        until_ms = None if expires_s is None else now_ms + round(1000 * expires_s)
        self.controls: list[Control] = []
        if overrides:
            self.controls.append(Control(target, ControlKind.OVERRIDE, self.reason, by, now_ms, until_ms, **numbers))
        if pause:
            self.controls.append(
                Control(target, ControlKind.PAUSE, self.reason, by, now_ms, until_ms, stops_running=bool(stops))
            )

    def _numbers(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What to override, as `Control` calls it."""
        numbers = {
            "limit_to": self._typed(fields, "limit", int, "a whole number"),
            "depth_to": self._typed(fields, "depth", int, "a whole number"),
            "age_s": self._parsed(fields, "max_age", parse_duration),
            "share": self._parsed(fields, "share", parse_share),
            "shed_at": self._parsed(fields, "shed_at", parse_share),
            "weight": self._parsed(fields, "weight", _number),
        }
        for name, of in (("rate", "rate"), ("model_tokens", "tokens")):
            rate: Rate | None = self._parsed(fields, name, parse_rate)
            if rate is not None:
                numbers |= {f"{of}_amount": rate.amount, f"{of}_window_s": rate.window_s}
        return numbers

    def _typed(self, fields: dict[str, Any], name: str, kind: type[T], words: str) -> T | None:
        value = fields.get(name)
        if value is None or type(value) is kind:
            return value
        self._problems.append((name, f"must be {words}"))
        return None

    def _parsed(self, fields: dict[str, Any], name: str, parse: Callable[[Any], T]) -> T | None:
        value = fields.get(name)
        if value is None:
            return None
        try:
            return parse(value)
        except ValueError as error:
            self._problems.append((name, str(error)))
            return None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("must be a number")
    return float(value)
