"""What runs really took, on its way to the cost profiles: collected in memory, written about once a second.

Losing a second of samples changes nothing but what is learned. Of a busy workflow a part is enough.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping

from headgate.clock import Clock
from headgate.errors import StoreError
from headgate.model.cost import ASKED, ResourceUse, RunSample
from headgate.observe.bus import EventBus
from headgate.runs.approvals import FUNCTION
from headgate.runs.attempt import Attempt
from headgate.store.profile_protocols import Profiles

FLUSH_S = 1.0
OF_WORKFLOW = 32
"""Samples of one workflow between two writes; further runs of it are not looked at."""
AT_MOST = 512


class CostSamples:
    """Samples of one worker."""

    def __init__(self, profiles: Profiles, *, clock: Clock, bus: EventBus) -> None:
        self._profiles, self._clock, self._bus = profiles, clock, bus
        self._samples: list[RunSample] = []
        self._taken: Counter[str] = Counter()
        self._wake = asyncio.Event()

    def note(self, attempt: Attempt, *, whole: bool) -> None:
        """An attempt has ended its run, successfully (``whole``) or not."""
        workflow = attempt.run.workflow
        if self._taken[workflow] >= OF_WORKFLOW or len(self._samples) >= AT_MOST:
            return
        self._taken[workflow] += 1
        self._samples.append(_sample(attempt, whole=whole))
        self._wake.set()

    async def keep(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what there is. What the store does not take is dropped."""
        samples, self._samples = self._samples, []
        self._taken.clear()
        self._wake.clear()
        if not samples:
            return
        try:
            await self._profiles.learn(samples, now_ms=self._clock.now_ms())
        except StoreError as error:
            self._bus.emit("store_failed", operation="learn", reason=str(error))


def _sample(attempt: Attempt, *, whole: bool) -> RunSample:
    run, meter = attempt.run, attempt.meter
    uses = _uses(attempt)
    return RunSample(
        workflow=run.workflow,
        input_bytes=len(run.input),
        whole=whole,
        model_tokens=meter.used_model_tokens,
        money=meter.used_money,
        calls=meter.used_calls,
        ran_s=math.fsum(use.busy_s for use in uses.values()),
        wall_s=attempt.wall_ms / 1000,
        parallel=attempt.parallel,
        per_resource=uses,
    )


def _uses(attempt: Attempt) -> Mapping[str, ResourceUse]:
    """By resource: what this attempt took, and what earlier ones remembered."""
    if not attempt.claim.steps:
        return attempt.uses
    found = dict(attempt.uses)
    for step in attempt.claim.steps:
        if step.started_ms >= attempt.run.submitted_ms:  # older ones are another run's, which this one replays
            asked = step.function == FUNCTION and not step.tries  # nobody calls people
            name = ASKED + step.resource if asked else step.resource
            use = found.get(name, ResourceUse())
            found[name] = ResourceUse(
                use.calls + step.tries,
                use.busy_s + step.ran_ms / 1000,
                use.model_tokens + step.model_tokens,
                use.answers + 1,
            )
    return found
