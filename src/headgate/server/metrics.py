"""``GET /metrics``: what the gate counted and what it knows about capacity, in Prometheus' text format.

The gate's own counters are the truth; prometheus-client only writes them down. Series are bounded there (label
caps); here only names from the settings become labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from headgate.observe.metrics import Family, Metrics

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Bucket bounds of every histogram (all of them measure seconds)."""

_BREAKER = {"closed": 0, "probing": 1, "open": 2}

# (metric, what it says, list in the capacity report, path of the number in each entry)
_GAUGES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("headgate_lane_depth", "Runs that wait for their first start.", "lanes", ("depth",)),
    ("headgate_lane_running", "Runs that run now.", "lanes", ("running",)),
    ("headgate_lane_oldest_age_seconds", "Age of the oldest waiting run.", "lanes", ("oldest_age_s",)),
    ("headgate_workflow_depth", "Runs that wait for their first start.", "workflows", ("queue", "depth")),
    ("headgate_workflow_depth_limit", "Bound of the queue.", "workflows", ("queue", "limit")),
    ("headgate_resource_inflight", "Calls in flight.", "resources", ("concurrency", "inflight")),
    ("headgate_resource_limit", "Calls allowed in flight now.", "resources", ("concurrency", "limit")),
    ("headgate_resource_waiting", "Calls that wait for a slot.", "resources", ("queue", "depth")),
    ("headgate_resource_waiting_limit", "Bound of the wait queue.", "resources", ("queue", "limit")),
    ("headgate_resource_oldest_wait_seconds", "Longest wait now.", "resources", ("queue", "oldest_age_s")),
    ("headgate_approvals_waiting", "Questions that wait for people.", "approvals", ("queue", "depth")),
    ("headgate_approvals_waiting_limit", "Bound of the queue of questions.", "approvals", ("queue", "limit")),
    ("headgate_approvals_oldest_age_seconds", "Age of the oldest one.", "approvals", ("queue", "oldest_age_s")),
    ("headgate_resource_error_ratio", "Recent share of failed calls.", "resources", ("error_rate",)),
    ("headgate_resource_pressure_ratio", "Pressure, 0 to 1.", "resources", ("pressure",)),
)
_FORECASTS = (
    ("headgate_forecast_error_ratio", "Median error of told finishes, as a part of the actual.", "median_error"),
    ("headgate_forecast_p90_kept_ratio", "Share of runs that ended by the told p90.", "p90_kept"),
    ("headgate_retry_after_honest_ratio", "Share of audited waits after which a retry fits.", "retry_after_honest"),
)
_LABEL = {"lanes": "lane", "workflows": "workflow", "resources": "resource", "approvals": "queue"}


class Exposition:
    """Writes one scrape. ``own`` answers the server's own gauges: name → (help, value)."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, metrics: Metrics, own: Mapping[str, tuple[str, Any]]) -> None:
        self._metrics = metrics
        self._own = own

    def text(self, capacity: Mapping[str, Any]) -> bytes:
        """The whole page, given the capacity report of this moment. Runs in any thread."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Snapshot(self._families(capacity)))
        return generate_latest(registry)

    def _families(self, capacity: Mapping[str, Any]) -> Iterator[Metric]:
        for family in self._metrics.snapshot():
            yield _family(family)
        for name, words, group, path in _GAUGES:
            gauge = GaugeMetricFamily(name, words, labels=[_LABEL[group]])
            for entry in capacity.get(group, ()):
                value = _at(entry, path)
                if isinstance(value, (int, float)):
                    gauge.add_metric([entry["name"]], float(value))
            yield gauge
        breaker = GaugeMetricFamily("headgate_resource_breaker", "0 closed, 1 probing, 2 open.", labels=["resource"])
        for entry in capacity.get("resources", ()):
            if entry.get("breaker") in _BREAKER:
                breaker.add_metric([entry["name"]], _BREAKER[entry["breaker"]])
        yield breaker
        runs = GaugeMetricFamily("headgate_runs", "Unfinished runs and dead letters, by state.", labels=["state"])
        for state, count in capacity.get("runs", {}).items():
            runs.add_metric([state], count)
        yield runs
        level = _at(capacity, ("pressure", "level"))
        if isinstance(level, (int, float)):
            yield GaugeMetricFamily("headgate_fleet_pressure_ratio", "Pressure, 0 to 1.", value=level)
        for name, words, key in _FORECASTS:
            gauge = GaugeMetricFamily(name, words, labels=[])
            value = _at(capacity, ("forecasts", key))
            if isinstance(value, (int, float)):  # nothing is said before there was anything to judge
                gauge.add_metric([], float(value))
            yield gauge
        for name, (words, read) in self._own.items():
            yield GaugeMetricFamily(name, words, value=read())


class _Snapshot(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _family(family: Family) -> Metric:
    spec = family.spec
    labels = list(spec.labels)
    if spec.kind == "counter":
        counter = CounterMetricFamily(spec.name, spec.doc, labels=labels)
        for sample in family.samples:
            counter.add_metric(sample.labels, sample.value)
        return counter
    if spec.kind == "gauge":
        gauge = GaugeMetricFamily(spec.name, spec.doc, labels=labels)
        for sample in family.samples:
            gauge.add_metric(sample.labels, sample.value)
        return gauge
    histogram = HistogramMetricFamily(spec.name, spec.doc, labels=labels)
    for sample in family.samples:
        if sample.histogram is not None:
            counts = sample.histogram.at_or_below(SECONDS)
            buckets = [(f"{bound:g}", count) for bound, count in zip(SECONDS, counts, strict=True)]
            buckets.append(("+Inf", sample.histogram.count))
            histogram.add_metric(sample.labels, buckets, sum_value=sample.histogram.total)
    return histogram


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
