"""The live view in the terminal: what is being played and how both sides do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demo.clients import Side
from demo.plan import Plan
from demo.watch import Watch
from headgate.lab.weather import weather_at

Row = tuple[str, Callable[[Side, Watch], str]]


def _recent(moments: list[float], now_s: float) -> str:
    """How many per second, over the last three."""
    return f"{sum(now_s - 3 < moment <= now_s for moment in moments) / 3:.1f}/s"


def _offered(side: Side) -> str:
    return str(len(side.asked))


def _refused(side: Side) -> str:
    reasons = Counter(one.refusals[-1][1] for one in side.asked if one.refusals and one.run_id is None)
    if not reasons:
        return "0"
    return f"{reasons.total()}  " + ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3))


def _late(side: Side, watch: Watch, now_s: float) -> str:
    """Accepted runs whose patience is over and of which nothing good is known yet."""
    over = sum(one.run_id is not None and one.patience_ends_s < now_s for one in side.asked)
    return str(max(0, over - watch.last.succeeded))


def live_view(plan: Plan, sides: list[tuple[Side, Watch]], now_s: float) -> RenderableType:
    """The screen at one moment."""
    phase = plan.span_at(now_s)
    weather = weather_at(plan.spells, now_s, "large")
    colour = {"normal": "green", "surge": "yellow", "surge + outage": "red"}.get(phase, "cyan")
    sky = (
        "healthy"
        if weather.fair
        else f"large model: {weather.capacity:.0%} of its capacity, {weather.errors:.0%} errors"
    )
    head = Text.assemble(
        (f" {now_s:5.1f} s ", "bold"), (f" {phase} ", f"bold {colour} reverse"), "   provider: ", (sky, colour)
    )
    table = Table(expand=True, pad_edge=False)
    table.add_column("")
    for side, _ in sides:
        table.add_column(side.name, justify="left", ratio=1)
    rows: list[Row] = [
        ("offered", lambda s, w: f"{_offered(s)}   {_recent([a.offered_s for a in s.asked], now_s)}"),
        ("admitted", lambda s, w: str(sum(a.run_id is not None for a in s.asked))),
        ("refused", lambda s, w: _refused(s)),
        ("running · waiting", lambda s, w: f"{w.last.running} · {w.last.waiting}"),
        ("oldest (age)", lambda s, w: f"{w.last.oldest_s:.1f} s {'waiting' if w.last.waiting else ''}"),
        ("succeeded · failed", lambda s, w: f"{w.last.succeeded} · {w.last.failed}"),
        ("late or lost to time", lambda s, w: _late(s, w, now_s)),
        ("provider calls", lambda s, w: f"{w.last.calls}   in flight {w.last.inflight}"),
        ("pressure", lambda s, w: f"{w.last.pressure:.0%} {' '.join(w.last.breakers)}"),
    ]
    for name, told in rows:
        table.add_row(name, *(told(side, watch) for side, watch in sides))
    bar = ProgressBar(total=plan.seconds, completed=min(now_s, plan.seconds), width=None)
    return Panel(Group(head, bar, table), title="headgate demo", border_style="dim")
