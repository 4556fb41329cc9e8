"""Which runs a worker asks for next: the lanes' shares applied to its free slots, in one claim."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from headgate.config.settings import LaneSettings
from headgate.policy import lane_shares
from headgate.policy.pause import NOTHING_HELD, HeldBack
from headgate.policy.run_order import newest_after_ms
from headgate.store.protocols import ClaimRequest


class LaneScheduler:
    """Remembers what each lane is owed from one claim to the next. One per worker."""

    def __init__(self, lanes: Mapping[str, LaneSettings]) -> None:
        self.use(lanes)
        self._owed = lane_shares.Owed()

    def use(self, lanes: Mapping[str, LaneSettings]) -> None:
        """From now on, with these shares and patiences; what is owed stays owed."""
        self._shares = lane_shares.split({name: lane.share for name, lane in lanes.items()})
        self._newest_after = tuple(
            (name, after_ms)
            for name, lane in lanes.items()
            if (after_ms := newest_after_ms(lane.order, lane.max_wait)) is not None
        )

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
        held_back: HeldBack = NOTHING_HELD,
    ) -> ClaimRequest | None:
        """The claim that fills the slots which ``carried`` (runs by lane) leaves free; ``None`` if there are none, or
        nothing may be taken up.

        Lanes that are paused ask for nothing and lend their share; lanes that are thinned never carry more than
        they are left.
        """
        free = slots - carried.total()
        workflows = [name for name in workflows if name not in held_back.workflows]
        if free <= 0 or not workflows:
            return None
        shares = self._shares
        if held_back.lanes:
            shares = {lane: share for lane, share in shares.items() if held_back.open_slots(lane, slots) > 0}
            whole = math.fsum(shares.values())
            shares = {lane: share / whole for lane, share in shares.items()}
        plan = lane_shares.ask(shares, carried, self._owed, slots=slots, free=free)
        self._owed = plan.owed
        quotas = _thinned(plan.quotas, carried, held_back, slots) if held_back.lanes else plan.quotas
        if not quotas:
            return None
        return ClaimRequest(
            owner=owner,
            now_ms=now_ms,
            lease_until_ms=now_ms + lease_ms,
            lanes=quotas,
            workflows=tuple(workflows),
            max_running=max_running,
            total=free,
            shares=tuple(shares.items()),
            newest_after=self._newest_after,
            not_tenants=tuple(sorted(held_back.tenants)),
        )


def _thinned(
    quotas: Sequence[tuple[str, int]], carried: Counter[str], held_back: HeldBack, slots: int
) -> tuple[tuple[str, int], ...]:
    """The quotas with no lane beyond the slots that it is left, over all its places in the list."""
    room = {lane: held_back.open_slots(lane, slots) - carried[lane] for lane, _ in quotas if lane in held_back.lanes}
    cut = []
    for lane, quota in quotas:
        if lane in room:
            quota = max(0, min(quota, room[lane]))
            room[lane] -= quota
        if quota:
            cut.append((lane, quota))
    return tuple(cut)
