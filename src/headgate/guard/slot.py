"""One try of one call: from asking for a slot to its end.

A slot moves NEW → (WAITING →) HELD → ENDED, or to REFUSED instead of HELD. LINGERING comes between HELD and ENDED
when the caller is gone but the thread that runs the call has not come back: the dependency still works on it, so it
still counts. Only the turnstile moves a slot, under its lock; that is why a slot ends exactly once, whatever is
called how often and from where.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from headgate.errors import Overloaded
from headgate.guard.ambient import Ambient
from headgate.model.reason import Reason
from headgate.policy.concurrency.protocol import Stamp
from headgate.policy.retry_budget import RetryKind
from headgate.policy.token_bucket import RateTake


class SlotState(Enum):
    NEW = "new"
    WAITING = "waiting"
    HELD = "held"
    LINGERING = "lingering"
    ENDED = "ended"
    REFUSED = "refused"


class Waker(Protocol):
    """How a waiting caller is reached, from any thread."""

    def wake(self) -> bool:
        """The slot is held or refused now; ``False`` when the caller can no longer be reached."""
        ...

    def nudge(self) -> bool:
        """The slot's ``nudge_at`` has changed: tick the turnstile at that moment; ``False`` as above."""
        ...


class Slot:
    """What the turnstile knows of one try. Times are seconds on the clock's monotonic scale."""

    __slots__ = (
        "asked_at",
        "bytes",
        "cancelling",
        "charged",
        "cut",
        "epoch",
        "given_tokens",
        "keyed_hold",
        "late_reason",
        "limit",
        "nudge_at",
        "paid",
        "probe",
        "rank",
        "refusal",
        "retrying",
        "shared_hold",
        "stamp",
        "started_at",
        "state",
        "task",
        "thread_over",
        "tokens",
        "urgency",
        "wait_until",
        "waker",
        "whose",
    )

    def __init__(self, whose: Ambient, asked_at: float, wait_until: float, late_reason: Reason) -> None:
        self.whose = whose
        self.rank = whose.rank
        self.asked_at = asked_at
        self.urgency = asked_at
        """Its order among the tenant's waiting calls; smaller goes first."""
        self.bytes = 0
        """What its arguments hold while it waits."""
        self.charged = 0.0
        """Seconds that its tenant was charged when it started."""
        self.wait_until = wait_until
        """Not to be started after this."""
        self.late_reason = late_reason
        """What its refusal says when ``wait_until`` comes first."""
        self.state = SlotState.NEW
        self.started_at = 0.0
        self.limit = 0
        """Calls that might be in flight when it started."""
        self.stamp: Stamp | None = None
        """What the limiter knows it by."""
        self.epoch = 0
        self.probe = False
        self.tokens = 0.0
        """Model tokens held on the estimate."""
        self.given_tokens: float | None = None
        """The caller's own estimate."""
        self.keyed_hold: Sequence[RateTake] = ()
        self.shared_hold: Sequence[RateTake] = ()
        self.paid: RetryKind | None = None
        """What this try cost the retry budget; ``None`` for a first try."""
        self.retrying = False
        """Whether it counts among the retries under way."""
        self.refusal: Overloaded | None = None
        self.waker: Waker | None = None
        self.nudge_at: float | None = None
        self.thread_over = True
        """False while a thread runs the call."""
        self.cut = False
        """Whether its time ran out while it was held."""
        self.task: asyncio.Task[object] | None = None
        self.cancelling = 0

    @property
    def tenant(self) -> str:
        """Who is charged."""
        return self.whose.tenant

    def due(self) -> None:
        """The running call's time is up: cancel its task, as `asyncio.timeout` does."""
        if self.task is not None and not self.cut:
            self.cut = True
            self.task.cancel()
