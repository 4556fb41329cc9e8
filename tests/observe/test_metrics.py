"""Metrics are filled from events, correctly labelled, and bounded whatever clients send."""

from __future__ import annotations

import threading

import pytest

from headgate.clock import REAL_CLOCK
from headgate.observe.bus import EventBus
from headgate.observe.events import CATALOGUE
from headgate.observe.metrics import METRICS, OTHER, Metrics


def telling(**bounds: int) -> tuple[EventBus, Metrics]:
    bus, metrics = EventBus(REAL_CLOCK), Metrics(**bounds)
    bus.subscribe(metrics)
    return bus, metrics


def test_every_metric_listens_to_a_catalogued_event_and_its_fields() -> None:
    for metric in METRICS:
        spec = CATALOGUE[metric.event]
        wanted = {*metric.labels} | ({metric.value} if metric.value else set())
        assert wanted <= set(spec.fields), metric.name


def test_names_carry_the_prefix_and_the_unit() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.name.startswith("headgate_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.name.endswith("_seconds") == (metric.kind == "histogram"), metric.name
        assert "run_id" not in metric.labels


def test_counters_count_and_histograms_are_seconds() -> None:
    bus, metrics = telling()
    for outcome, ran_ms in (("ok", 200), ("ok", 200), ("timeout", 5000)):
        bus.emit("call_finished", resource="github", outcome=outcome, ran_ms=ran_ms, model_tokens=10)
    assert metrics.total("headgate_calls_total") == 3
    assert metrics.total("headgate_calls_total", outcome="ok") == 2
    assert metrics.total("headgate_calls_total", resource="gitlab") == 0
    assert metrics.total("headgate_model_tokens_total") == 30
    spread = metrics.spread("headgate_call_ran_seconds", outcome="ok")
    assert spread.quantile(0.5) == pytest.approx(0.2, rel=0.01)
    assert metrics.total("headgate_call_ran_seconds") == 3


def test_gauges_say_the_last_state_in_numbers() -> None:
    bus, metrics = telling()
    bus.emit("breaker_changed", resource="github", old="closed", new="open")
    assert metrics.total("headgate_breaker_state", resource="github") == 2
    bus.emit("breaker_changed", resource="github", old="open", new="closed")
    assert metrics.total("headgate_breaker_state", resource="github") == 0
    bus.emit("limit_changed", resource="github", old=8, new=5, reason="timeout")
    assert metrics.total("headgate_limit_calls", resource="github") == 5
    for shedding in (True, False, True):
        bus.emit("lane_shed", old=not shedding, new=shedding, reason="shed")
        assert metrics.total("headgate_shedding") == shedding


def test_an_event_without_the_value_feeds_nothing_and_breaks_nothing() -> None:
    bus, metrics = telling()
    bus.emit("call_finished", resource="github", outcome="ok", ran_ms=None, model_tokens=float("nan"))
    bus.emit("breaker_changed", resource="github", new="unheard of")
    bus.emit("nobody_knows_this", resource="github")
    assert metrics.total("headgate_calls_total") == 1
    assert metrics.total("headgate_call_ran_seconds") == 0
    assert metrics.total("headgate_model_tokens_total") == 0
    assert bus.active


def test_a_label_remembers_so_many_values_and_the_rest_is_other() -> None:
    bus, metrics = telling(values_per_label=3)
    for number in range(10):
        bus.emit("run_admitted", workflow="w", lane="l", tenant=f"t{number}")
    assert metrics.total("headgate_runs_admitted_total") == 10
    assert metrics.total("headgate_runs_admitted_total", tenant="t1") == 1
    assert metrics.total("headgate_runs_admitted_total", tenant="t9") == 0
    assert metrics.total("headgate_runs_admitted_total", tenant=OTHER) == 7


def test_a_metric_keeps_so_many_series_and_counts_the_rest_together() -> None:
    bus, metrics = telling(series=5)
    for number in range(50):
        bus.emit(
            "run_finished", workflow=f"w{number}", lane="l", tenant="t", outcome="succeeded", reason="x", ran_ms=1
        )
    families = {family.spec.name: family for family in metrics.snapshot()}
    for name in ("headgate_runs_finished_total", "headgate_run_ran_seconds"):
        assert len(families[name].samples) == 6, name
        assert sum(sample.value for sample in families[name].samples) == 50
    assert metrics.total("headgate_runs_finished_total", workflow=OTHER) == 45


def test_long_label_values_are_cut() -> None:
    bus, metrics = telling()
    bus.emit("run_refused", workflow="w", lane="l", tenant="x" * 10_000, reason="queue_full")
    family = next(one for one in metrics.snapshot() if one.spec.name == "headgate_runs_refused_total")
    assert len(family.samples[0].labels[2]) == 100


def test_a_snapshot_belongs_to_its_reader() -> None:
    bus, metrics = telling()
    bus.emit("call_started", resource="github", queued_ms=5)
    family = next(one for one in metrics.snapshot() if one.spec.name == "headgate_call_queued_seconds")
    histogram = family.samples[0].histogram
    assert histogram is not None
    histogram.add(1.0)
    assert metrics.total("headgate_call_queued_seconds") == 1


def test_no_count_is_lost_between_threads() -> None:
    bus, metrics = telling()

    def tell() -> None:
        for _ in range(2000):
            bus.emit("step_replayed", workflow="w", resource="r")

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.total("headgate_steps_replayed_total") == 8000


def test_unknown_names_are_errors() -> None:
    _, metrics = telling()
    with pytest.raises(KeyError):
        metrics.total("headgate_calls")
