"""What is sent back: JSON, or a problem (RFC 9457) with a stable ``reason``.

Statuses by meaning: 429 *contended*, 503 *nothing there*, 422 well-formed but impossible (a deadline that cannot be
met, a wish larger than the whole limit, a key known with another body), 409 in conflict with what is stored, other
4xx as HTTP defines them. Terminal refusals are never 429.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.types import Send

from headgate.errors import InvalidRequest, Overloaded, StoreError, UnknownTarget, UnknownWorkflow
from headgate.model.decision import Refusal
from headgate.model.reason import CONTENDED, NOTHING_THERE, Reason
from headgate.server.rate_headers import Headers, policy_name, refusal_headers, retry_headers

_COMMON: Headers = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
_JSON: Headers = [(b"content-type", b"application/json"), *_COMMON]
_PROBLEM: Headers = [(b"content-type", b"application/problem+json"), *_COMMON]
CLOSE = (b"connection", b"close")

IANA = "https://iana.org/assignments/http-problem-types#"
"""Two problem types are registered there for what rate limiting answers (draft-ietf-httpapi-ratelimit-headers)."""

_STATUS = {
    Reason.DEADLINE_UNREACHABLE: 422,
    Reason.NEVER_FITS: 422,
    Reason.IDEMPOTENCY_CONFLICT: 422,
    Reason.INVALID_REQUEST: 400,
    Reason.TOO_LARGE: 413,
    Reason.UNKNOWN_WORKFLOW: 404,
    Reason.UNKNOWN_RUN: 404,
    Reason.DUPLICATE: 409,
    Reason.NOT_REPLAYABLE: 409,
    Reason.UNKNOWN_OUTCOME: 409,
    Reason.UNAUTHENTICATED: 401,
    Reason.FORBIDDEN: 403,
}

_TITLE = {
    Reason.QUEUE_FULL: "The queue is full",
    Reason.RATE_LIMITED: "A rate is used up",
    Reason.COOLDOWN: "A dependency asked for a pause",
    Reason.CONCURRENCY: "Too much at once",
    Reason.OVER_BUDGET: "A budget is used up",
    Reason.SHED: "Refused under pressure",
    Reason.BREAKER_OPEN: "A dependency is down",
    Reason.DRAINING: "Nothing new is taken in",
    Reason.PAUSED: "Paused",
    Reason.STORE_UNAVAILABLE: "The store takes no writes now",
    Reason.DEADLINE_UNREACHABLE: "The deadline cannot be met",
    Reason.NEVER_FITS: "Larger than the whole limit",
    Reason.IDEMPOTENCY_CONFLICT: "The idempotency key is known with another body",
    Reason.INVALID_REQUEST: "The request is malformed",
    Reason.TOO_LARGE: "The body is too large",
    Reason.UNKNOWN_WORKFLOW: "No such workflow",
    Reason.UNKNOWN_RUN: "No such run",
    Reason.TOO_LATE: "It would come too late",
    Reason.DUPLICATE: "The same is in flight already",
    Reason.NOT_REPLAYABLE: "The run cannot be replayed",
    Reason.UNKNOWN_OUTCOME: "A step's outcome is unknown",
    Reason.UNAUTHENTICATED: "A valid API key is needed",
    Reason.FORBIDDEN: "Not allowed",
    Reason.TIMEOUT: "The request took too long to arrive",
    Reason.ERROR: "An unexpected error",
    Reason.NOT_FOUND: "Nothing here",
}


class Answer(NamedTuple):
    """A whole HTTP response."""

    status: int
    headers: Headers
    body: bytes


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(answer.status)


def json_answer(value: Any, *, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> Answer:
    """``value`` as JSON."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return Answer(status, [*_JSON, (b"content-length", b"%d" % len(body)), *headers], body)


