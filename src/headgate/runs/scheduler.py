"""Which runs a worker asks for next: the lanes' shares applied to its free slots, in one claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from headgate.config.settings import LaneSettings
from headgate.policy import lane_shares
from headgate.store.protocols import ClaimRequest


class LaneScheduler:
    """Remembers what each lane is owed from one claim to the next. One per worker."""

    def __init__(self, lanes: Mapping[str, LaneSettings]) -> None:
        self._shares = lane_shares.split({name: lane.share for name, lane in lanes.items()})
        self._owed = lane_shares.Owed()

    def request(
        self,
        *,
        owner: str,
        now_ms: int,
        lease_ms: int,
        workflows: Sequence[str],
        carried: Counter[str],
        slots: int,
        max_running: int | None,
    ) -> ClaimRequest | None:
        """The claim that fills the slots which ``carried`` (runs by lane) leaves free; ``None`` if there are none."""
        free = slots - carried.total()
        if free <= 0 or not workflows:
            return None
        plan = lane_shares.ask(self._shares, carried, self._owed, slots=slots, free=free)
        self._owed = plan.owed
        return ClaimRequest(
            owner=owner,
            now_ms=now_ms,
            lease_until_ms=now_ms + lease_ms,
            lanes=plan.quotas,
            workflows=tuple(workflows),
            max_running=max_running,
            total=free,
        )
