"""The composition root: configuration in, wired parts out. A `Gate` is what a user holds."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, Literal, Self, TypeVar, Unpack

from headgate.clock import REAL_CLOCK, Clock
from headgate.config.load import load_settings
from headgate.config.settings import GateSettings
from headgate.controls.board import ControlBoard
from headgate.errors import HeadgateError, InvalidRequest, Rejected
from headgate.guard.registry import Resources
from headgate.guard.resource import Resource
from headgate.intake import Intake, Outlook, Submission
from headgate.intake.capacity import capacity_report
from headgate.intake.estimates import Estimates, hint_of
from headgate.intake.in_force import InForce
from headgate.intake.outlook import REFRESH_S, resident_bytes
from headgate.model.canonical import decode
from headgate.model.decision import Admission, Refusal
from headgate.model.ids import uuid7
from headgate.model.run import LONGEST_DEADLINE_S, RunRecord
from headgate.observe.bus import EventBus
from headgate.observe.metrics import Metrics
from headgate.runs.awaiting import Endings
from headgate.runs.children import ChildRequest
from headgate.runs.pools import worker_of
from headgate.runs.raising import Raised, raise_budget
from headgate.runs.registry import WorkflowRegistry
from headgate.runs.upkeep import Upkeep
from headgate.runs.worker import Drained, Worker
from headgate.store.open import open_store
from headgate.store.protocols import Store

WorkflowFunction = TypeVar("WorkflowFunction", bound=Callable[..., Awaitable[Any]])


class Gate:
    """Admission, limits, queues and workers over one configuration.

    As a library, `resource` guards calls and needs neither a store nor an event loop. With `open` it admits and
    stores runs; with `start` it also carries them out. ``async with gate:`` does both and drains at the end.
    """

    def __init__(
        self,
        settings: GateSettings | None = None,
        *,
        clock: Clock = REAL_CLOCK,
        rng: Random | None = None,
        store_mode: Literal["thread", "inline"] = "thread",
    ) -> None:
        """``clock`` and ``rng`` are injected by tests and the lab; ``store_mode="inline"`` runs the store on the
        event loop itself, which makes virtual time repeatable."""
        self.settings = settings if settings is not None else GateSettings()
        self.clock = clock
        self._rng = rng if rng is not None else Random()
        self._store_mode = store_mode
        self.bus = EventBus(clock)
        self.metrics = Metrics()
        self.bus.subscribe(self.metrics)
        self.registry = WorkflowRegistry()
        self.resources = Resources(self.settings, clock=clock, rng=self._rng, bus=self.bus)
        self.owner = f"{socket.gethostname()}/{os.getpid()}/{uuid7(clock.now_ms(), self._rng.getrandbits)}"
        self.outlook = Outlook(
            self.settings,
            clock=clock,
            rng=self._rng,
            bus=self.bus,
            resource_pressure=self._resource_pressure,
            memory_bytes=resident_bytes,
        )
        self.controls = ControlBoard(
            self.settings,
            self.resources,
            clock=clock,
            bus=self.bus,
            workflows=self.registry.names,
            on_change=self._controls_changed,
        )
        self._store: Store | None = None
        self._intake: Intake | None = None
        self._opening: asyncio.Future[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stop_hints: Callable[[], None] | None = None
        self._endings = Endings()
        self.worker: Worker | None = None
        self.upkeep: Upkeep | None = None
        self.draining, self._one_drain = False, asyncio.Lock()

    @classmethod
    def load(cls, path: str | Path = "headgate.yaml", **parts: Any) -> Self:
        """A gate from a YAML file.

        Raises:
            ConfigError: the file has mistakes; all are listed as ``file:line:column: message``.
        """
        return cls(load_settings(path), **parts)

    @property
    def estimates(self) -> Estimates:
        """What runs are expected to take, learned from those that ended."""
        return self.outlook.estimates

    # -- as a library -------------------------------------------------------------------------------------------

    def resource(self, name: str) -> Resource:
        """A configured tool, model or stage, to guard calls with.

        Raises:
            UnknownResource: nothing of that name is configured.
        """
        return self.resources.get(name)

    # -- durable runs -------------------------------------------------------------------------------------------

    def workflow(self, name: str) -> Callable[[WorkflowFunction], WorkflowFunction]:
        """Register an async function ``(run, input)`` as the workflow ``name``."""

        def register(function: WorkflowFunction) -> WorkflowFunction:
            self.registry.register(name, function)
            return function

        return register

    @property
    def store(self) -> Store:
        """The open store.

        Raises:
            HeadgateError: `open` has not been awaited.
        """
        if self._store is None:
            raise HeadgateError("the gate is not open; await gate.open() or use `async with gate:` first")
        return self._store

    @property
    def intake(self) -> Intake:
        """The door; needs an open gate like `store`."""
        if self._intake is None:
            raise HeadgateError("the gate is not open; await gate.open() or use `async with gate:` first")
        return self._intake

    async def open(self) -> None:
        """Open the store and begin to watch the queues. Safe to call again, also from several places at once.

        Raises:
            StoreError: the store cannot be opened; the message says what to do.
        """
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
        try:
            await asyncio.shield(self._opening)
        except Exception:
            self._opening = None
            raise

    async def _open(self) -> None:
        store = self._store = await open_store(self.settings.store, mode=self._store_mode)
        self._intake = Intake(
            self.settings,
            store,
            clock=self.clock,
            rng=self._rng,
            bus=self.bus,
            outlook=self.outlook,
            workflows=self.registry.names,
        )
        self._intake.use(self.controls.in_force)
        self._stop_hints = self.bus.subscribe(self._endings)
        try:
            await self.outlook.refresh(store)
            await self.controls.refresh(store)
        except BaseException:
            await self.close()  # the next attempt opens anew; this one must not stay behind
            raise
        self._watch = asyncio.create_task(self._watch_queues(), name="headgate-outlook")

    async def start(self, *, workers: bool = True, upkeep: bool = True) -> None:
        """Open, and begin to carry out runs (``workers``) and to expire and rescue them on time (``upkeep``)."""
        await self.open()
        if upkeep and self.upkeep is None:
            self.upkeep = Upkeep(
                self.store, self.settings, clock=self.clock, bus=self.bus, rng=self._rng, on_waiting=self.poke
            )
            await self.upkeep.start()
        if workers and self.worker is None:
            self.worker = worker_of(
                self.settings,
                self.store,
                self.registry,
                self.resources,
                self.settings,
                clock=self.clock,
                rng=self._rng,
                bus=self.bus,
                owner=self.owner,
                pressure=self.outlook.pressure_on,
                profile=self.estimates.profile,
                held_back=lambda: self.outlook.holdback.beside(self.controls.in_force.held_back),
                effective=lambda: self.controls.settings,
                door=self._take_in,
            )
            await self.worker.start()
            self.outlook.worker_here = True

    async def submit(
        self,
        workflow: str,
        input: Any = None,
        *,
        tenant: str = "default",
        user: str | None = None,
        lane: str | None = None,
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
        cost: Mapping[str, float] | None = None,
    ) -> Admission:
        """Ask for a run. When this returns, the run is stored and survives power loss.

        ``input`` is any JSON value; ``deadline_s`` is seconds from now after which nobody wants the result.
        ``cost`` is what it will take, as far as the caller knows: ``model_tokens``, ``money``, ``calls``.

        Raises:
            Rejected: refused; ``reason``, ``scope`` and ``retry_after_s`` say what to do.
            InvalidRequest: the request is malformed. UnknownWorkflow: there is no such workflow.
        """
        if deadline_s is not None and not 0 < deadline_s <= LONGEST_DEADLINE_S:
            raise InvalidRequest([("deadline_s", "must be more than 0 and at most a year")])
        answer = await self.intake.submit(
            Submission(
                workflow=workflow,
                input=input,
                tenant=tenant,
                user=user,
                lane=lane,
                deadline_ms=None if deadline_s is None else self.clock.now_ms() + round(1000 * deadline_s),
                idempotency_key=idempotency_key,
                cost=hint_of(cost),
            )
        )
        if isinstance(answer, Refusal):
            raise Rejected(
                answer.reason,
                scope=answer.scope,
                retry_after_s=None if answer.retry_after_ms is None else answer.retry_after_ms / 1000,
                limit=answer.limit,
                used=answer.used,
                advice=answer.detail,
                rule=answer.rule,
            )
        self.poke(answer.run)
        return answer

    async def _take_in(self, request: ChildRequest) -> Admission | Refusal:
        """Ask for a sub-run, for a run that this process carries out."""
        answer = await self.intake.submit(
            Submission(
                workflow=request.workflow,
                input_text=request.input_text,
                tenant=request.tenant,
                user=request.user,
                lane=request.lane,
                deadline_ms=request.deadline_ms,
                latest_ms=request.latest_ms,
                grant=request.grant,
                spawn=request.spawn,
            )
        )
        if not isinstance(answer, Refusal):
            self.poke(answer.run)
        return answer

    async def cancel(self, run_id: str, *, tenant: str | None = None, detail: str = "cancelled") -> RunRecord | None:
        """Ask for a run's end: a waiting one ends at once, a running one at its next chance to stop.

        Returns the run as it is now, or ``None`` if there is none (or it is another tenant's).
        """
        run = await self.store.runs.cancel(run_id, tenant=tenant, now_ms=self.clock.now_ms(), detail=detail)
        if run is not None and run.cancel_requested and self.worker is not None:
            self.worker.cancel(run_id)
        return run

    async def raise_budget(
        self, run_id: str, *, tenant: str | None = None, **ceilings: Unpack[Raised]
    ) -> RunRecord | None:
        """Raise ceilings of an unfinished run, see `headgate.runs.raising`. ``None``: there is no such run."""
        return await raise_budget(self.store, self.bus, run_id, tenant=tenant, then=self.poke, **ceilings)

    def poke(self, run: RunRecord | None = None) -> None:
        """Tell the worker and the upkeep of this process that something new was stored: this run, if it is one."""
        if self.worker is not None:
            self.worker.poke()
        if self.upkeep is not None:
            self.upkeep.poke(run)

    async def ended(self, run_id: str, *, timeout_s: float | None = None) -> RunRecord:
        """Wait until a run has ended and return it.

        Raises:
            TimeoutError: not within ``timeout_s``. HeadgateError: there is no such run.
        """
        return await self._endings.ended(self.store, run_id, timeout_s=timeout_s)

    async def result(self, run_id: str, *, timeout_s: float | None = None) -> Any:
        """What the run's workflow returned, once it has succeeded.

        Raises:
            TimeoutError: not within ``timeout_s``. HeadgateError: it ended otherwise; the message says how.
        """
        run = await self.ended(run_id, timeout_s=timeout_s)
        if run.result is None:
            raise HeadgateError(f"run {run_id} ended as {run.state}: {run.reason} {run.detail or ''}".rstrip())
        return decode(run.result)

    async def drain(self, *, timeout_s: float | None = None) -> None:
        """Take nothing new, let running work reach its next step, put back the rest unharmed; one call at a time."""
        async with self._one_drain:
            if self.draining:
                return
            self.draining = True
            if self._intake is not None:
                self._intake.draining = True
            worker, left = self.worker, Drained(finished=0, released=0, ran_s=0.0)
            self.bus.emit("drain_began", inflight=0 if worker is None else worker.statistics().running)
            if worker is not None:
                left = await worker.drain(self.settings.workers.drain if timeout_s is None else timeout_s)
            ran_ms = round(1000 * left.ran_s)
            self.bus.emit("drain_ended", finished=left.finished, released=left.released, ran_ms=ran_ms)

    async def close(self) -> None:
        """Stop everything and close the store. Safe to call again."""
        if self.worker is not None:
            await self.worker.stop()
            self.worker = None
        if self.upkeep is not None:
            await self.upkeep.stop()
            self.upkeep = None
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        if self._stop_hints is not None:
            self._stop_hints()
            self._stop_hints = None
        if self._store is not None:
            store, self._store, self._intake, self._opening = self._store, None, None, None
            await store.close()
        self.draining, self._one_drain = False, asyncio.Lock()  # a gate may be opened again, and on another loop

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *raised: object) -> None:
        try:
            await self.drain()
        finally:
            await self.close()

    # -- how it is ----------------------------------------------------------------------------------------------

    def capacity(self) -> dict[str, Any]:
        """The truth about every lane, workflow, resource and limit, as plain JSON values."""
        return capacity_report(
            self.settings,
            self.outlook,
            self.resources.statistics(),
            now_ms=self.clock.now_ms(),
            draining=self.draining,
            worker=None if self.worker is None else self.worker.statistics(),
            shadowed=self.metrics.series("headgate_shadow_refusals_total"),
            registered=self.registry.names(),
        )

    def _controls_changed(self, in_force: InForce) -> None:
        self.outlook.in_force = in_force
        if self._intake is not None:
            self._intake.use(in_force)
        self.poke()

    def _resource_pressure(self) -> float:
        return max((one.standing().pressure for one in self.resources.all()), default=0.0)

    async def _watch_queues(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            for look in (self.outlook.refresh, self.controls.refresh):
                try:
                    await look(self.store)
                except HeadgateError as error:
                    self.bus.emit("store_failed", reason="store_unavailable", detail=str(error))
            self.resources.watch(self.outlook.pressure.memory)