def problem(
    status: int, reason: Reason, detail: str, *, headers: Iterable[tuple[bytes, bytes]] = (), **members: Any
) -> Answer:
    """A problem; ``members`` that are ``None`` are left out."""
    content = {
        "type": _type(status, reason),
        "title": _TITLE.get(reason, reason.value.replace("_", " ").capitalize()),
        "status": status,
        "detail": detail,
        "reason": reason.value,
    }
    content.update((name, value) for name, value in members.items() if value is not None)
    body = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return Answer(status, [*_PROBLEM, (b"content-length", b"%d" % len(body)), *headers], body)


def refused(refusal: Refusal) -> Answer:
    """The answer to a refused run: whose limit, how full, until when."""
    status = status_of(refusal.reason)
    policies = (
        {"violated-policies": [policy_name(refusal.scope, refusal.rule, refusal.unit, refusal.window_s)]}
        if status in (429, 503)
        else {}
    )
    return problem(
        status,
        refusal.reason,
        refusal.detail,
        headers=refusal_headers(refusal),
        scope=refusal.scope,
        rule=refusal.rule,
        limit=_number(refusal.limit),
        used=_number(refusal.used),
        unit=refusal.unit if refusal.limit is not None else None,
        retry_after_ms=refusal.retry_after_ms,
        run_id=refusal.run_id,
        **policies,
    )


def status_of(reason: Reason) -> int:
    """The HTTP status of a refusal."""
    if reason in CONTENDED:
        return 429
    if reason in NOTHING_THERE:
        return 503
    return _STATUS.get(reason, 422)


def temporary(reason: Reason, detail: str, *, scope: str, retry_after_ms: int, close: bool = False) -> Answer:
    """A refusal by the server itself (draining, too many connections), worth trying again."""
    answer = refused(Refusal(reason, scope, detail, retry_after_ms=retry_after_ms))
    return answer._replace(headers=[*answer.headers, CLOSE]) if close else answer


def invalid(problems: Iterable[tuple[str, str]], *, reason: Reason = Reason.INVALID_REQUEST) -> Answer:
    """Everything that is wrong with a request, at once."""
    errors = [{"field": field, "message": message} for field, message in problems]
    detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors)
    return problem(status_of(reason), reason, detail, headers=retry_headers(None), errors=errors)


def answer_for(error: Exception, *, retry_after_ms: int) -> Answer | None:
    """The answer to an error raised on purpose below; ``None`` for any other."""
    if isinstance(error, ProblemError):
        return error.answer
    if isinstance(error, InvalidRequest):
        return invalid(error.problems, reason=Reason(error.reason))
    if isinstance(error, UnknownWorkflow):
        return problem(404, Reason.UNKNOWN_WORKFLOW, str(error), headers=retry_headers(None))
    if isinstance(error, UnknownTarget):
        return problem(404, Reason.NOT_FOUND, str(error), headers=retry_headers(None))
    if isinstance(error, StoreError):
        return temporary(
            Reason.STORE_UNAVAILABLE,
            "the store cannot take this now; nothing was stored",
            scope="store",
            retry_after_ms=retry_after_ms,
        )
    if isinstance(error, Overloaded):
        wait_ms = None if error.retry_after_s is None else max(1, round(1000 * error.retry_after_s))
        return refused(
            Refusal(
                Reason(error.reason),
                error.scope,
                str(error),
                limit=error.limit,
                used=error.used,
                retry_after_ms=wait_ms,
            )
        )
    return None


async def send_answer(send: Send, answer: Answer, *, head: bool = False) -> None:
    """Send the whole response."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})


def as_response(answer: Answer) -> Response:
    """The same for a Starlette or FastAPI route."""
    response = Response(answer.body, status_code=answer.status)
    response.raw_headers = list(answer.headers)
    return response


def _type(status: int, reason: Reason) -> str:
    if status == 429 and reason is not Reason.SHED:
        return IANA + "quota-exceeded"
    if status == 503 or reason is Reason.SHED:
        return IANA + "temporary-reduced-capacity"
    return f"urn:headgate:problem:{reason.value}"


def _number(value: float | None) -> float | None:
    return int(value) if isinstance(value, float) and value.is_integer() else value
