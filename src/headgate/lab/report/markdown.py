"""The comparison as a part of a page of documentation, between two markers; everything else on the page stays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from headgate.errors import HeadgateError
from headgate.lab.measures import measure_of, spread
from headgate.lab.report.results import OURS, WITHOUT, Results

BEGIN = "<!-- comparison: begin -->"
END = "<!-- comparison: end -->"
PERFECT = "headgate-perfect-limits"
NOISE = 0.005
"""Goodput by which another policy must be ahead to be called ahead."""
EASY = "steady"
"""The scenario in which everybody may be as good."""
GOALS = (0.90, 0.75, 0.03, 1.2, 0.99)
"""Mean goodput, least goodput of a scenario, behind perfect limits, amplification, first lane on time."""


def written_into(page: str, words: str) -> str:
    """The page with ``words`` between its markers.

    Raises:
        HeadgateError: the page has not exactly one pair of markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise HeadgateError(f"the page needs one line {BEGIN} and after it one line {END}")
    return f"{before}{BEGIN}\n\n{words.strip()}\n\n{END}{after}"


def comparison(results: Results, pictures: Sequence[str] = ()) -> str:
    """All of it. ``pictures``: paths as seen from the page."""
    about, sheets = results.about, results.scenarios
    calls = sum(entry.calls for entry in results.entries)
    minutes = sum(entry.real_s for entry in results.entries) / 60
    first, last = min(about.seeds), max(about.seeds)
    seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
    begin = (
        f"{len(sheets)} scenarios, {len(results.policies())} policies, {seeds}, {calls:,} calls. The plays took "
        f"{minutes:.0f} min, added up. Goodput is in per cent of the bound, mean over the seeds."
    )
    parts = [
        begin,
        *(f"![{_alt(path)}]({path})" for path in pictures),
        "### What headgate should reach\n\n" + _claims(results),
        "### Scenario by scenario\n\n" + _by_scenario(results),
        "### Policy by policy\n\n" + _by_policy(results),
        "### What each mechanism brings\n\n" + _mechanisms(results),
        "### Goals that headgate misses\n\n" + _missed(results),
        "### Everything\n\n" + _matrix(results),
    ]
    return "\n\n".join(part for part in parts if part)


def write_page(results: Results, page: Path, pictures: Iterable[Path] = ()) -> None:
    """Write the comparison into the file ``page``.

    Raises:
        HeadgateError: it cannot be read or written, or has no markers.
    """
    try:
        text = page.read_text(encoding="utf-8")
        shown = [path.resolve().relative_to(page.resolve().parent).as_posix() for path in pictures]
        page.write_text(written_into(text, comparison(results, shown)), encoding="utf-8")
    except (OSError, ValueError) as error:
        raise HeadgateError(f"cannot write the comparison into {page}: {error}") from error


def _claims(results: Results) -> str:
    if OURS not in results.policies():
        return "headgate did not play."
    mean_goal, least_goal, behind_goal, amplification, first = GOALS
    over = results.mean_goodput(OURS)
    names = [sheet.name for sheet in results.scenarios]
    least = min(names, key=lambda name: _number(_of(results, name, OURS), unknown=-math.inf))
    calls = {name: _number(results.measure(name, OURS, "amplification").mean, unknown=math.inf) for name in names}
    most_calls = max(names, key=lambda name: calls[name])
    repeated = calls[most_calls]
    ahead, level = _ahead(results), _level(results)
    rows = [
        (f"mean goodput ≥ {_percent(mean_goal)}", over.mean >= mean_goal, _percent(over.mean)),
        (
            f"no scenario below {_percent(least_goal)}",
            _of(results, least, OURS) >= least_goal,
            f"{_percent(_of(results, least, OURS))} in {least}",
        ),
        ("no other policy ahead in any scenario", not ahead, "; ".join(ahead) or "none is"),
        (
            f"ahead of every other policy by more than {100 * NOISE:g} points, but for {EASY}",
            not ahead and not level,
            f"level with the best: {', '.join(level)}" if level else "ahead in all that are not lost",
        ),
        (f"amplification ≤ {amplification}", repeated <= amplification, f"{repeated:.2f} in {most_calls}"),
    ]
    if PERFECT in results.policies():
        behind = {name: gap for name in names if not math.isnan(gap := results.behind(name, PERFECT).mean)}
        mean = sum(behind.values()) / len(behind) if behind else math.nan
        worst_at = max(behind, key=lambda name: behind[name], default="")
        words = (
            f"{100 * mean:+.1f} points behind on average, {100 * behind[worst_at]:+.1f} in {worst_at}"
            if behind
            else "–"
        )
        rows.append(
            (f"within {100 * behind_goal:.0f} points of perfect limits, on average", mean <= behind_goal, words)
        )
    lanes = _first_lane(results)
    if lanes:
        where, worst = min(lanes.items(), key=lambda one: one[1])
        words = f"{_percent(worst)} in {where}"
        rows.append((f"first lane on time ≥ {_percent(first)} of what could be", worst >= first, words))
    return _table(
        ("goal", "met", "figure"), [(goal, "yes" if met else "**no**", figure) for goal, met, figure in rows]
    )


