"""``headgate serve`` and ``headgate worker``: long-lived processes that end in order.

The first Ctrl-C (or SIGTERM) drains: nothing new is taken, running work gets time to reach its next step, the rest
resumes at the next start. The second one stops at once; what was accepted is stored either way.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
import signal
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.observe.bus import Event
from headgate.observe.log import DecisionLog, log_to

if TYPE_CHECKING:
    from headgate.gate import Gate

TARGET_HELP = "MODULE:ATTRIBUTE of your Gate; the module is looked for in this directory first."
Target = Annotated[str, typer.Argument(metavar="APP", help=TARGET_HELP)]


class Log(StrEnum):
    """What is written to standard error."""

    TEXT = "text"
    JSON = "json"
    OFF = "off"


LogOption = Annotated[
    Log, typer.Option("--log", help="One line per decision, as text or JSON; off leaves warnings only.")
]


def serve(
    app: Target,
    host: Annotated[str | None, typer.Option(help="Address to listen on; from headgate.yaml by default.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = None,
    workers: Annotated[
        bool, typer.Option("--workers/--no-workers", help="Also carry runs out, or only take them in.")
    ] = True,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve beyond this machine without any API key.")
    ] = False,
    log: LogOption = Log.TEXT,
) -> None:
    """Serve the HTTP API (and carry runs out) until Ctrl-C."""
    from headgate.cli.gates import load_gate
    from headgate.server import serve as service

    gate = load_gate(app)
    _write_log(gate, log)
    gate.bus.subscribe(lambda event: _tell_draining(gate, event))

    def ready(url: str) -> None:
        where = "with workers" if workers else "without workers"
        if workers:
            _warn_of_gaps(gate, app)
        _say(f"serving {app} at {url} {where}; API docs at {url}/docs; Ctrl-C drains")

    service.run(gate, host=host, port=port, insecure=insecure, workers=workers, ready=ready)


def worker(app: Target, log: LogOption = Log.TEXT) -> None:
    """Carry out runs from the same store as the service, without HTTP, until Ctrl-C."""
    from headgate.cli.gates import load_gate
    from headgate.server.serve import loop_factory

    gate = load_gate(app)
    _write_log(gate, log)
    gate.bus.subscribe(lambda event: _tell_draining(gate, event))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(work(gate, app))


async def work(gate: Gate, name: str) -> None:
    """Start a gate's workers and drain them when asked to stop."""
    signals = StopSignals()
    with signals.caught():
        try:
            await gate.start(workers=True, upkeep=True)
            _warn_of_gaps(gate, name)
            workflows = ", ".join(gate.registry.names()) or "nothing (the gate has no workflows)"
            _say(f"worker of {name} carries out {workflows}; Ctrl-C drains")
            await signals.asked.wait()
            await _drain(gate, signals)
        finally:
            await gate.close()


class StopSignals:
    """The first SIGINT or SIGTERM asks to stop, the second to stop at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    def tell(self) -> None:
        """One signal has come."""
        if self.asked.is_set():
            self.at_once.set()
        self.asked.set()

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """While inside, signals come here instead of ending the process."""
        loop = asyncio.get_running_loop()
        caught = []
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels the runner instead
                loop.add_signal_handler(number, self.tell)
                caught.append(number)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)


async def _drain(gate: Gate, signals: StopSignals) -> None:
    draining = asyncio.ensure_future(gate.drain())
    hurried = asyncio.ensure_future(signals.at_once.wait())
    await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if draining.done():
        draining.result()
        return
    _say("stopping at once; unfinished runs go on at the next start")
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)


def _warn_of_gaps(gate: Gate, name: str) -> None:
    """A workflow that is configured but written nowhere is taken in and then waits for nobody."""
    written = gate.registry.names()
    for workflow in gate.settings.workflows:
        if workflow not in written:
            near = difflib.get_close_matches(workflow, written, n=1)
            hint = f"; did you mean {near[0]!r} there?" if near else ""
            _say(f"warning: {name} has no @gate.workflow({workflow!r}), which the configuration names{hint}")
    if not written:
        _say(f"warning: {name} has no workflows; nothing is carried out here")


def _write_log(gate: Gate, log: Log) -> None:
    """Warnings and errors always, decisions unless they are off."""
    handler = log_to(
        sys.stderr,
        style="json" if log is Log.JSON else "text",
        level=logging.WARNING if log is Log.OFF else logging.INFO,
    )
    http = logging.getLogger("uvicorn")  # its few words, such as about broken HTTP, look like ours
    http.addHandler(handler)
    http.setLevel(logging.ERROR)  # strangers' broken requests are answered, not logged
    http.propagate = False
    gate.bus.subscribe(DecisionLog())


def _tell_draining(gate: Gate, event: Event) -> None:
    if event.name == "drain_began":
        running = 0 if gate.worker is None else gate.worker.statistics().running
        if running:
            have = "1 run has" if running == 1 else f"{running} runs have"
            limit = gate.settings.workers.drain
            _say(f"draining: {have} {limit:g} s to reach the next step; Ctrl-C again stops at once")
        else:
            _say("draining: nothing is running here")
    elif event.name == "drain_ended":
        _say("drained; waiting runs are stored and go on at the next start")


def _say(message: str) -> None:
    print(f"headgate: {message}", file=sys.stderr, flush=True)
