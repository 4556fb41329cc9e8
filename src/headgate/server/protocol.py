"""Uvicorn's HTTP/1.1 protocol with patience that ends.

Uvicorn waits for ever for a request's header lines and for a body that nobody reads any more, accepts any number of
connections, and answers broken HTTP in plain text. Here a connection that has sent no whole header after `HEADERS_S`,
or no whole body after `BODY_S`, is closed; connections beyond a bound are told so and closed; and broken HTTP gets a
problem like everything else. (A body that is being read has its own, earlier deadline in `headgate.server.front`.)
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from headgate.model.reason import Reason
from headgate.server.answers import CLOSE, Answer, problem, temporary

HEADERS_S = 10.0
BODY_S = 35.0


class PatientProtocol(H11Protocol):
    """One connection."""

    connections_max = 2000

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._phase: Any = None  # h11's state of the client's half, as last seen
        if len(self.connections) > self.connections_max:
            self._write_and_close(
                temporary(
                    Reason.CONCURRENCY,
                    f"this server keeps at most {self.connections_max} connections",
                    scope="server",
                    retry_after_ms=2000,
                    close=True,
                )
            )
            return
        self._limit_phase()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not self._phase:
            self._limit_phase()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            self.transport.close()  # an answer has begun; nothing can be added to it
            return
        self._write_and_close(problem(400, Reason.INVALID_REQUEST, msg, headers=[CLOSE]))

    def _limit_phase(self) -> None:
        """The client has begun to send something else (or has sent everything): time that."""
        self._stop_timer()
        self._phase = self.conn.their_state
        if self._phase is h11.IDLE:
            self._timer = self.loop.call_later(HEADERS_S, self._out_of_patience)
        elif self._phase is h11.SEND_BODY:
            self._timer = self.loop.call_later(BODY_S, self._out_of_patience)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _out_of_patience(self) -> None:
        self._timer = None
        if not self.transport.is_closing() and self.conn.their_state is self._phase:
            self.transport.close()

    def _write_and_close(self, answer: Answer) -> None:
        lines = [b"HTTP/1.1 %d " % answer.status]
        lines += [b"%s: %s" % header for header in answer.headers]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + answer.body)
        self.transport.close()


def protocol_for(connections_max: int) -> type[asyncio.Protocol]:
    """The protocol with this bound on connections (uvicorn takes a class, not an instance)."""
    made: Any = type("BoundedProtocol", (PatientProtocol,), {"connections_max": connections_max})
    return cast("type[asyncio.Protocol]", made)