def _ahead(results: Results) -> list[str]:
    """Other policies (not headgate with something changed) that have a higher goodput somewhere, beyond noise."""
    found = []
    for sheet in results.scenarios:
        ours = _of(results, sheet.name, OURS)
        for policy in results.policies(sheet.name):
            value = _of(results, sheet.name, policy)
            if not policy.startswith(OURS) and value > ours + NOISE:
                found.append(f"{policy} in {sheet.name} by {100 * (value - ours):.1f}")
    return found


def _level(results: Results) -> list[str]:
    """Scenarios, but for the easy one, in which another policy is as good as headgate."""
    found = []
    for sheet in results.scenarios:
        ours = _of(results, sheet.name, OURS)
        others = [
            _of(results, sheet.name, name) for name in results.policies(sheet.name) if not name.startswith(OURS)
        ]
        if sheet.name != EASY and any(abs(value - ours) <= NOISE for value in others):
            found.append(sheet.name)
    return found


def _first_lane(results: Results) -> dict[str, float]:
    """Scenario → on-time share of its first lane."""
    found = {}
    for sheet in results.scenarios:
        plays = results.plays(sheet.name, OURS)
        if plays and plays[0].lanes:
            value = results.measure(sheet.name, OURS, f"{next(iter(plays[0].lanes))}-on-time").mean
            if not math.isnan(value):
                found[sheet.name] = value
    return found


def _by_scenario(results: Results) -> str:
    rows = []
    for sheet in results.scenarios:
        others = [name for name in results.policies(sheet.name) if not name.startswith(OURS)]
        best = max(others, key=lambda name: _of(results, sheet.name, name), default="")
        ours = results.measure(sheet.name, OURS, "goodput")
        verdicts = results.verdicts(sheet.name, OURS)
        rows.append(
            (
                f"{sheet.name}: {sheet.title}",
                f"**{_percent(ours.mean)}** ± {100 * ours.deviation:.1f}",
                _percent(results.measure(sheet.name, OURS, "goodput-sizes-unknown").mean),
                f"{_percent(_of(results, sheet.name, best))} ({best})" if best else "–",
                _percent(_of(results, sheet.name, PERFECT)),
                f"{sum(one.met for one in verdicts)} of {len(verdicts)}",
            )
        )
    return _table(("scenario", "headgate", "sizes unknown", "best other", "perfect limits", "goals met"), rows)


def _by_policy(results: Results) -> str:
    rows = []
    for policy in sorted(results.policies(), key=lambda name: -_number(results.mean_goodput(name).mean)):
        if policy.startswith(WITHOUT):
            continue
        values = {sheet.name: _of(results, sheet.name, policy) for sheet in results.scenarios}
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        if known:
            least = min(known, key=lambda name: known[name])
            mean = _percent(sum(known.values()) / len(known))
            late, wasted = (
                measure_of(name).shown(spread(results.measure(s, policy, name).mean for s in known).mean)
                for name in ("accepted-late", "wasted-work")
            )
            words = f"{policy}: {results.about.policies[policy]}"
            rows.append((words, mean, f"{_percent(known[least])} ({least})", late, wasted))
    return _table(("policy", "mean goodput", "least", "accepted, not on time", "wasted work"), rows)


def _mechanisms(results: Results) -> str:
    gains: dict[str, dict[str, float]] = {}
    for sheet in results.scenarios:
        for one in results.contributions(sheet.name):
            gains.setdefault(one.mechanism, {})[sheet.name] = one.goodput.mean
    if not gains:
        return "No ablation was played."
    rows = []
    for mechanism, by in sorted(gains.items(), key=lambda one: -sum(one[1].values()) / len(one[1])):
        most, least = max(by, key=lambda name: by[name]), min(by, key=lambda name: by[name])
        mean = sum(by.values()) / len(by)
        rows.append((mechanism, _points(mean), f"{_points(by[most])} ({most})", f"{_points(by[least])} ({least})"))
    return "Points of goodput that headgate has more than without it, seed by seed.\n\n" + _table(
        ("mechanism", "mean", "most", "least"), rows
    )


def _missed(results: Results) -> str:
    rows = [(scenario, one.words, one.shown) for scenario, one in results.missed(OURS)]
    return _table(("scenario", "goal", "figure"), rows) if rows else "None."


def _matrix(results: Results) -> str:
    sheets = results.scenarios
    legend = ", ".join(f"{place} {sheet.name}" for place, sheet in enumerate(sheets, 1))
    rows = [
        (policy, *(_percent(_of(results, sheet.name, policy), places=0) for sheet in sheets))
        for policy in results.policies()
    ]
    heads = ("policy", *(str(place) for place in range(1, len(sheets) + 1)))
    return f"Goodput, %. Scenarios: {legend}.\n\n{_table(heads, rows)}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(one.replace("|", "\\|") for one in line) + " |" for line in lines)


def _of(results: Results, scenario: str, policy: str) -> float:
    return results.measure(scenario, policy, "goodput").mean


def _number(value: float, *, unknown: float = 0.0) -> float:
    return value if math.isfinite(value) else unknown


def _percent(value: float, *, places: int = 1) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.{places}f}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _alt(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0].replace("-", " ")
