"""What intake knows about the queues of people: how full they are, and whether they fill."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from headgate.config.settings import GateSettings
from headgate.model.cost import ASKED
from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.policy import people
from headgate.policy.cost_profile import LEAST_ENDS, Profile, mean_answers
from headgate.policy.people import Trend
from headgate.store.protocols import Store

_SCOPE = "approval:"


class PeopleOutlook:
    """The trends of the queues that some workflow says it asks; without such workflows nothing is read."""

    def __init__(self, settings: GateSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        self._queues = tuple(sorted({name for one in settings.workflows.values() for name in one.asks}))
        self._trends: dict[str, Trend] = {}

    async def refresh(self, store: Store, now_ms: int) -> None:
        """Take one look.

        Raises:
            StoreError: the store cannot tell.
        """
        if not self._queues:
            return
        for name, (waiting, oldest_ms) in (await store.approvals.loads(self._queues)).items():
            before = self._trends.get(name, Trend())
            self._trends[name] = people.follow(before, waiting=waiting, oldest_ms=oldest_ms, now_ms=now_ms)

    def refusal(self, queues: Sequence[str], profile: Profile | None = None) -> Refusal | None:
        """The refusal of a run that may ask these queues; ``None``: it may come in, as far as people go. ``profile``:
        of runs like it, which tells how often they ask."""
        for name in queues:
            depth, trend = self._settings.approvals[name].depth, self._trends.get(name)
            if trend is None:
                continue
            asks = (
                1.0 if profile is None or profile.ends < LEAST_ENDS else mean_answers(profile).get(ASKED + name, 0.0)
            )
            if self._rng.random() < people.refused_share(trend, depth=depth, asks=asks):
                words = "is full" if trend.waiting >= depth else "fills faster than people answer"
                return Refusal(
                    Reason.SHED,
                    f"{_SCOPE}{name}",
                    f"the queue of questions {name!r} {words}",
                    limit=depth,
                    used=trend.waiting,
                    unit="approvals",
                )
        return None

    def rate(self, scope: str) -> float | None:
        """About how many questions of a refusal's scope are answered in a second."""
        trend = self._trends.get(scope.removeprefix(_SCOPE))
        return None if trend is None else people.answers_per_s(trend)
