"""A tenfold surge with an outage inside, in virtual time: repeatable to the byte, and better than no limits."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from headgate.lab.surge import Outcome, surge

REPEATS = 20
IN_ANOTHER_PROCESS = "from headgate.lab.surge import surge; print(surge(seed=7).event_hash)"


def holds_up(outcome: Outcome) -> bool:
    """Half of everybody is answered in time, what is accepted mostly succeeds, and the provider is not flooded."""
    return (
        outcome.on_time_share >= 0.5
        and outcome.on_time >= 0.75 * outcome.admitted
        and outcome.provider_calls <= 4 * outcome.on_time
    )


def test_a_surge_repeats_event_by_event() -> None:
    first = surge(seed=7)
    assert first.events > 1000
    assert {surge(seed=7) for _ in range(REPEATS - 1)} == {first}


def test_another_seed_is_another_run() -> None:
    assert surge(seed=7).event_hash != surge(seed=8).event_hash


@pytest.mark.process
@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_another_process_with_other_string_hashes_tells_the_same(hash_seed: str) -> None:
    told = subprocess.run(  # noqa: S603 - our own interpreter on our own words
        [sys.executable, "-c", IN_ANOTHER_PROCESS],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.strip() == surge(seed=7).event_hash


@pytest.mark.parametrize("seed", [1, 7])
def test_limits_hold_up_where_no_limits_do_not(seed: int) -> None:
    limited, unlimited = surge(seed=seed), surge(seed=seed, limits=False)

    assert limited.offered == unlimited.offered
    assert limited.offered == limited.admitted + sum(limited.refused.values())
    assert limited.admitted == limited.on_time + limited.late + sum(limited.failed.values())
    assert limited.unfinished == 0

    assert holds_up(limited), limited
    assert not holds_up(unlimited), unlimited
    assert limited.on_time > 2 * unlimited.on_time
