"""The picture at the end: both sides over time, and the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from demo.figures import Figures, is_on_time, oldest_unfinished, per_second
from demo.ledger import Asked, RunFacts
from demo.plan import Plan
from demo.watch import Look

GOOD, BAD, LATE, REFUSED = "#1b7f5c", "#b3392f", "#e0a030", "#9aa3ad"
INK, FAINT = "#22272e", "#d7dbe0"
SHADES = {"surge": "#fff3d6", "surge + outage": "#fbd9d3"}


@dataclass(frozen=True, slots=True)
class Story:
    """One side's column of the picture."""

    name: str
    asked: Sequence[Asked]
    records: Sequence[RunFacts]
    looks: Sequence[Look]
    figures: Figures


def draw(stories: Sequence[Story], plan: Plan, path: Path, *, end_s: float) -> None:
    """Write the PNG."""
    style: Any = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "xtick.color": INK,
        "ytick.color": INK,
        "text.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    seconds = max(1, int(end_s) + 1)
    with mpl.rc_context(style):
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
        figure = Figure(figsize=(12.5, 9.6), dpi=120, layout=layout)
        grid = figure.add_gridspec(4, len(stories), height_ratios=(3, 2, 2, 1.5))
        rows: list[list[Axes]] = [[], [], []]
        for column, story in enumerate(stories):
            for row in range(3):
                shared = rows[row][0] if rows[row] else None
                axes = figure.add_subplot(grid[row, column], sharex=rows[0][0] if rows[0] else None, sharey=shared)
                rows[row].append(axes)
                _shade(axes, plan, end_s)
            _traffic(rows[0][column], story, seconds)
            _ages(rows[1][column], story, end_s)
            _provider(rows[2][column], story, end_s)
        for kind in rows:
            kind[0].set_ylim(0, kind[0].get_ylim()[1] * 1.12)
        rows[0][0].set_xlim(0, end_s)
        _label_spans(rows[0], plan)
        _score(figure.add_subplot(grid[3, :]), stories)
        figure.suptitle(_headline(stories), x=0.01, ha="left", fontsize=13, fontweight="bold")
        figure.savefig(path)


def _headline(stories: Sequence[Story]) -> str:
    parts = [f"{story.name}: {story.figures.on_time_share:.0%}" for story in stories]
    return "Requests answered in time — " + ", ".join(parts)


def _shade(axes: Axes, plan: Plan, end_s: float) -> None:
    for span in plan.spans:
        if span.name in SHADES:
            axes.axvspan(span.start_s, min(span.end_s, end_s), color=SHADES[span.name], lw=0, zorder=0)
    axes.grid(axis="y", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)


def _label_spans(row: Sequence[Axes], plan: Plan) -> None:
    for axes in row:
        top = axes.get_ylim()[1]
        for span in plan.spans:
            if span.name == "surge":
                axes.text(span.start_s + 0.6, top * 0.97, "10× surge", va="top", fontsize=8, color="#8a6a14")
            elif span.name == "surge + outage":
                middle = (span.start_s + span.end_s) / 2
                axes.text(middle, top * 0.97, "partial outage", va="top", ha="center", fontsize=8, color=BAD)


def _traffic(axes: Axes, story: Story, seconds: int) -> None:
    """Per second: asked for, let in, answered in time, answered too late."""
    known = {record.id: record for record in story.records}
    runs = [(one, known[one.run_id]) for one in story.asked if one.run_id in known]
    good = [run.finished_s for one, run in runs if is_on_time(one, run) and run.finished_s is not None]
    late = [
        run.finished_s
        for one, run in runs
        if run.state == "succeeded" and not is_on_time(one, run) and run.finished_s is not None
    ]
    x = range(seconds)
    offered = per_second((one.offered_s for one in story.asked), seconds)
    admitted = per_second((one.admitted_s for one in story.asked if one.admitted_s is not None), seconds)
    axes.step(x, offered, where="post", color=INK, lw=1.0, label="offered")
    axes.step(x, admitted, where="post", color="#3973b8", lw=1.2, label="admitted")
    on_time, too_late = per_second(good, seconds), per_second(late, seconds)
    axes.bar(x, on_time, width=1.0, align="edge", color=GOOD, label="finished on time")
    axes.bar(x, too_late, width=1.0, align="edge", bottom=on_time, color=LATE, label="finished late")
    axes.set_title(story.name, fontsize=12)
    axes.set_ylabel("runs per second")
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.01, 0.985), fontsize=7.5, frameon=False, ncols=4, columnspacing=1.0
    )


def _ages(axes: Axes, story: Story, end_s: float) -> None:
    moments = [step * 0.5 for step in range(int(end_s * 2) + 1)]
    axes.plot(moments, oldest_unfinished(story.records, moments), color=BAD, lw=1.4, label="oldest unfinished run")
    queued = [(look.at_s, look.oldest_s if look.waiting else 0.0) for look in story.looks]
    if any(age for _, age in queued):
        axes.plot(*zip(*queued, strict=True), color="#3973b8", lw=1.2, label="oldest waiting run")
    axes.set_title("age of the oldest run")
    axes.set_ylabel("seconds")
    axes.legend(loc="upper left", fontsize=8, frameon=False)


def _provider(axes: Axes, story: Story, end_s: float) -> None:
    looks = list(story.looks)
    rates = [
        (later.at_s, (later.calls - earlier.calls) / max(1e-9, later.at_s - earlier.at_s))
        for earlier, later in zip(looks, looks[2:], strict=False)
    ]
    if rates:
        axes.plot(*zip(*rates, strict=True), color=INK, lw=1.0, label="calls received per second")
        axes.plot(
            [look.at_s for look in looks],
            [look.inflight for look in looks],
            color="#7a4fa3",
            lw=1.2,
            label="in flight",
        )
    axes.set_title("at the provider")
    axes.set_xlabel("seconds")
    axes.set_xlim(0, end_s)
    axes.legend(loc="upper left", fontsize=8, frameon=False)


def _score(axes: Axes, stories: Sequence[Story]) -> None:
    """What became of every request."""
    colours = {"on time": GOOD, "late": LATE, "failed, expired or unfinished": BAD, "rejected": REFUSED}
    for place, story in enumerate(reversed(stories)):
        left = 0
        for name, count in _fates(story.figures).items():
            axes.barh(place, count, left=left, color=colours[name], height=0.6, label=name if place == 0 else None)
            if count > 0.035 * max(1, story.figures.offered):
                axes.text(left + count / 2, place, str(count), ha="center", va="center", color="white", fontsize=9)
            left += count
    axes.set_yticks(range(len(stories)), [story.name for story in reversed(stories)])
    axes.set_title("what became of every request")
    axes.tick_params(length=0)
    axes.set_xticks([])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=4, frameon=False, fontsize=8)


def _fates(one: Figures) -> Mapping[str, int]:
    return {
        "on time": one.on_time,
        "late": one.late,
        "failed, expired or unfinished": sum(one.failed.values()) + one.unfinished + one.lost,
        "rejected": sum(one.refused.values()),
    }
