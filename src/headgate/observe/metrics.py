"""Counters, gauges and histograms, in memory, filled from the event bus.

Each metric is a line of `METRICS`: the event it listens to, the labels it takes from that event and the field
it adds up. The number of series is bounded twice: a label remembers at most so many values (the rest become
``other``), and a metric at most so many series. Run ids are never labels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from headgate.observe.bus import Event
from headgate.observe.histogram import Histogram

OTHER = "other"
"""The label value of everything beyond a cap."""
_LONGEST_LABEL = 100

_SECONDS = 0.001  # fields are milliseconds, metrics are seconds
_BREAKER = {"closed": 0.0, "probing": 1.0, "open": 2.0}


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric and how an event feeds it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    doc: str
    event: str
    labels: tuple[str, ...]
    value: str | None = None
    """The field to add, set or observe; ``None`` counts events."""
    scale: float = 1.0
    words: Mapping[str, float] = field(default_factory=dict)
    """What the field's words are as numbers, for gauges of states."""
    also: str = ""
    """A second event that feeds it in the same way."""
    shadow: bool | None = None
    """Only refusals that were merely counted, or only those that were not."""


METRICS: tuple[MetricSpec, ...] = (
    MetricSpec("headgate_runs_admitted_total", "counter", "Runs that came in.", "run_admitted",
               ("workflow", "lane", "tenant")),
    MetricSpec("headgate_runs_refused_total", "counter", "Runs refused at intake.", "run_refused",
               ("workflow", "lane", "tenant", "reason"), shadow=False),
    MetricSpec("headgate_runs_degraded_total", "counter", "Runs put on a cheaper path.", "run_degraded",
               ("workflow", "reason")),
    MetricSpec("headgate_runs_finished_total", "counter", "Runs that ended, by terminal state and reason.",
               "run_finished", ("workflow", "lane", "tenant", "outcome", "reason")),
    MetricSpec("headgate_runs_expired_total", "counter", "Waiting runs that became too old to matter.",
               "run_expired", ("workflow", "lane", "reason")),
    MetricSpec("headgate_runs_suspended_total", "counter", "Suspensions of runs.", "run_suspended",
               ("workflow", "reason")),
    MetricSpec("headgate_runs_released_total", "counter", "Runs put back in line unharmed.", "run_released",
               ("workflow", "reason")),
    MetricSpec("headgate_runs_rescued_total", "counter", "Runs taken back from vanished workers.", "run_rescued",
               ("workflow", "outcome")),
    MetricSpec("headgate_leases_lost_total", "counter", "Attempts that found their run with another owner.",
               "lease_lost", ("workflow",)),
    MetricSpec("headgate_run_queued_seconds", "histogram", "Time from available to claimed.", "run_claimed",
               ("workflow", "lane"), "queued_ms", _SECONDS),
    MetricSpec("headgate_run_ran_seconds", "histogram", "Time from first claim to the end.", "run_finished",
               ("workflow", "outcome"), "ran_ms", _SECONDS),
    MetricSpec("headgate_steps_remembered_total", "counter", "Steps written to the journal.", "step_remembered",
               ("workflow", "resource")),
    MetricSpec("headgate_steps_replayed_total", "counter", "Steps answered from the journal.", "step_replayed",
               ("workflow", "resource")),
    MetricSpec("headgate_calls_total", "counter", "Calls that held a slot, by outcome.", "call_finished",
               ("resource", "outcome")),
    MetricSpec("headgate_calls_refused_total", "counter", "Calls refused before they began.", "call_refused",
               ("resource", "reason"), shadow=False),
    MetricSpec("headgate_shadow_refusals_total", "counter", "What limits in shadow mode would have refused.",
               "run_refused", ("scope", "reason"), also="call_refused", shadow=True),
    MetricSpec("headgate_calls_retried_total", "counter", "Retries that were granted.", "call_retried",
               ("resource", "reason")),
    MetricSpec("headgate_calls_fell_back_total", "counter", "Calls that went to another resource.",
               "call_fell_back", ("old", "new", "reason")),
    MetricSpec("headgate_call_queued_seconds", "histogram", "Wait for a slot.", "call_started", ("resource",),
               "queued_ms", _SECONDS),
    MetricSpec("headgate_call_ran_seconds", "histogram", "Time a slot was held.", "call_finished",
               ("resource", "outcome"), "ran_ms", _SECONDS),
    MetricSpec("headgate_model_tokens_total", "counter", "Model tokens that calls reported.", "call_finished",
               ("resource",), "model_tokens"),
    MetricSpec("headgate_limit_calls", "gauge", "Concurrency limit as last moved.", "limit_changed", ("resource",),
               "new"),
    MetricSpec("headgate_limit_changes_total", "counter", "Moves of adaptive limits.", "limit_changed",
               ("resource", "reason")),
    MetricSpec("headgate_breaker_state", "gauge", "0 closed, 1 probing, 2 open.", "breaker_changed", ("resource",),
               "new", words=_BREAKER),
    MetricSpec("headgate_breaker_changes_total", "counter", "Moves of circuit breakers.", "breaker_changed",
               ("resource", "new")),
    MetricSpec("headgate_shedding", "gauge", "1 while sheddable lanes are refused under pressure.", "lane_shed", (),
               "new"),
    MetricSpec("headgate_pressure_ratio", "gauge", "Pressure of the fleet, 0 to 1, as last told.",
               "pressure_changed", (), "new"),
    MetricSpec("headgate_approvals_asked_total", "counter", "Questions put to people.", "approval_asked",
               ("queue",)),
    MetricSpec("headgate_approvals_displaced_total", "counter", "Questions that gave way to others.",
               "approval_displaced", ("queue",)),
    MetricSpec("headgate_approvals_decided_total", "counter", "Questions answered or expired.", "approval_decided",
               ("queue", "outcome")),
    MetricSpec("headgate_approval_waited_seconds", "histogram", "Time a question waited for its answer.",
               "approval_decided", ("queue",), "queued_ms", _SECONDS),
    MetricSpec("headgate_store_failures_total", "counter", "Store operations that failed.", "store_failed",
               ("operation",)),
)  # fmt: skip
"""Everything that is measured."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One series at one moment: its label values, in the order of the metric's labels, and what it says."""

    labels: tuple[str, ...]
    value: float
    """A counter's or gauge's number; for a histogram its count."""
    histogram: Histogram | None = None
    """A copy, for histograms."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its series."""

    spec: MetricSpec
    samples: tuple[Sample, ...]


