"""The ASGI application around a gate."""

from __future__ import annotations

from importlib.metadata import version
from random import Random
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from headgate.errors import HeadgateError
from headgate.gate import Gate
from headgate.model.reason import Reason
from headgate.server import docs_page
from headgate.server.answers import ProblemError, answer_for, as_response, invalid, problem
from headgate.server.auth import Authenticator
from headgate.server.fleet_routes import FleetRoutes
from headgate.server.front import Front
from headgate.server.metrics import Exposition
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
    api.include_router(RunRoutes(gate, streams).router())
    api.include_router(
        FleetRoutes(gate, Exposition(gate.metrics, own), lambda: front.draining or gate.draining).router()
    )
    _add_docs(api)
    _add_problems(api, rng)
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


def _add_problems(api: FastAPI, rng: Random) -> None:
    """Every error is a problem, whoever raised it."""

    async def on_purpose(_request: Request, error: Exception) -> Response:
        answer = answer_for(error, retry_after_ms=round(2000 * (1 + rng.random() / 4)))
        if answer is None:
            raise error
        return as_response(answer)

    async def bad_query(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for nothing else
        mistakes = [(".".join(map(str, one["loc"][1:])) or "request", str(one["msg"])) for one in error.errors()]
        return as_response(invalid(mistakes[:20]))

    async def by_status(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # registered for nothing else
        headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
        if error.status_code == 404:
            return as_response(problem(404, Reason.NOT_FOUND, "there is nothing here", headers=headers))
        detail = "this method is not offered here" if error.status_code == 405 else str(error.detail)
        return as_response(problem(error.status_code, Reason.INVALID_REQUEST, detail, headers=headers))

    async def unexpected(_request: Request, _error: Exception) -> Response:
        return as_response(problem(500, Reason.ERROR, "an unexpected error happened; it was logged"))

    api.add_exception_handler(ProblemError, on_purpose)
    api.add_exception_handler(HeadgateError, on_purpose)
    api.add_exception_handler(RequestValidationError, bad_query)
    api.add_exception_handler(HTTPException, by_status)
    api.add_exception_handler(Exception, unexpected)
