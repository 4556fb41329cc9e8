"""Pictures of a comparison for pages and slides: PNG or SVG, drawn with matplotlib (extra ``lab``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.errors import HeadgateError
from headgate.lab.contest.compare import Entry
from headgate.lab.report.about import Sheet, Span
from headgate.lab.report.results import OURS, WITHOUT, Results, fullest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GOOD, BAD, BLUE, PALE = "#22272e", "#d7dbe0", "#1b7f5c", "#b3392f", "#3973b8", "#9aa3ad"
SURGE, TROUBLE = "#fff3d6", "#fbd9d3"
NEEDED = 'pictures need matplotlib, which is not installed; install it with: pip install "headgate[lab]"'
MOST_COLUMNS = 4
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "headgate",
}


class NoMatplotlib(HeadgateError):
    """The extra ``lab`` is not installed; the message says how to install it."""


def draw(results: Results, folder: Path, *, kind: str = "png", only: Sequence[str] | None = None) -> list[Path]:
    """Write ``timeline-SCENARIO`` for each scenario (or ``only`` for some) and ``goodput`` for all of them; their
    paths.

    Raises:
        NoMatplotlib: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise NoMatplotlib(NEEDED) from error
    written: list[Path] = []
    with mpl.rc_context(STYLE):
        for sheet in (one for one in results.scenarios if only is None or one.name in only):
            policies = results.with_timelines(sheet.name)[:MOST_COLUMNS]
            plays = [results.plays(sheet.name, policy)[0] for policy in policies]
            written.append(_saved(_timelines(results, sheet, plays), folder / f"timeline-{sheet.name}.{kind}"))
        written.append(_saved(_goodput(results), folder / f"goodput.{kind}"))
    return written


def _saved(figure: Figure, path: Path) -> Path:
    # without the date, so that the same results give the same file
    metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, metadata=metadata)
    return path


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure as New
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return New(figsize=(width, height), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))


def _timelines(results: Results, sheet: Sheet, plays: Sequence[Entry]) -> Figure:
    """A column for each policy: runs, waits, limits, pressure, errors."""
    figure = _figure(4.6 * len(plays), 10.0)
    rows: list[list[Axes]] = [[] for _ in ROWS]
    for column, entry in enumerate(plays):
        for row, drawer in enumerate(ROWS):
            first = rows[row][0] if rows[row] else None
            axes = figure.add_subplot(len(ROWS), len(plays), row * len(plays) + column + 1, sharey=first)
            rows[row].append(axes)
            _shade(axes, sheet.spans)
            drawer(axes, entry, sheet)
            axes.set_xlim(0, entry.timeline.steps * entry.timeline.step_s)
            axes.grid(axis="y", color=FAINT, lw=0.6)
            axes.set_axisbelow(True)
        goodput = results.measure(sheet.name, entry.policy, "goodput").mean
        rows[0][column].set_title(f"{entry.policy}: goodput {goodput:.0%}", fontweight="bold")
    for axes in rows[-1]:
        axes.set_xlabel("seconds")
    figure.suptitle(f"{sheet.title} (seed {plays[0].seed})", x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _runs(axes: Axes, entry: Entry, _: Sheet) -> None:
    for name, words, colour in (
        ("offered", "offered", INK),
        ("admitted", "admitted", BLUE),
        ("on_time", "finished on time", GOOD),
    ):
        _plot(axes, entry, name, words, colour, by=entry.timeline.step_s)
    axes.set_ylabel("runs per second")
    _legend(axes)


def _waits(axes: Axes, entry: Entry, _: Sheet) -> None:
    _plot(axes, entry, "oldest_s", "oldest wait", BAD)
    axes.set_ylabel("seconds")
    _legend(axes)


def _calls(axes: Axes, entry: Entry, sheet: Sheet) -> None:
    """The fullest dependency: its limit, what is in flight, and its knee."""
    name = fullest(entry, sheet)[0]
    _plot(axes, entry, f"limit:{name}", f"limit of {name}", BLUE)
    _plot(axes, entry, f"inflight:{name}", "in flight", INK)
    axes.axhline(sheet.knees[name], color=GOOD, lw=1, ls=":", label="its knee")
    axes.set_ylabel("calls")
    _legend(axes)


def _pressure(axes: Axes, entry: Entry, _: Sheet) -> None:
    _plot(axes, entry, "pressure", "pressure", BLUE)
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("0 to 1")
    _legend(axes)


def _errors(axes: Axes, entry: Entry, _: Sheet) -> None:
    _plot(axes, entry, "errors", "failed calls", BAD, by=entry.timeline.step_s)
    axes.set_ylabel("per second")
    _legend(axes)


ROWS = (_runs, _waits, _calls, _pressure, _errors)


def _plot(axes: Axes, entry: Entry, name: str, words: str, colour: str, *, by: float = 1.0) -> None:
    values = [value / by for value in entry.timeline.columns.get(name, ())]
    if any(math.isfinite(value) for value in values):
        moments = [(place + 0.5) * entry.timeline.step_s for place in range(len(values))]
        axes.plot(moments, values, color=colour, lw=1.1, label=words)


def _shade(axes: Axes, spans: Sequence[Span]) -> None:
    for span in spans:
        axes.axvspan(span.since, span.until, color=TROUBLE if span.trouble else SURGE, lw=0, zorder=0)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", fontsize=7.5, frameon=False)


def _goodput(results: Results) -> Figure:
    """Mean goodput of every policy over all scenarios, with the least of them as a mark."""
    policies = [name for name in results.policies() if not name.startswith(WITHOUT)]
    policies.sort(key=lambda name: results.mean_goodput(name).mean)
    figure = _figure(8.0, 1.2 + 0.3 * len(policies))
    axes = figure.add_subplot()
    for place, policy in enumerate(policies):
        over = results.mean_goodput(policy)
        axes.barh(place, 100 * over.mean, color=GOOD if policy == OURS else PALE, height=0.65)
        axes.plot([100 * over.worst_low], [place], marker="|", color=INK, ms=11)
        axes.text(101, place, f"{100 * over.mean:.0f}", va="center", fontsize=8)
    axes.set_yticks(range(len(policies)), policies)
    axes.set_xlim(0, 106)
    axes.set_xlabel("goodput, % of the bound: mean over the scenarios; the mark is the worst of them")
    axes.set_title(f"{len(results.scenarios)} scenarios, {len(results.about.seeds)} seeds", fontweight="bold")
    return figure
