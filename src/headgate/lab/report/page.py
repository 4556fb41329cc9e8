"""One HTML page that needs nothing else: no network, no script; light, dark and printed; for screen readers too."""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files

from headgate.lab.contest.compare import Entry
from headgate.lab.measures import MEASURES, measure_of, shown
from headgate.lab.report.about import Sheet
from headgate.lab.report.lines import Line, bars, chart
from headgate.lab.report.results import OURS, Results, fullest

STYLES = "abcdef"


def page(results: Results) -> str:
    """The whole page."""
    style = (files("headgate.lab.report") / "page.css").read_text(encoding="utf-8")
    about = results.about
    played = ", ".join(
        (
            _many(len(results.scenarios), "scenario"),
            _many(len(results.policies()), "policy", "policies"),
            _many(len(about.seeds), "seed"),
        )
    )
    minutes = sum(entry.real_s for entry in results.entries) / 60
    took = f"; the plays took {minutes:.0f} min, added up" if minutes >= 1 else ""
    contents = "".join(
        f'<li><a href="#{escape(s.name)}">{escape(s.name)}</a> {escape(s.title)}</li>' for s in results.scenarios
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in about.notes)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>headgate lab report</title><style>{style}</style></head><body>"
        '<a class="skip" href="#main">Skip to the results</a>'
        f"<header><h1>headgate lab report</h1><p>{played}{took}. Numbers are means over the seeds ± one "
        f"standard deviation.</p>{notes}</header>"
        f'<nav aria-label="Scenarios"><ol>{contents}</ol></nav><main id="main">{_overview(results)}'
        f"{''.join(_scenario(results, sheet) for sheet in results.scenarios)}</main>"
        f"<footer>{_words()}</footer></body></html>\n"
    )


def _overview(results: Results) -> str:
    """Goodput of every policy in every scenario."""
    sheets, policies = results.scenarios, results.policies()
    if len(sheets) < 2:
        return ""
    rows = []
    for policy in policies:
        cells = []
        for sheet in sheets:
            one = results.measure(sheet.name, policy, "goodput")
            best = max((results.measure(sheet.name, p, "goodput").mean for p in policies), default=0.0)
            cells.append((measure_of("goodput").shown(one.mean), "best" if one.mean >= best - 5e-4 else ""))
        mean = results.mean_goodput(policy)
        cells.append((measure_of("goodput").shown(mean.mean), ""))
        rows.append((policy, results.about.policies[policy], cells))
    return _table("Goodput by policy and scenario", [*(sheet.name for sheet in sheets), "mean"], rows)


def _scenario(results: Results, sheet: Sheet) -> str:
    parts = [f'<section id="{escape(sheet.name)}"><h2>{escape(sheet.name)}</h2><p>{escape(sheet.title)}.</p>']
    parts += [_advice(sheet), _goals(results, sheet), _scores(results, sheet), _mechanisms(results, sheet)]
    for place, policy in enumerate(results.with_timelines(sheet.name)):
        entry = results.plays(sheet.name, policy)[0]
        title = results.about.policies[policy]
        open_ = " open" if place < 2 else ""
        parts.append(
            f"<details{open_}><summary>Timeline of <b>{escape(policy)}</b> ({escape(title)}), seed {entry.seed}"
            f'</summary><div class="charts">{_timeline(entry, sheet)}</div></details>'
        )
    return "".join(parts) + "</section>"


def _advice(sheet: Sheet) -> str:
    if not sheet.advice:
        return ""
    items = "".join(
        f"<li>{_code(escape(one.words))} <span class='unit'>({one.plays} of {one.of} plays)</span></li>"
        for one in sheet.advice
    )
    return f"<h3>What the configuration should change</h3><ul>{items}</ul>"


