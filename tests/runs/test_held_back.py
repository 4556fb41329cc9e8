"""What is held back is not taken up; everything else goes on as if it were not there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from headgate.config.settings import DEFAULT_LANES
from headgate.policy.pause import NOTHING_HELD, HeldBack
from headgate.runs.scheduler import LaneScheduler
from headgate.runs.worker import Worker
from headgate.store.protocols import ClaimRequest

from .bench import Bench, on_bench


def ask(held: HeldBack, carried: dict[str, int] | None = None, *, slots: int = 10) -> ClaimRequest | None:
    return LaneScheduler(DEFAULT_LANES).request(
        owner="w",
        now_ms=0,
        lease_ms=1000,
        workflows=("job", "other"),
        carried=Counter(carried or {}),
        slots=slots,
        max_running=None,
        held_back=held,
    )


def at_most(request: ClaimRequest | None) -> Counter[str]:
    asked: Counter[str] = Counter()
    for lane, quota in request.lanes if request is not None else ():
        asked[lane] += quota
    return asked


def test_a_paused_lane_is_not_asked_and_lends_its_share() -> None:
    request = ask(HeldBack(lanes={"interactive": 0.0}))
    assert request is not None
    assert "interactive" not in dict(request.lanes)
    entitled = request.lanes[: len(request.lanes) - 3]
    assert sum(quota for _, quota in entitled) == 10


def test_a_thinned_lane_never_gets_more_than_it_is_left() -> None:
    held = HeldBack(lanes={"background": 0.2})
    assert at_most(ask(held))["background"] == 2
    assert at_most(ask(held, {"background": 1}))["background"] == 1
    assert at_most(ask(held, {"background": 5}))["background"] == 0
    assert at_most(ask(held))["critical"] >= 10


def test_a_paused_workflow_is_not_asked_for() -> None:
    request = ask(HeldBack(workflows=frozenset({"job"})))
    assert request is not None
    assert request.workflows == ("other",)


def test_nothing_is_asked_when_everything_is_paused() -> None:
    assert ask(HeldBack(workflows=frozenset({"job", "other"}))) is None
    assert ask(HeldBack(lanes=dict.fromkeys(DEFAULT_LANES, 0.0))) is None


def test_a_worker_waits_while_its_work_is_paused_and_goes_on_when_it_is_poked(tmp_path: Path) -> None:
    async def main(place: Bench) -> tuple[str, str]:
        held = HeldBack(workflows=frozenset({"job"}))
        place.workflow(_job)
        worker = Worker(
            place.store, place.registry, place.resources, place.settings, clock=place.clock, rng=place.rng,
            bus=place.bus, owner="w1", pressure=lambda _workflow: 0.0, held_back=lambda: held,
        )  # fmt: skip
        place.workers.append(worker)
        await worker.start()
        run_id = await place.submit()
        await place.passes(30)
        before = await place.get(run_id)
        held = NOTHING_HELD
        worker.poke()
        after = await place.ended(run_id)
        return before.state.value, after.state.value

    assert on_bench(tmp_path, main) == ("queued", "succeeded")


async def _job(_run: object, value: object) -> object:
    return value
