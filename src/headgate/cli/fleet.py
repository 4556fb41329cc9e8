"""``headgate capacity``: every lane, queue, resource and limit with its use."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from headgate.cli.remote import DEFAULT_URL, AsJson, Key, Url, service
from headgate.cli.screen import as_json, clean, duration, milliseconds, table


def capacity(json_output: AsJson = False, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Show how full everything is, as the service sees it now."""
    with service(url, api_key) as client:
        report = client.capacity()
    if json_output:
        as_json(report)
    else:
        show(report)


def show(report: Mapping[str, Any]) -> None:
    """Print a capacity report as tables."""
    pressure, states = report["pressure"], report["runs"]
    counts = ", ".join(f"{count} {state}" for state, count in states.items() if count) or "no runs"
    shedding = f" (sheds from {pressure['shed_at']:.0%}{', shedding now' if pressure['shedding'] else ''})"
    print(f"{report['state']}: pressure {pressure['level']:.0%}{shedding}; {counts}")
    if drain := report.get("drain"):
        print(f"drained by {clean(drain['by'])}, nothing new comes in: {clean(drain['reason'])}")
    if pressure.get("why"):
        print(f"pressure: {pressure['why']}")
    cursor = report.get("cursor")
    if cursor and cursor["share"]:
        print(f"refuses {cursor['share']:.0%} of what is offered, the least important first: {cursor['why']}")
    print()
    table(
        ("LANE", "SHARE", "WAITING", "RUNNING", "OLDEST", "STARTS/S", "SET BY HAND OR RULE"),
        [
            (one["name"], _share(one["share"]), one["depth"], one["running"], duration(one["oldest_age_s"] or None),
             one["starts_per_s"], _set(one))
            for one in report["lanes"]
        ],
        empty="no lanes",
    )  # fmt: skip
    print()
    table(
        ("WORKFLOW", "LANE", "WAITING", "RUNNING", "STARTS/S", "PER TENANT", "MAX AGE", "SET"),
        [
            (one["name"], one["lane"], _of(one["queue"]["depth"], one["queue"]["limit"]), one["running"],
             one["starts_per_s"], one["queue"]["per_tenant"], duration(one["queue"]["max_age_s"]), _set(one))
            for one in report["workflows"]
        ],
        empty="no workflows configured",
    )  # fmt: skip
    print()
    table(
        (
            "RESOURCE",
            "KIND",
            "IN FLIGHT",
            "RANGE",
            "WAITING",
            "P95",
            "ERRORS",
            "BREAKER",
            "CALLS",
            "REFUSED",
            "WOULD REFUSE",
            "PRESSURE",
            "SET",
        ),
        [_resource(one) for one in report["resources"]],
        empty="no resources configured",
    )
    if people := report.get("approvals"):
        print()
        table(("APPROVALS", "WAITING", "OLDEST", "MAX AGE", "THEN"), [_people(one) for one in people], empty="")
    rows = [*(_limit(one) for one in report["limits"]), *_budget(report["budget"])]
    if rows:
        print()
        table(("LIMIT", "PER", "OF", "UP TO", "USED", "MODE"), rows, empty="")
    if report["shadow"]:
        print()
        table(
            ("IN SHADOW", "REASON", "WOULD REFUSE"),
            [(one["scope"], one["reason"], one["would_refuse"]) for one in report["shadow"]],
            empty="",
        )


def _set(one: Mapping[str, Any]) -> str:
    """What is set by hand or by a rule on a lane, workflow or resource; a blank for nothing."""
    words = ["shedding"] if one.get("shedding") else []
    if not words and one.get("admitted_part", 1) < 1:
        words.append(f"takes in {one['admitted_part']:.0%}")
    if one.get("paused"):
        words.append("paused")
    elif one.get("thinned_to"):
        words.append(f"thinned to {one['thinned_to']:.0%}")
    cooldown = one.get("cooldown")
    if cooldown:
        until = datetime.fromtimestamp(cooldown["until_ms"] / 1000, UTC).strftime("%H:%M:%S")
        words.append(f"cooldown until {until} UTC, {duration(cooldown['left_s'])} more ({cooldown['why']})")
    override = one.get("override")
    if override:
        numbers = ("limit", "depth", "max_age_s", "share", "weight", "shed_at")
        words += [f"{name} {override[name]:g}" for name in numbers if override.get(name) is not None]
        words += [
            f"{name} {override[name]['amount']:g} per {_window(override[name]['window_s'])}"
            for name in ("rate", "model_tokens")
            if override.get(name)
        ]
    return ", ".join(words) or " "


def _resource(one: Mapping[str, Any]) -> tuple[Any, ...]:
    concurrency, queue = one["concurrency"], one["queue"]
    least, most = concurrency["least"], concurrency["most"]
    return (
        one["name"],
        one["kind"],
        _of(concurrency["inflight"], concurrency["limit"]),
        "fixed" if least == most else f"{least}..{most}",
        _of(queue["depth"], queue["limit"]),
        milliseconds(one["p95_ms"]),
        f"{one['error_rate']:.1%}",
        one["breaker"],
        one["calls"],
        sum(one["refused"].values()),
        sum(one["would_refuse"].values()) or (0 if one["mode"] == "shadow" else None),
        _share(one["pressure"]),
        _set(one),
    )


def _people(one: Mapping[str, Any]) -> tuple[Any, ...]:
    queue = one["queue"]
    oldest = duration(queue["oldest_age_s"] or None)
    return one["name"], _of(queue["depth"], queue["limit"]), oldest, duration(queue["max_age_s"]), one["on_expiry"]


def _limit(one: Mapping[str, Any]) -> tuple[Any, ...]:
    of = " ".join(word for word in (one["workflow"], one["tenant"]) if word) or "everything"
    rates = [
        f"{one[unit]['amount']:,.10g} {unit.replace('_', ' ')} per {_window(one[unit]['window_s'])}"
        for unit in ("runs", "calls", "model_tokens", "money")
        if unit in one
    ]
    if "concurrent" in one:
        rates.append(f"{one['concurrent']} unfinished")
    per = one["per"] if isinstance(one["per"], str) else " and ".join(one["per"])
    return one["rule"], per, of, ", ".join(rates), "-", one["mode"]


def _budget(budget: Mapping[str, Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    rows = []
    for unit, one in budget.items():
        limit = _bytes(one["limit"]) if unit == "memory" else f"{one['limit']:,.10g}"
        if "window_s" in one:
            limit = f"{limit} per {_window(one['window_s'])}"
        used = one.get("used")
        shown = None if used is None else _bytes(used) if unit == "memory" else f"{used:g}"
        rows.append(("fleet budget", "-", unit.replace("_", " "), limit, shown, "enforce"))
    return rows


def _window(seconds: float) -> str:
    return {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}.get(seconds) or str(duration(seconds))


def _of(used: Any, limit: Any) -> str:
    return f"{used}/{limit}"


def _share(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
