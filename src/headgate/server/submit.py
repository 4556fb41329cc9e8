"""``POST /v1/runs``: the hot path, from raw body to the bytes of the answer."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Receive, Scope

from headgate.gate import Gate
from headgate.model.decision import Admission, Refusal
from headgate.server.answers import Answer, json_answer, refused
from headgate.server.auth import Caller, Right
from headgate.server.front import demand_json, read_body
from headgate.server.rate_headers import limit_headers
from headgate.server.run_request import read_submission
from headgate.server.views import admission_view


class SubmitRun:
    """Reads a request, asks the intake, writes the answer."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._most = gate.settings.server.max_body

    async def __call__(
        self, _scope: Scope, receive: Receive, caller: Caller, headers: Mapping[bytes, bytes]
    ) -> Answer:
        caller.demand(Right.SUBMIT)
        demand_json(headers)
        body = await read_body(receive, headers, most=self._most)
        wanted = read_submission(body, headers, caller, now_ms=self._gate.clock.now_ms())
        answer = await self._gate.intake.submit(wanted)
        if isinstance(answer, Refusal):
            return refused(answer)
        self._gate.poke(answer.run)
        return accepted(answer)


def accepted(answer: Admission) -> Answer:
    """202 for a new run, 200 for one that was there already."""
    return json_answer(
        admission_view(answer),
        status=202 if answer.created else 200,
        headers=[
            (b"location", b"/v1/runs/" + answer.run.id.encode("ascii")),
            *limit_headers(answer.limits),
        ],
    )