def _goals(results: Results, sheet: Sheet) -> str:
    if not sheet.goals:
        return ""
    rows, heads = [], []
    for policy in results.policies(sheet.name):
        verdicts = results.verdicts(sheet.name, policy)
        heads = [one.words for one in verdicts]
        cells = [(f"{'✓' if one.met else '✗'} {one.shown}", "met" if one.met else "missed") for one in verdicts]
        rows.append((policy, results.about.policies[policy], cells))
    return _table("Goals (✓ met, ✗ missed)", heads, rows)


def _scores(results: Results, sheet: Sheet) -> str:
    names = results.measure_names(sheet.name)
    rows = []
    for policy in results.policies(sheet.name):
        cells = []
        for name in names:
            measure = measure_of(name)
            cells.append((shown(measure, results.measure(sheet.name, policy, name)), ""))
        rows.append((policy, results.about.policies[policy], cells))
    limits = sorted({entry.limits for entry in results.plays(sheet.name, results.policies(sheet.name)[0])})
    return (
        _table("Scores", [measure_of(name).title for name in names], rows)
        + f"<p class='unit'>The bound is set by {escape(', '.join(limits))}.</p>"
    )


def _mechanisms(results: Results, sheet: Sheet) -> str:
    rows = [
        (one.mechanism, one.goodput.mean, f"{100 * one.goodput.mean:+.1f} ± {100 * one.goodput.deviation:.1f}")
        for one in results.contributions(sheet.name)
    ]
    return bars(
        "What each mechanism brings: headgate with it less headgate without it", rows, unit="points of goodput"
    )


def _timeline(entry: Entry, sheet: Sheet) -> str:
    columns, step_s = entry.timeline.columns, entry.timeline.step_s

    def per_s(name: str) -> list[float]:
        return [value / step_s for value in columns.get(name, ())]

    named = {"offered": "offered", "admitted": "admitted", "on_time": "finished on time", "refused": "refused"}
    runs = [Line(words, per_s(name), STYLES[place]) for place, (name, words) in enumerate(named.items())]
    busiest = fullest(entry, sheet)[:3]
    limits = [
        Line(f"{words} {name}", columns.get(f"{column}:{name}", ()), STYLES[2 * place + shift])
        for place, name in enumerate(busiest)
        for shift, (column, words) in enumerate((("inflight", "in flight at"), ("limit", "limit of")))
    ]
    spans = sheet.spans
    return "".join(
        (
            chart("Runs", runs, step_s, spans, unit="per second"),
            chart("Oldest wait", [Line("oldest wait", columns.get("oldest_s", ()))], step_s, spans, unit="seconds"),
            chart("Limits of the fullest dependencies", limits, step_s, spans, unit="calls"),
            chart("Waiting", [Line("runs and calls", columns.get("waiting", ()))], step_s, spans, unit="waiting"),
            chart("Pressure", [Line("pressure", columns.get("pressure", ()))], step_s, spans, unit="0 to 1"),
            chart("Errors", [Line("failed calls", per_s("errors"), "b")], step_s, spans, unit="per second"),
        )
    )


Row = tuple[str, str, list[tuple[str, str]]]


def _table(caption: str, heads: list[str], rows: list[Row]) -> str:
    """Rows are a policy, its title, and cells with their class."""
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = []
    for policy, title, cells in rows:
        cls = ' class="ours"' if policy == OURS else ""
        shown_cells = "".join(f'<td class="{kind}">{escape(text)}</td>' for text, kind in cells)
        row_head = f'<th scope="row" title="{escape(title, quote=True)}">{escape(policy)}</th>'
        body.append(f"<tr{cls}>{row_head}{shown_cells}</tr>")
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption, quote=True)}"><table>'
        f'<caption>{escape(caption)}</caption><thead><tr><th scope="col">policy</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _many(number: int, one: str, more: str = "") -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"


def _code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def _words() -> str:
    """What the measures mean."""
    items = "".join(f"<dt>{escape(one.title)}</dt><dd>{escape(one.words)}</dd>" for one in MEASURES.values())
    return f"<h2>Measures</h2><dl>{items}</dl>"
