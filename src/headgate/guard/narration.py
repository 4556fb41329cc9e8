"""What a resource tells on the bus about its calls. Notes are made under the lock and told after it is released."""

from __future__ import annotations

from typing import Any

from headgate.errors import Overloaded
from headgate.guard.evidence import EventNote, Evidence
from headgate.guard.slot import Slot
from headgate.model.outcome import CallResult, Outcome
from headgate.model.reason import Reason
from headgate.observe.bus import EventBus

_REASONS = {
    Outcome.OK: Reason.OK,
    Outcome.FAILED: Reason.ERROR,
    Outcome.TIMEOUT: Reason.TIMEOUT,
    Outcome.OVERLOADED: Reason.PROVIDER_OVERLOADED,
    Outcome.CALLER_ERROR: Reason.CALLER_ERROR,
    Outcome.QUOTA: Reason.QUOTA_EXHAUSTED,
    Outcome.IGNORED: Reason.INTERRUPTED,
}
_WORDS = {outcome: (outcome.value, reason.value) for outcome, reason in _REASONS.items()}


def reason_of(outcome: Outcome) -> Reason:
    """How a call's ending is called in decisions and metrics."""
    return _REASONS[outcome]


class Narration:
    """The notes of one resource."""

    __slots__ = ("_evidence", "_kind", "_name", "_queue_limit", "bus", "notes")

    def __init__(self, name: str, kind: str, queue_limit: int, bus: EventBus, evidence: Evidence) -> None:
        self._name = name
        self._kind = kind
        self._queue_limit = queue_limit
        self.bus = bus
        """Ask it whether anybody listens before a note is made."""
        self._evidence = evidence
        self.notes: list[EventNote] = []

    def started(self, slot: Slot, *, inflight: int) -> None:
        fields = self._whose(slot)
        fields["queued_ms"] = _ms(slot.started_at - slot.asked_at)
        fields["inflight"] = inflight
        fields["limit"] = self._evidence.limiter.limit
        self.notes.append(("call_started", fields))

    def finished(self, slot: Slot, result: CallResult, now: float, *, inflight: int, waiting: int) -> None:
        fields = self._whose(slot)
        fields["outcome"], fields["reason"] = _WORDS[result.outcome]
        if result.status is not None:
            fields["status"] = result.status
        if result.model_tokens is not None:
            fields["model_tokens"] = result.model_tokens
        fields["queued_ms"] = _ms(slot.started_at - slot.asked_at)
        fields["ran_ms"] = _ms(now - slot.started_at)
        self._add_fullness(fields, now, inflight, waiting)
        self.notes.append(("call_finished", fields))

    def refused(
        self, slot: Slot, refusal: Overloaded, now: float, *, inflight: int, waiting: int, shadow: bool
    ) -> None:
        fields = self._whose(slot)
        fields["reason"] = refusal.reason
        fields["scope"] = refusal.scope
        if refusal.used is not None:
            fields["used"] = refusal.used
        if refusal.retry_after_s is not None:
            fields["retry_after_ms"] = _ms(refusal.retry_after_s)
        if shadow:
            fields["shadow"] = True
        self._add_fullness(fields, now, inflight, waiting)
        self.notes.append(("call_refused", fields))

    def changes(self, now: float, *, inflight: int, waiting: int) -> None:
        """Take over what the evidence noted about the limit and the breaker."""
        for name, fields in self._evidence.notes:
            fields["resource"] = self._name
            fields["kind"] = self._kind
            if name == "limit_changed":
                self._add_fullness(fields, now, inflight, waiting)
            self.notes.append((name, fields))
        self._evidence.notes.clear()

    def tell(self, notes: list[EventNote]) -> None:
        """Tell what was noted; no lock is held."""
        for name, fields in notes:
            self.bus.emit(name, **fields)

    def tell_now(self, name: str, slot: Slot, **fields: Any) -> None:
        """Tell one thing about a call at once; no lock is held."""
        if self.bus.active:
            self.bus.emit(name, **self._whose(slot), **fields)

    def _whose(self, slot: Slot) -> dict[str, Any]:
        whose = slot.whose
        return {
            "resource": self._name,
            "kind": self._kind,
            "workflow": whose.workflow,
            "tenant": whose.tenant,
            "lane": whose.lane,
            "run_id": whose.run_id,
        }

    def _add_fullness(self, fields: dict[str, Any], now: float, inflight: int, waiting: int) -> None:
        fields["queue_depth"] = waiting
        fields["queue_limit"] = self._queue_limit
        fields["inflight"] = inflight
        fields["limit"] = self._evidence.limiter.limit
        p95_s = self._evidence.p95_s(now)
        if p95_s is not None:
            fields["p95_ms"] = _ms(p95_s)
        fields["error_rate"] = round(self._evidence.outcomes.bad_share(now), 4)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
