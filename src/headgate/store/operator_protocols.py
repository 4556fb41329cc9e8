"""The part of a store that people use: keys, questions to people, and what operators set by hand.

The semantics at the top of `headgate.store.protocols` hold here as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headgate.model.control import Control, ControlChange, ControlKind
from headgate.model.decision import Refusal
from headgate.store.questions import Approval, QuestionLoad
from headgate.store.values import ApiKey


@dataclass(frozen=True, slots=True)
class Escalation:
    """Where a question goes that nobody answered."""

    queue: str
    depth: int
    """Questions that may wait there."""
    max_age_ms: int


class Keys(Protocol):
    """API keys."""

    async def add(self, key: ApiKey) -> None: ...

    async def by_hash(self, digest: str) -> ApiKey | None: ...

    async def all(self) -> list[ApiKey]: ...

    async def revoke(self, key_id: str, *, now_ms: int) -> bool: ...


class Approvals(Protocol):
    """Bounded queues of people."""

    async def ask(
        self,
        approval: Approval,
        owner: str,
        term: int,
        *,
        depth: int,
        attempts: int | None = None,
        used_calls: int = 0,
        used_model_tokens: int = 0,
        used_money: float = 0.0,
        used_wall_ms: int = 0,
        cost: float | None = None,
    ) -> Approval | Refusal | None:
        """Put a question (and suspend its run, fenced) unless ``depth`` waiting ones are there already
        (``queue_full``) and none of them `gives_way`. One that does is kept as ``expired`` under another id, and its
        run, suspended as ``retry_wait``, comes back after seconds and asks again; that one expires when the first
        would have. The new question is then returned as `headgate.store.questions.Displacing`.
        A question whose run ends while it waits is withdrawn (``expired``). Lane and deadline are those of the run,
        whatever ``approval`` says.

        ``attempts`` is the run's new total of failed attempts, if it changed.
        A question already asked for (run, step) is returned as it stands, and the run is suspended only while it
        still waits. ``None`` if the fence did not match.
        """
        ...

    async def decide(
        self, approval_id: str, *, tenant: str | None, approved: bool, by: str, note: str | None, now_ms: int
    ) -> Approval | None:
        """Answer a waiting question and wake its run. An answered one is returned unchanged; ``None`` if unknown."""
        ...

    async def waiting(
        self, *, queue: str | None, tenant: str | None, limit: int, now_ms: int | None = None
    ) -> list[Approval]:
        """What waits, in the order in which it should be answered (`headgate.policy.question_order`). Without
        ``now_ms`` nothing is taken to be late."""
        ...

    async def loads(self, queues: Sequence[str]) -> dict[str, QuestionLoad]:
        """For each of these queues: what waits, and the latest answers (withdrawn and expired questions are none)."""
        ...

    async def expire_due(
        self, *, now_ms: int, limit: int, escalations: Mapping[str, Escalation] | None = None
    ) -> list[tuple[Approval, str]]:
        """Questions nobody answered in time become ``expired`` and their runs wake; those in a queue that
        ``escalations`` names go on to the next one instead and keep waiting, if it has room. A record of the queue
        they left stays, as a question that expired then.

        Returns each with the queue that it was in.
        """
        ...


class Controls(Protocol):
    """What operators set by hand, and the record of who set what.

    The record is only added to: one line per change, kept for 90 days and at most 10,000 lines.
    """

    async def put(self, control: Control) -> Control | None:
        """Set it, in place of one of the same target and kind, which is returned if it was still in force."""
        ...

    async def drop(self, target: str, kind: ControlKind, *, by: str, reason: str, now_ms: int) -> Control | None:
        """End it before its time. Returns what was in force; ``None``: nothing was, and nothing is recorded."""
        ...

    async def all(self, *, now_ms: int) -> list[Control]:
        """Those in force, by target, overrides before pauses."""
        ...

    async def tenants(self, first: str, *, limit: int = 1000) -> list[str]:
        """Tenants of whom the store has seen runs, at most so many; ``first`` comes first if it is one of them."""
        ...

    async def changes(self, *, target: str | None = None, limit: int = 100) -> list[ControlChange]:
        """The record, newest first."""
        ...
