"""The ASGI application around a gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from random import Random
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from headgate.errors import HeadgateError
from headgate.gate import Gate
from headgate.model.reason import Reason
from headgate.server import docs_page
from headgate.server.answers import ProblemError, answer_for, as_response, invalid, problem
from headgate.server.auth import Authenticator
from headgate.server.budget_routes import BudgetRoutes
from headgate.server.control_routes import ControlRoutes
from headgate.server.dead_routes import DeadRoutes
from headgate.server.fleet_routes import FleetRoutes
from headgate.server.front import Front
from headgate.server.metrics import Exposition
from headgate.server.run_request import shown
from headgate.server.run_routes import RunRoutes
from headgate.server.shapes import Problem
from headgate.server.streams import IN_ALL_MAX, RunStreams
from headgate.server.submit import SubmitRun

DESCRIPTION = (
    "Admission, queues, limits and the truth about capacity for runs of AI agents. Errors are problems (RFC 9457) "
    "with a stable reason; 429 means contended, 503 nothing there, and both say when to come back."
)


def build_app(gate: Gate, *, insecure: bool = False, rng: Random | None = None) -> Front:
    """The application. The gate must be open before the first request; `headgate.server.serve` sees to that.

    While the store holds no API key only callers from this machine are served (as admins); ``insecure`` serves
    everybody.
    """
    rng = rng if rng is not None else Random()
    auth = Authenticator(lambda: gate.store.keys, clock=gate.clock, rng=rng, insecure=insecure)
    streams = RunStreams(gate.bus, gate.clock, in_all=min(IN_ALL_MAX, max(1, gate.settings.server.connections // 4)))
    api = FastAPI(
        title="headgate",
        version=version("headgate"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    front = Front(api, SubmitRun(gate), gate, auth, rng=rng)
    front.on_drain.append(streams.close)
    own: dict[str, tuple[str, Any]] = {
        "headgate_http_inflight": ("Requests being handled.", lambda: front.inflight),
        "headgate_http_streams": ("Event streams open.", lambda: streams.count),
    }
    fleet = FleetRoutes(gate, Exposition(gate.metrics, own), lambda: front.draining or gate.draining)
    rooms = (RunRoutes(gate, streams), fleet, BudgetRoutes(gate), ControlRoutes(gate), DeadRoutes(gate))
    routers = [room.router() for room in rooms]
    for router in routers:
        api.include_router(router)
    _add_docs(api)
    _add_problems(api, [route for router in (api.router, *routers) for route in router.routes], rng)
    return front


def _add_docs(api: FastAPI) -> None:
    def describe() -> dict[str, Any]:
        if api.openapi_schema is None:
            schema = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
            components = schema.setdefault("components", {})
            components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"key": []}]
            api.openapi_schema = schema
        return api.openapi_schema

    async def docs() -> Response:
        return Response(
            docs_page.render(api.openapi()),
            media_type="text/html; charset=utf-8",
            headers={
                "content-security-policy": docs_page.SECURITY_POLICY,
                "x-content-type-options": "nosniff",
                "referrer-policy": "no-referrer",
            },
        )

    api.openapi = describe  # type: ignore[method-assign]  # FastAPI's documented way to extend the description
    api.add_api_route("/docs", docs, include_in_schema=False, response_class=Response)


def _query_mistake(error: Mapping[str, Any]) -> tuple[str, str]:
    """One mistake of a query in this project's words: (field, message)."""
    name = shown(".".join(map(str, error["loc"][1:])) or "request")
    if error["type"] == "extra_forbidden":
        return name, "unknown parameter; GET /docs lists those of each path"
    return name, str(error["msg"]).replace("Input should be", "must be", 1)


def _methods(routes: Iterable[BaseRoute], request: Request) -> bytes:
    """Every method that the path takes; routing itself names those of the first route only."""
    offered: set[str] = set()
    for route in routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            offered |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(offered)).encode()


def _add_problems(api: FastAPI, routes: Sequence[BaseRoute], rng: Random) -> None:
    """Every error is a problem, whoever raised it."""

    async def on_purpose(_request: Request, error: Exception) -> Response:
        answer = answer_for(error, retry_after_ms=round(2000 * (1 + rng.random() / 4)))
        if answer is None:
            raise error
        return as_response(answer)

    async def bad_query(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for nothing else
        return as_response(invalid([_query_mistake(one) for one in error.errors()[:20]]))

    async def by_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # registered for nothing else
        headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
        if error.status_code == 404:
            return as_response(problem(404, Reason.NOT_FOUND, "there is nothing here", headers=headers))
        if error.status_code == 405:
            headers = [(b"allow", _methods(routes, request))]
        detail = "this method is not offered here" if error.status_code == 405 else str(error.detail)
        return as_response(problem(error.status_code, Reason.INVALID_REQUEST, detail, headers=headers))

    async def unexpected(_request: Request, _error: Exception) -> Response:
        return as_response(problem(500, Reason.ERROR, "an unexpected error happened; it was logged"))

    api.add_exception_handler(ProblemError, on_purpose)
    api.add_exception_handler(HeadgateError, on_purpose)
    api.add_exception_handler(RequestValidationError, bad_query)
    api.add_exception_handler(HTTPException, by_status)
    api.add_exception_handler(Exception, unexpected)