class _Metric:
    """The series of one metric."""

    __slots__ = ("histograms", "keys", "numbers", "spec", "values_of")

    def __init__(self, spec: MetricSpec) -> None:
        self.spec = spec
        self.keys: dict[tuple[Any, ...], tuple[str, ...]] = {}
        """Label values as events carry them, and the series they led to; the same ones come again and again."""
        self.values_of = _getter(spec.labels)
        self.numbers: dict[tuple[str, ...], float] = {}
        self.histograms: dict[tuple[str, ...], Histogram] = {}


class Metrics:
    """All metrics of one process. Subscribe it to a bus: ``bus.subscribe(metrics)``. Thread-safe.

    ``values_per_label`` is how many values one label remembers, ``series`` how many series one metric keeps.
    """

    def __init__(self, *, values_per_label: int = 200, series: int = 5000) -> None:
        self._values_per_label = values_per_label
        self._series = series
        self._lock = threading.Lock()
        self._metrics = {spec.name: _Metric(spec) for spec in METRICS}
        self._by_event: dict[str, tuple[_Metric, ...]] = {}
        for metric in self._metrics.values():
            for name in filter(None, (metric.spec.event, metric.spec.also)):
                self._by_event[name] = (*self._by_event.get(name, ()), metric)
        self._known: dict[str, set[str]] = {}

    def __call__(self, event: Event) -> None:
        """Take one event in."""
        metrics = self._by_event.get(event.name)
        if metrics is None:
            return
        with self._lock:
            for metric in metrics:
                self._feed(metric, event.fields)

    def snapshot(self) -> tuple[Family, ...]:
        """Everything as it stands, from one moment; the copies belong to the caller."""
        with self._lock:
            return tuple(
                Family(
                    metric.spec,
                    tuple(
                        [Sample(key, value) for key, value in metric.numbers.items()]
                        + [Sample(key, one.count, one.copy()) for key, one in metric.histograms.items()]
                    ),
                )
                for metric in self._metrics.values()
            )

    def total(self, name: str, **labels: str) -> float:
        """The sum of a counter's or gauge's series (of a histogram: its count) that carry these labels.

        Raises:
            KeyError: no metric of that name.
        """
        with self._lock:
            metric = self._metrics[name]
            return sum(
                value
                for source in (metric.numbers, {key: one.count for key, one in metric.histograms.items()})
                for key, value in source.items()
                if _carries(metric.spec, key, labels)
            )

    def series(self, name: str) -> dict[tuple[str, ...], float]:
        """A counter's or gauge's series: label values, in the order of its labels, and what each says.

        Raises:
            KeyError: no metric of that name.
        """
        with self._lock:
            return dict(self._metrics[name].numbers)

    def spread(self, name: str, **labels: str) -> Histogram:
        """The merged histogram of the series that carry these labels.

        Raises:
            KeyError: no metric of that name.
        """
        merged = Histogram()
        with self._lock:
            metric = self._metrics[name]
            for key, one in metric.histograms.items():
                if _carries(metric.spec, key, labels):
                    merged.merge(one)
        return merged

    def _feed(self, metric: _Metric, fields: Mapping[str, Any]) -> None:
        spec = metric.spec
        if spec.shadow is not None and spec.shadow is not bool(fields.get("shadow")):
            return
        value = 1.0 if spec.value is None else _number(spec, fields)
        if value is None:
            return
        values = metric.values_of(fields)
        key = metric.keys.get(values)
        if key is None:
            raw = tuple(map(_text, values))
            series: Mapping[tuple[str, ...], Any] = metric.histograms if spec.kind == "histogram" else metric.numbers
            key = raw if raw in series else self._capped(spec, raw, series)
            if len(metric.keys) >= self._series:
                metric.keys.clear()
            metric.keys[values] = key
        if spec.kind == "counter":
            metric.numbers[key] = metric.numbers.get(key, 0.0) + value
        elif spec.kind == "gauge":
            metric.numbers[key] = value
        else:
            one = metric.histograms.get(key)
            if one is None:
                one = metric.histograms[key] = Histogram()
            one.add(value)

    def _capped(
        self, spec: MetricSpec, raw: tuple[str, ...], series: Mapping[tuple[str, ...], Any]
    ) -> tuple[str, ...]:
        """The key of a series that may be new, with every value beyond a cap replaced."""
        key = tuple(self._value(label, value) for label, value in zip(spec.labels, raw, strict=True))
        if key in series or len(series) < self._series:
            return key
        return (OTHER,) * len(key)

    def _value(self, label: str, text: str) -> str:
        known = self._known.setdefault(label, set())
        if text in known:
            return text
        if len(known) >= self._values_per_label:
            return OTHER
        known.add(text)
        return text


def _getter(labels: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Reads these labels from an event's fields; an absent one is the empty text."""

    if len(labels) == 1:
        (only,) = labels
        return lambda fields: (fields.get(only, ""),)
    if len(labels) == 2:
        first, second = labels
        return lambda fields: (fields.get(first, ""), fields.get(second, ""))

    def read(fields: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple([fields.get(label, "") for label in labels])

    return read


def _number(spec: MetricSpec, fields: Mapping[str, Any]) -> float | None:
    """What the event adds, sets or observes; ``None`` when it does not say."""
    if spec.value is None:
        return 1.0
    value = fields.get(spec.value)
    if isinstance(value, str):
        return spec.words.get(value)
    if isinstance(value, (int, float)) and value == value:
        return float(value) * spec.scale
    return None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)[:_LONGEST_LABEL]


def _carries(spec: MetricSpec, key: tuple[str, ...], labels: Mapping[str, str]) -> bool:
    own = dict(zip(spec.labels, key, strict=True))
    return all(own.get(label) == value for label, value in labels.items())
