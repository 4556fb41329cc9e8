"""One call through the guard: what async and sync callers have in common.

A `Call` follows a call over its tries and fallbacks and keeps its account. It never waits and never runs the user's
function; `headgate.guard.guard` does.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headgate.clock import Clock
from headgate.errors import Expired, Overloaded, UnusableResult
from headgate.guard import ambient, classify, last_resort
from headgate.guard.narration import reason_of
from headgate.guard.options import CallOptions, Performed
from headgate.guard.refusals import Denial
from headgate.guard.retry import Again, surely_not_reached
from headgate.guard.slot import Slot
from headgate.guard.turnstile import Turnstile
from headgate.model.outcome import CallResult, Outcome
from headgate.model.reason import Reason
from headgate.policy.retry_budget import RetryKind

if TYPE_CHECKING:
    from headgate.guard.resource import Resource

_FALLS_BACK = frozenset(
    {
        Reason.BREAKER_OPEN,
        Reason.PAUSED,
        Reason.QUEUE_FULL,
        Reason.WAIT_EXPIRED,
        Reason.RATE_LIMITED,
        Reason.COOLDOWN,
        Reason.CONCURRENCY,
        Reason.NEVER_FITS,
        Reason.RETRY_BUDGET,
        Reason.DEADLINE_UNREACHABLE,
    }
)
_FAILS_OVER = frozenset({Outcome.FAILED, Outcome.TIMEOUT, Outcome.OVERLOADED, Outcome.QUOTA})
_EVIDENCE_LEAST = 8
"""Latencies that must be known before a call cut short by its caller counts against the dependency."""


class Call:
    """The account of one call."""

    __slots__ = (
        "_asked",
        "_chain",
        "_paid",
        "clock",
        "last_error",
        "limit_s",
        "limited_by_deadline",
        "maybe_done",
        "model_tokens",
        "options",
        "queued_s",
        "ran_s",
        "replaceable",
        "replaced",
        "resource",
        "tries",
        "tries_here",
        "turnstile",
        "unusable",
        "whose",
    )

    def __init__(self, resource: Resource, options: CallOptions) -> None:
        self.resource = resource
        self.turnstile: Turnstile = resource.turnstile
        self.clock: Clock = resource.clock
        self.options = options
        self.whose = ambient.current()
        self.limit_s = 0.0
        """How long the try under way may run."""
        self.limited_by_deadline = False
        self.tries = 0
        self.queued_s = 0.0
        self.ran_s = 0.0
        self.model_tokens = 0
        self.last_error: BaseException | None = None
        self.maybe_done = False
        """Whether some try may have taken effect though it gave no answer."""
        self.unusable = 0
        """Answers so far that did not pass a check."""
        self._asked: tuple[str, ...] = ()
        """Resources that were asked before this one."""
        self._chain: list[str] | None = None
        """Fallbacks that were not asked yet; made when the first is needed."""
        self.replaceable = False
        """Whether an answer of last resort may stand in for what the last try came to."""
        self.replaced: str | None = None
        """What kind of answer stood in."""
        self.tries_here = 0
        self._paid: RetryKind | None = None

    # before a try

    def new_slot(self, now: float) -> Slot:
        """A slot to ask with.

        Raises:
            Overloaded: the deadline has passed already.
        """
        options = self.options
        patience_s = self.turnstile.max_age_s
        if self._paid is not None and self.whose.run_id:
            patience_s = min(patience_s, self.resource.settings.retry.max_inline)
        if options.max_wait is not None and options.max_wait < patience_s:
            patience_s = max(0.0, options.max_wait)
        until, late = now + patience_s, Reason.WAIT_EXPIRED
        deadline = self.whose.deadline
        if deadline is not None and deadline < until:
            until, late = deadline, Reason.DEADLINE_UNREACHABLE
        if deadline is not None and deadline <= now:
            self._refuse_late(now)
        slot = Slot(self.whose, now, until, late)
        slot.paid, self._paid = self._paid, None
        slot.bytes = options.size
        if not self.tries and self.whose.run_id:
            self.turnstile.run_retries.call(self.whose)
        return slot

    def reserve_tokens(self, slot: Slot, now: float) -> float:
        """Hold model tokens on the estimate: 0, or the seconds to wait until the reserved moment.

        Raises:
            Overloaded: a limit has no room soon enough.
        """
        tokens = self.turnstile.tokens
        if tokens is None:
            return 0.0
        slot.given_tokens = self.options.model_tokens
        answer = tokens.reserve(slot, now)
        wish = answer.refused or answer.shadowed
        if wish is not None:
            reason = Reason.NEVER_FITS if answer.never else Reason.RATE_LIMITED
            denial = Denial(reason, answer.wait_s, wish.name, wish.size, slot.tokens, terminal=answer.never)
            if answer.refused is None:
                self.turnstile.count_shadow(slot, denial)
            else:
                self.turnstile.refuse(slot, denial, now)
        return answer.wait_s

    def begin(self, slot: Slot) -> None:
        """The slot is held: settle how long the try may run.

        Raises:
            Overloaded: the deadline passed between the grant and now, so the call is not started.
        """
        now = slot.started_at
        self.queued_s += max(0.0, now - slot.asked_at)
        if self.set_limit() <= 0:
            self.turnstile.withdraw(slot)
            self._refuse_late(now)
        self.replaceable = False
        self.tries += 1
        self.tries_here += 1

    def set_limit(self) -> float:
        """Settle how many seconds the call, or the next step of a stream, may take from now on."""
        limit_s = self.resource.timeout_s
        own = self.options.timeout
        if own is not None and own < limit_s:
            limit_s = own
        self.limited_by_deadline = False
        deadline = self.whose.deadline
        if deadline is not None:
            left_s = deadline - self.clock.monotonic()
            if left_s < limit_s:
                limit_s, self.limited_by_deadline = left_s, True
        self.limit_s = limit_s
        return limit_s

    # after a try

    def returned(self, slot: Slot, value: Any, *, overran: bool = False) -> Again | None:
        """The function returned: end the slot. ``None``: take the value; else the verdict on a bad answer.

        Raises:
            UnusableResult: it did not pass a check, and there is no further try.
        """
        unusable = self.unusable
        if type(value) in classify.PLAIN and not self.resource.checks and self.options.healthy is None:
            result = classify.OK
        else:
            result = self._ended_as(slot, value)
        if overran:
            result = replace(self._cut_result(), model_tokens=result.model_tokens)
        self._end(slot, result)
        if self.unusable > unusable:
            verdict = Again(None) if overran else self._again(slot, result)
            if verdict.delay_s is None:
                raise UnusableResult(self.resource.scope, self.unusable) from self.last_error
            return verdict
        return None if result.outcome is Outcome.OK or overran else self._again(slot, result)

    def raised(self, slot: Slot, error: BaseException) -> Again:
        """The function raised, or was cut: end the slot and judge."""
        self.last_error = error
        result = self._failed_as(slot, error)
        self._end(slot, result)
        if isinstance(error, Expired) or not isinstance(error, Exception):
            return Again(None)
        return self._again(slot, result)

    def ended_with(self, slot: Slot, value: Any) -> None:
        """A block of code is over with this answer; nothing follows from it."""
        self._end(slot, self._ended_as(slot, value))

    def ended_well(self, slot: Slot) -> None:
        """A block of code is over without error and without an answer to judge."""
        self._end(slot, classify.OK)

    def ended_by(self, slot: Slot, error: BaseException) -> None:
        """A block of code ended with this error; nothing follows from it."""
        self._end(slot, self._failed_as(slot, error))

    def fall_back(self, refusal: Overloaded) -> bool:
        """Move on to the fallback resource after a refusal, if there is one that was not asked yet."""
        self.replaceable = refusal.reason in _FALLS_BACK
        if not self.replaceable or self._past_deadline():
            return False
        return self._switch(refusal.reason)

    def too_slow(self) -> bool:
        """Whether the resource usually takes longer than this call has, while something else could answer."""
        deadline, own_s = self.whose.deadline, self.options.timeout
        if deadline is None and own_s is None:
            return False
        left_s = math.inf if deadline is None else deadline - self.clock.monotonic()
        if own_s is not None and own_s < left_s:
            left_s = own_s
        if left_s >= self.resource.timeout_s:  # nothing that ends well takes longer
            return False
        if not self.next_names() and not last_resort.offered(self.options):
            return False
        usual_s = self.turnstile.usual_s(self._size, least=_EVIDENCE_LEAST, or_smaller=True)
        return usual_s is not None and usual_s > left_s

    def skip_slow(self) -> None:
        """Refuse the slow resource, so that something else answers.

        Raises:
            Overloaded: always.
        """
        self._refuse_late(self.clock.monotonic())

    def drop_retry(self) -> None:
        """The retry that was paid for is not going to be made: its price goes back."""
        if self._paid is not None:
            now = self.clock.monotonic()
            slot = Slot(self.whose, now, now, Reason.WAIT_EXPIRED)
            slot.paid, self._paid = self._paid, None
            self.turnstile.withdraw(slot)

    def performed(self, value: Any) -> Performed[Any]:
        """The account with the value."""
        degraded = self.replaced or (self.resource.scope if self._asked else None)
        return Performed(value, self.queued_s, self.ran_s, self.tries, degraded, self.model_tokens)

    @property
    def _size(self) -> float | None:
        """The size by which this resource knows the call's latency, if it is known."""
        return None if self.turnstile.tokens is None else self.options.model_tokens

    def cut_error(self) -> Exception:
        """What a caller gets whose time ran out during the call."""
        if self.limited_by_deadline:
            return Expired(f"{self.resource.scope}: the deadline passed {self.limit_s:.3g} s into the call")
        return TimeoutError(f"{self.resource.scope}: no answer within {self.limit_s:g} s")

    def _ended_as(self, slot: Slot, value: Any) -> CallResult:
        """The verdict on an answer. A check that raises is the user's mistake: the slot ends, and it comes out."""
        try:
            return self._judge(value)
        except BaseException:
            self._end(slot, classify.IGNORED)
            raise

    def _failed_as(self, slot: Slot, error: BaseException) -> CallResult:
        """The verdict on an error. One that cannot be read (an attribute of it raises) ends the slot all the same."""
        try:
            return self._cut_result() if slot.cut else classify.of_error(error, now_ms=self.clock.now_ms())
        except BaseException:
            self._end(slot, classify.IGNORED)
            raise

    def _judge(self, value: Any) -> CallResult:
        checks = self.resource.checks
        own = self.options.healthy
        if own is None and not checks and type(value) in classify.PLAIN:
            return classify.OK
        classify.refuse_generator(value)
        usage = self.turnstile.tokens is not None
        result = classify.of_value(value, now_ms=self.clock.now_ms(), usage=usage)
        if result.outcome is not Outcome.OK:  # what the status says is more exact than that the answer is no good
            return result
        if not (sound := all(check(value) for check in checks)) or (own is not None and not own(value)):
            self.unusable += 1
            return replace(result, outcome=Outcome.FAILED, no_use=sound)  # it was paid for all the same
        return result

    def _end(self, slot: Slot, result: CallResult) -> None:
        now = self.clock.monotonic()
        self.ran_s += now - slot.started_at
        if result.model_tokens is not None:
            self.model_tokens += result.model_tokens
        if not self.maybe_done:
            self.maybe_done = result.outcome is Outcome.OK or not surely_not_reached(result)
        self.turnstile.leave(slot, result, now)

    def _cut_result(self) -> CallResult:
        """A cut at the resource's own timeout speaks against the dependency; one at a shorter limit of ours only if
        the dependency usually answers within it."""
        if self.limit_s >= self.resource.timeout_s:
            return classify.TIMED_OUT
        usual_s = self.turnstile.usual_s(self._size, least=_EVIDENCE_LEAST)
        return classify.TIMED_OUT if usual_s is not None and self.limit_s >= usual_s else classify.IGNORED

    def _again(self, slot: Slot, result: CallResult) -> Again:
        verdict = self.turnstile.again(result, self.options, self.whose, tries=self.tries_here)
        if verdict.delay_s is not None:
            self._paid = verdict.kind
            self.turnstile.tell(
                "call_retried",
                slot,
                outcome=result.outcome.value,
                reason=reason_of(result.outcome).value,
                attempt=self.tries,
                retry_after_ms=round(verdict.delay_s * 1000),
            )
            return verdict
        if verdict.out_of_budget and self.last_error is not None:
            self.last_error.add_note(f"not retried: the retry budget of {self.resource.scope} is used up")
        may_repeat = not self.options.once or surely_not_reached(result)
        # A call cut at its caller's limit may be no evidence against the dependency; it has no answer all the same.
        outcome = Outcome.TIMEOUT if slot.cut else result.outcome
        if outcome in _FAILS_OVER and may_repeat and not self._past_deadline():
            self.replaceable = True
            reason = reason_of(outcome).value
            if self._switch(reason):
                return Again(0.0)
        if verdict.later_s is not None:
            full = Reason.COOLDOWN if verdict.told else Reason.RATE_LIMITED
            self._come_later(verdict.later_s, full if result.outcome is Outcome.OVERLOADED else Reason.RETRY_WAIT)
        return verdict

    def _come_later(self, wait_s: float, reason: Reason) -> None:
        """Refuse, so that nobody sits through the wait; a run gives up its worker's place for it and comes back.

        Raises:
            Overloaded: always.
        """
        now = self.clock.monotonic()
        try:
            self.turnstile.refuse(Slot(self.whose, now, now, reason), Denial(reason, wait_s), now)
        except Overloaded as refusal:
            refusal.executed = self.maybe_done
            raise refusal from self.last_error

    def next_names(self) -> list[str]:
        """The fallbacks that are left, first the one to ask next."""
        if self._chain is None:
            chosen = self.options.fallback
            names = self.resource.fallbacks if chosen is None else chosen or ()
            self._chain = [names] if isinstance(names, str) else list(names)
        asked = {self.resource.name, *self._asked}
        self._chain = [name for name in self._chain if name not in asked]
        return self._chain

    def _switch(self, reason: str) -> bool:
        names = self.next_names()
        if not names:
            return False
        old = self.resource
        new = old.lookup(names[0])
        names.extend(new.fallbacks)
        told = Slot(self.whose, 0.0, 0.0, Reason.WAIT_EXPIRED)
        self.turnstile.tell("call_fell_back", told, reason=reason, old=old.name, new=new.name)
        self._asked = (*self._asked, old.name)
        self.resource, self.turnstile = new, new.turnstile
        self.tries_here = 0
        return True

    def _refuse_late(self, now: float) -> None:
        self.drop_retry()
        reason = Reason.DEADLINE_UNREACHABLE
        self.turnstile.refuse(Slot(self.whose, now, now, reason), Denial(reason, terminal=True), now)

    def _past_deadline(self) -> bool:
        deadline = self.whose.deadline
        return deadline is not None and self.clock.monotonic() >= deadline
