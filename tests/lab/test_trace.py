"""The trace is whole, spread within its ticks, and replayed at the rates that were asked for."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from importlib.resources import files

import pytest

from headgate.lab.trace import MEAN_RATE, Phase, load_trace, replay

PHASES = [Phase("normal", 60.0, 2.0), Phase("surge", 60.0, 20.0)]


def test_every_request_stays_within_its_tick() -> None:
    packed = (files("headgate.lab") / "traces" / "conversation_1h.csv.gz").read_bytes()
    rows = list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))
    ticks = {(int(row["session"]), int(row["turn"])): int(row["t_ms"]) / 1000 for row in rows}

    trace = load_trace(seed=1)

    assert len(trace) == len(rows) == 12_031
    assert all(0 <= one.at_s - ticks[one.session, one.turn] < 3 for one in trace)
    assert [one.at_s for one in trace] == sorted(one.at_s for one in trace)
    assert len(trace) / (trace[-1].at_s - trace[0].at_s) == pytest.approx(MEAN_RATE, rel=0.01)


def test_a_seed_repeats_and_another_differs() -> None:
    assert load_trace(seed=3) == load_trace(seed=3)
    assert load_trace(seed=3) != load_trace(seed=4)


def test_licence_and_attribution_travel_with_the_trace() -> None:
    folder = files("headgate.lab") / "traces"
    assert "Apache License" in (folder / "LICENSE-APACHE-2.0.txt").read_text()
    readme = (folder / "README.md").read_text()
    assert "github.com/kvcache-ai/Mooncake" in readme
    assert "FAST 2025" in readme
    assert "Changes made to the original" in readme


def test_phases_set_the_rate_and_keep_the_order() -> None:
    arrivals = replay(load_trace(seed=1), PHASES, start_s=600.0)

    per_phase = Counter(one.phase for one in arrivals)
    assert per_phase["normal"] == pytest.approx(120, rel=0.25)
    assert per_phase["surge"] == pytest.approx(1200, rel=0.15)
    assert [one.at_s for one in arrivals] == sorted(one.at_s for one in arrivals)
    assert all(one.at_s < 60 for one in arrivals if one.phase == "normal")
    assert all(60 <= one.at_s < 120 for one in arrivals if one.phase == "surge")


def test_follow_ups_name_the_earlier_turn_of_their_session() -> None:
    arrivals = replay(load_trace(seed=1), PHASES, start_s=600.0)

    followed = [one for one in arrivals if one.follows is not None]
    assert followed
    for one in followed:
        assert one.follows is not None
        earlier = arrivals[one.follows]
        assert earlier.session == one.session
        assert earlier.turn == one.turn - 1
        assert one.gap_s == pytest.approx(one.at_s - earlier.at_s)


def test_a_replay_longer_than_the_trace_is_refused() -> None:
    with pytest.raises(ValueError, match="the trace ends before phase 'long'"):
        replay(load_trace(seed=1), [Phase("long", 3600.0, 34.0)])


@pytest.mark.parametrize(("seconds", "rate"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_a_phase_needs_positive_numbers(seconds: float, rate: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Phase("none", seconds, rate)
