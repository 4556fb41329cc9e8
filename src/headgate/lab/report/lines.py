"""Small line charts as SVG: no script, no network, readable in light and dark and without colours.

Colours are classes, so that the page's style (and its dark and printed ones) sets them; each line also has a dash of
its own, and each chart a text for those who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from headgate.lab.report.about import Span

WIDTH, HEIGHT = 560, 150
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 20
MOST_POINTS = 150
"""More are put together, so that pages stay small."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line; NaN leaves a gap."""

    name: str
    values: Sequence[float]
    style: str = "a"
    """``a`` to ``f``: colour and dash."""


def chart(title: str, lines: Sequence[Line], step_s: float, spans: Sequence[Span], *, unit: str) -> str:
    """A figure with its legend. ``step_s``: seconds between two values."""
    known = [line for line in lines if any(math.isfinite(value) for value in line.values)]
    if not known:
        return ""
    steps = max(len(line.values) for line in known)
    top = _nice(max(value for line in known for value in line.values if math.isfinite(value)))
    end_s = steps * step_s
    parts = [_shade(span, end_s) for span in spans if span.since < end_s]
    for share in (0.0, 0.5, 1.0):
        y = _y(share * top, top)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{y + 3}" text-anchor="end">{share * top:g}</text>')
    for at_s in _ticks(end_s):
        x = _x(at_s, end_s)
        parts.append(f'<text class="tick" x="{x}" y="{HEIGHT - 6}" text-anchor="middle">{at_s:g} s</text>')
    parts += [_path(line, step_s, end_s, top) for line in known]
    said = "; ".join(f"{line.name}: {_told(line.values)} {unit}" for line in known)
    legend = "".join(f'<li><span class="key {line.style}"></span>{escape(line.name)}</li>' for line in known)
    return (
        f'<figure><figcaption>{escape(title)} <span class="unit">({escape(unit)})</span></figcaption>'
        f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{escape(f"{title}. {said}", quote=True)}">'
        f'{"".join(parts)}</svg><ul class="legend">{legend}</ul></figure>'
    )


def bars(title: str, rows: Sequence[tuple[str, float, str]], *, unit: str) -> str:
    """Horizontal bars around zero: name, value, and the words beside it."""
    known = [row for row in rows if math.isfinite(row[1])]
    if not known:
        return ""
    reach = max(1e-9, *(abs(value) for _, value, _ in known))
    height, middle, half = 20 * len(known) + 6, 300, 120
    parts = [f'<line class="grid" x1="{middle}" x2="{middle}" y1="0" y2="{height}"/>']
    for place, (name, value, words) in enumerate(known):
        y, width = 4 + 20 * place, abs(value) / reach * half
        x = middle if value >= 0 else middle - width
        sign = "good" if value >= 0 else "bad"
        parts.append(f'<text class="tick" x="160" y="{y + 11}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="{sign}" x="{x:.1f}" y="{y}" width="{max(width, 1):.1f}" height="14"/>')
        parts.append(f'<text class="tick" x="{middle + half + 8}" y="{y + 11}">{escape(words)}</text>')
    said = "; ".join(f"{name}: {words}" for name, _, words in known)
    return (
        f'<figure><figcaption>{escape(title)} <span class="unit">({escape(unit)})</span></figcaption>'
        f'<svg role="img" viewBox="0 0 {WIDTH} {height}" aria-label="{escape(f"{title}. {said}", quote=True)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def thinned(values: Sequence[float], most: int = MOST_POINTS) -> tuple[list[float], int]:
    """At most ``most`` values, each the mean of so many (the second answer) that follow one another."""
    each = max(1, math.ceil(len(values) / most))
    groups = [[one for one in values[at : at + each] if math.isfinite(one)] for at in range(0, len(values), each)]
    return [sum(group) / len(group) if group else math.nan for group in groups], each


def _path(line: Line, step_s: float, end_s: float, top: float) -> str:
    values, each = thinned(line.values)
    points: list[str] = []
    pen_up = True
    for place, value in enumerate(values):
        if not math.isfinite(value):
            pen_up = True
            continue
        at_s = (place + 0.5) * each * step_s
        points.append(f"{'M' if pen_up else 'L'}{_x(at_s, end_s)} {_y(value, top)}")
        pen_up = False
    return f'<path class="line {line.style}" d="{"".join(points)}"/>'


def _shade(span: Span, end_s: float) -> str:
    left, right = _x(span.since, end_s), _x(min(span.until, end_s), end_s)
    kind = "trouble" if span.trouble else "surge"
    box = f'x="{left}" y="{TOP}" width="{max(1.0, round(right - left, 1))}" height="{HEIGHT - TOP - BOTTOM}"'
    return f'<rect class="{kind}" {box}><title>{escape(span.words)}</title></rect>'


def _x(at_s: float, end_s: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, at_s / end_s), 1)


def _y(value: float, top: float) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(1.0, max(0.0, value / top)), 1)


def _nice(most: float) -> float:
    """The next 1, 2 or 5 times a power of ten; 1 for nothing."""
    if most <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(most))
    return next(float(f"{times * power:.12g}") for times in (1, 2, 5, 10) if most <= times * power * (1 + 1e-9))


def _ticks(end_s: float) -> list[float]:
    step = _nice(end_s / 5)
    return [step * place for place in range(int(end_s / step) + 1)]


def _told(values: Sequence[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    return f"mean {sum(known) / len(known):.3g}, most {max(known):.3g}"
