"""Who may start now: the state of one resource, behind one lock.

Plain synchronous code that knows no event loop: callers are slots, and a waiting slot has a `Waker` that reaches its
caller wherever it waits. So one resource serves several event loops and plain threads at once.

Order of taking: queue, breaker, slot, then the scarce things (rate, model tokens, the fleet's slots); everything is
given back in reverse when one of them has no room. Nobody is woken and nothing is told while the lock is held.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from headgate.clock import Clock
from headgate.config.settings import Mode, ResourceSettings
from headgate.errors import Overloaded
from headgate.guard import classify
from headgate.guard.ambient import Ambient
from headgate.guard.controls import Controls
from headgate.guard.door import RELEASE, TOO_LATE, Door, late
from headgate.guard.evidence import Evidence
from headgate.guard.fleet import FleetSlots
from headgate.guard.model_tokens import TokenHolds
from headgate.guard.narration import Narration
from headgate.guard.options import CallOptions
from headgate.guard.outbox import Outbox, Pending
from headgate.guard.refusals import Denial, Refusals
from headgate.guard.retries import Retries, SharedRunRetries
from headgate.guard.retry import Again
from headgate.guard.slot import Slot, SlotState
from headgate.guard.statistics import Counts, Picture
from headgate.model.outcome import CallResult
from headgate.model.reason import Reason
from headgate.observe.bus import EventBus
from headgate.policy.breaker import BreakerState


class Turnstile:
    """Admits calls to one resource and learns from their ends."""

    def __init__(
        self,
        name: str,
        kind: str,
        settings: ResourceSettings,
        *,
        clock: Clock,
        rng: random.Random,
        bus: EventBus,
        weights: Mapping[str, float] | None = None,
        fleet: FleetSlots | None = None,
        tokens: TokenHolds | None = None,
        run_retries: SharedRunRetries | None = None,
    ) -> None:
        self.name, self.kind = name, kind
        self.max_age_s = settings.queue.max_age
        self.evidence = Evidence(name, settings, rng, clock.monotonic())
        self.tokens = tokens
        self.inflight = 0
        self.calls = 0
        self.abandoned: deque[Slot] = deque()
        self.run_retries = run_retries or SharedRunRetries()
        self._retries = Retries(settings.retry, self.evidence.retry_budget, self.run_retries, rng)
        self._settings = settings
        self._clock = clock
        self._bus = bus
        self._shadow = settings.mode is Mode.SHADOW
        self._refusals = Refusals(f"resource:{name}", rng)
        self._fleet = fleet
        self._door = Door(name, settings, self.evidence, tokens=tokens, fleet=fleet, weights=weights or {})
        self._queue = self._door.queue
        self._lock = threading.Lock()
        self._narration = Narration(name, kind, settings.queue.depth, bus, self.evidence)
        self.tell = self._narration.tell_now
        self._outbox = Outbox(self._narration, self.withdraw)

    def try_enter(self, slot: Slot, now: float) -> bool:
        """Start at once if possible; ``False`` means: `line_up`.

        Raises:
            Overloaded: there is no use in waiting.
        """
        with self._lock:
            if now >= self.evidence.look_at:
                self.evidence.look(now)
            if self._shadow:
                self._pass_in_shadow(slot, now)
            elif slot.whose.deadline is not None and self._door.unreachable(slot, now):
                self._refuse(slot, TOO_LATE, now)
            elif self._queue or self._attempt(slot, now) > 0:
                denial = self._door.denial(slot, now, inflight=self.inflight)
                if denial is not None:
                    self._refuse(slot, denial, now)
            pending = self._pending()
        if pending is not None:
            self._outbox.deliver(pending)
        if slot.refusal is not None:
            raise slot.refusal
        return slot.state is SlotState.HELD

    def line_up(self, slot: Slot, now: float) -> None:
        """Join the queue; the slot's waker hears of its turn. Afterwards it is held, waiting or refused."""
        with self._lock:
            denial = self._door.shut(slot, now)  # the rest was looked at by `try_enter`
            if denial is not None:
                self._refuse(slot, denial, now)
            else:
                self._put_out(self._door.join(slot, now), now)
                self._pump(now)
            pending = self._pending()
        if pending is not None:
            self._outbox.deliver(pending)

    def reserve_place(self, slot: Slot, now: float) -> None:
        """Keep a place for a slot that waits for a moment it has reserved.

        Raises:
            Overloaded: the queue is full or the breaker open.
        """
        with self._changing():
            denial = self._door.shut(slot, now)
            if denial is not None:
                self._refuse(slot, denial, now)
            else:
                self._put_out(self._door.reserve(slot), now)
        if slot.refusal is not None:
            raise slot.refusal

    def release_place(self) -> None:
        """Undo `reserve_place`."""
        with self._lock:
            self._door.reserved -= 1

    def refuse(self, slot: Slot, denial: Denial, now: float) -> None:
        """Refuse a slot that is not in line; what it had reserved goes back.

        Raises:
            Overloaded: always.
        """
        with self._changing():
            self._refuse(slot, denial, now)
        if slot.refusal is not None:
            raise slot.refusal

    def leave(self, slot: Slot, result: CallResult, now: float, *, begun: bool = True) -> bool:
        """End a held slot with what came of it; ``False`` (and nothing happens) when it has ended before.

        A slot whose thread is still at work gives its evidence now and its place when the thread is over. ``begun``
        is false when the call was never made: then what was held for it goes back.
        """
        with self._lock:
            if slot.state is not SlotState.HELD:
                return False
            self.evidence.learn(slot, result, inflight=self.inflight, now=now)
            if result.sdk_retries:
                self._retries.count_hidden(result.sdk_retries)
            if not begun:
                self._undo(slot)
            elif self.tokens is not None:
                self.tokens.settle(slot, result)
            if slot.thread_over:
                self._release(slot, now)
            else:
                slot.state = SlotState.LINGERING
            if self._bus.active:
                self._narration.finished(slot, result, now, inflight=self.inflight, waiting=self._door.waiting)
            if self._queue:
                self._move_on(now)
            pending = self._pending()
        if pending is not None:
            self._outbox.deliver(pending)
        if self._fleet is not None:
            self._fleet.tell()
        return True

    def thread_over(self, slot: Slot) -> None:
        """The thread that ran the call came back."""
        with self._changing():
            slot.thread_over = True
            if slot.state is SlotState.LINGERING:
                now = self._clock.monotonic()
                self._release(slot, now)
                self._move_on(now)
        if self._fleet is not None:
            self._fleet.tell()

    def withdraw(self, slot: Slot) -> None:
        """The caller is gone before its call began: out of the line, or out of the slot it was just given."""
        if self.leave(slot, classify.IGNORED, self._clock.monotonic(), begun=False):
            return
        with self._changing():
            if slot.state in (SlotState.NEW, SlotState.WAITING):
                self._queue.discard(slot)
                slot.state = SlotState.ENDED
                self._undo(slot)
                self._pump(self._clock.monotonic())

    def tick(self, slot: Slot) -> None:
        """A waiting slot's moment has come: its age is over, or what held the line back may be gone."""
        now = self._clock.monotonic()
        with self._changing():
            if slot.state is SlotState.WAITING:
                slot.nudge_at = None
                if now >= slot.wait_until:
                    self._queue.discard(slot)
                    self._refuse(slot, late(slot), now)
                elif (down := self._door.down(now)) is not None:
                    slot.nudge_at = self._door.down_until(slot, now)
                    if now >= slot.nudge_at:
                        self._queue.discard(slot)
                        self._refuse(slot, down, now)
                self._pump(now)

    def watch(self, memory_pressure: float) -> None:
        """About once a second: let the limiter see the time and the memory, and start who can start."""
        now = self._clock.monotonic()
        with self._changing():
            self.evidence.press(memory_pressure, now)
            self.evidence.look(now)
            self._pump(now)

    @property
    def busy(self) -> bool:
        """Whether somebody, this thread included, is at work under the lock."""
        return self._lock.locked()

    def pump(self) -> None:
        """Start what can start now (somebody else's release may have made room)."""
        with self._changing():
            self._pump(self._clock.monotonic())

    def control(self, change: Callable[[Controls, Evidence], None]) -> None:
        """Change what is set by hand (a pause, an override), or end a cooldown."""
        with self._changing():
            change(self._door.controls, self.evidence)
            self._move_on(self._clock.monotonic())

    def again(self, result: CallResult, options: CallOptions, whose: Ambient, *, tries: int) -> Again:
        """Whether and when a failed try may be repeated; paid for from the retry budgets."""
        with self._lock:
            verdict = self._retries.judge(result, options, whose, tries=tries, now=self._clock.monotonic())
            if verdict.out_of_budget:
                self._refusals.count(Reason.RETRY_BUDGET)
        return verdict

    def enter_retry(self, slot: Slot) -> float:
        """Count a retry as under way: 0, or the seconds until to ask again because too many are.

        Raises:
            Overloaded: it has waited for longer than a retry may.
        """
        now = self._clock.monotonic()
        with self._lock:
            room = self._retries.enter(slot, now, busy=self.inflight + self._door.waiting)
        if isinstance(room, Denial):
            self.refuse(slot, room, now)
            return 0.0
        return room

    def count_shadow(self, slot: Slot, denial: Denial) -> None:
        """Count and tell a refusal that a limit in shadow mode would have given."""
        with self._changing():
            self._count_denial(slot, denial, self._clock.monotonic(), shadow=True)

    def usual_s(self, size: float | None, *, least: int, or_smaller: bool = False) -> float | None:
        """As `Evidence.usual_s`, of now."""
        with self._lock:
            return self.evidence.usual_s(self._clock.monotonic(), size, least=least, or_smaller=or_smaller)

    def picture(self, of: Callable[[Evidence, Door, ResourceSettings, float, Counts], Picture]) -> Picture:
        """What ``of`` makes of the state of now, all read under one lock."""
        with self._lock:
            name, kind = self.name, self.kind
            counts = Counts(name, kind, self.calls, self.inflight, self._retries, self._refusals, self.tokens)
            return of(self.evidence, self._door, self._settings, self._clock.monotonic(), counts)

    # everything below is called with the lock held

    def _attempt(self, slot: Slot, now: float) -> float:
        """Start the slot if everything has room: 0; else seconds to the next chance, or `RELEASE`."""
        wait_s = self._door.take_room(slot, now, inflight=self.inflight, who=self)
        if wait_s == 0:
            self._start(slot, now)
        return wait_s

    def _start(self, slot: Slot, now: float) -> None:
        evidence = self.evidence
        slot.state = SlotState.HELD
        slot.started_at = now
        breaker = evidence.breaker
        if breaker is not None:
            if breaker.state is not BreakerState.CLOSED:
                slot.probe = evidence.begin_probe(now)
            slot.epoch = breaker.epoch
        self._door.charge(slot, now)
        self.inflight += 1
        evidence.begin(slot, inflight=self.inflight, now=now)
        self.calls += 1
        if self._bus.active:
            self._narration.started(slot, inflight=self.inflight)

    def _release(self, slot: Slot, now: float) -> None:
        slot.state = SlotState.ENDED
        if slot.retrying:
            self._retries.leave(slot)
        self._door.correct(slot, now)
        self.inflight -= 1
        if self._fleet is not None:
            self._fleet.give_back()

    def _move_on(self, now: float) -> None:
        """Something has changed: turn the line away if nothing is there any more, else start who can start."""
        if self._queue and (down := self._door.down(now)) is not None:
            self._turn_away(down, now)
        self._pump(now)

    def _turn_away(self, down: Denial, now: float) -> None:
        """Refuse those in line who may not wait for the resource to come back; the others get their moment."""
        for waiting in self._queue.everybody():
            until = self._door.down_until(waiting, now)
            if now >= until:
                self._queue.discard(waiting)
                self._refuse(waiting, down, now)
            else:
                self._nudge(waiting, until)

    def _put_out(self, left: list[Slot], now: float) -> None:
        """Refuse whoever had to leave the line for another."""
        for one in left:
            self._refuse(one, self._door.full(), now)

    def _nudge(self, slot: Slot, moment: float) -> None:
        """Let a waiting slot's caller come by at ``moment``, if it would not sooner."""
        if slot.nudge_at is None or moment < slot.nudge_at:
            slot.nudge_at = moment
            self._outbox.reach(slot)

    def _pump(self, now: float) -> None:
        while not self._door.full_up(self.inflight) and (head := self._queue.head()) is not None:
            if now >= head.wait_until or (head.whose.deadline is not None and self._door.unreachable(head, now)):
                self._queue.discard(head)
                self._refuse(head, late(head) if now >= head.wait_until else TOO_LATE, now)
                continue
            wait_s = self._attempt(head, now)
            if wait_s > 0:
                if wait_s != RELEASE:
                    self._nudge(head, now + wait_s)
                return
            self._queue.discard(head)
            self._outbox.reach(head)

    def _pass_in_shadow(self, slot: Slot, now: float) -> None:
        """Count what would have been refused, and start the call whatever the limits say."""
        denial = self._door.shadow_denial(slot, now, inflight=self.inflight)
        if denial is not None:
            self._count_denial(slot, denial, now, shadow=True)
        self._door.take_anyway(slot, now)
        self._start(slot, now)

    def _refuse(self, slot: Slot, denial: Denial, now: float) -> None:
        slot.state = SlotState.REFUSED
        slot.refusal = self._count_denial(slot, denial, now)
        self._undo(slot)
        self._outbox.reach(slot)

    def _undo(self, slot: Slot) -> None:
        """Give back what a slot whose call never began had taken."""
        if self.tokens is not None:
            self.tokens.refund(slot)
        self._retries.refund(slot)
        self._retries.leave(slot)

    def _count_denial(self, slot: Slot, denial: Denial, now: float, *, shadow: bool = False) -> Overloaded:
        self._refusals.count(denial.reason, shadow=shadow)
        refusal = self._refusals.words(denial, estimate_s=self._door.estimate_s(now, slot))
        if self._bus.active:
            self._narration.refused(
                slot, refusal, now, inflight=self.inflight, waiting=self._door.waiting, shadow=shadow
            )
        return refusal

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock; wake and tell afterwards."""
        with self._lock:
            yield
            pending = self._pending()
        if pending is not None:
            self._outbox.deliver(pending)

    def _pending(self) -> Pending | None:
        """What is to be done once the lock is released."""
        if self.evidence.notes:
            self._narration.changes(self._clock.monotonic(), inflight=self.inflight, waiting=self._door.waiting)
        return self._outbox.collect() if self._narration.notes or self._outbox.wakes else None
