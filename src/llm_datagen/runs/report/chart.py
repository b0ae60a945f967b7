"""A run over time, as SVG: rows per second of each node, and what it had cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from llm_datagen.runs.report.text import middle, svg_text
from llm_datagen.runs.usage import dollars
from llm_datagen.runs.words import duration, rate

Point = tuple[float, float | None, Mapping[str, Sequence[int]]]
"""Seconds, US dollars, and for each node rows in, rows out and failed rows."""

Points = Sequence[Point]

_WIDTH, _HEIGHT = 760, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 26
_COLORS = ("#2f7fd1", "#d9822b", "#2f9e6e", "#a259c4", "#d6453d", "#2aa5b5", "#8a7a2e", "#c25b8a")
_DASHES = ("", "6 3", "2 3")
_STEPS = 120
"""Into how many spans of time a run is divided, at most: rates of single points jump."""

MOST_LINES = 8
"""Nodes that have a line each."""


def draw_rates(points: Points, nodes: Sequence[str]) -> str:
    """Return the rows per second that each node did, as an SVG element; empty when there are too few points."""
    chosen = nodes[:MOST_LINES]
    spans = _spans(points)
    if not spans:
        return ""
    lines = [[(end[0], _rate(begin, end, node)) for begin, end in spans] for node in chosen]
    top = _round_up(max((value for line in lines for _, value in line), default=0.0))
    parts = [*_frame(points, top, rate, "Rows per second that each node did, over time")]
    for at, line in enumerate(lines):
        start = [(spans[0][0][0], line[0][1])]
        parts.append(_polyline([*start, *line], points, top, _style(at)))
    parts.append("</svg>")
    return "".join(parts)


def draw_cost(points: Points) -> str:
    """Return what a run had cost, over time, as an SVG element; empty when no price is known."""
    known = [(seconds, cost) for seconds, cost, _ in points if cost is not None]
    if len(known) < 2 or known[-1][0] <= 0:
        return ""
    top = _round_up(max(cost for _, cost in known))
    parts = [*_frame(points, top, dollars, "US dollars spent, over time")]
    x_begin, x_end, floor = _x(known[0][0], points), _x(known[-1][0], points), _y(0, top)
    path = "L".join(f"{_x(seconds, points):.1f} {_y(cost, top):.1f}" for seconds, cost in known)
    parts.append(
        f'<path d="M{x_begin:.1f} {floor:.1f}L{path}L{x_end:.1f} {floor:.1f}z" fill="{_COLORS[2]}" fill-opacity=".14"/>'
    )
    parts.append(_polyline(known, points, top, _style(2)))
    parts.append("</svg>")
    return "".join(parts)


def legend(nodes: Sequence[str]) -> list[tuple[str, str]]:
    """Return the lines of `draw_rates`: a small drawing of each, and its node."""
    return [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="26" height="10" aria-hidden="true">'
            f'<path d="M1 5H25" {_style(at)}/></svg>',
            middle(node, 40),
        )
        for at, node in enumerate(nodes[:MOST_LINES])
    ]


def thinned(points: Points, most: int) -> Points:
    """Return some of many points, evenly spread, with the first and the last one."""
    if len(points) <= most:
        return points
    step = (len(points) - 1) / (most - 1)
    return [points[round(at * step)] for at in range(most)]


def _spans(points: Points) -> list[tuple[Point, Point]]:
    """Return spans of time, each from a point to a later one."""
    if len(points) < 2 or points[-1][0] <= points[0][0]:
        return []
    length = (points[-1][0] - points[0][0]) / _STEPS
    ends = [points[0]]
    for point in points[1:]:
        if point[0] - ends[-1][0] >= length and point[0] > ends[-1][0]:
            ends.append(point)
    return list(pairwise(ends)) if len(ends) > 1 else [(points[0], points[-1])]


def _rate(begin: Point, end: Point, node: str) -> float:
    before, after = (point[2].get(node, (0, 0, 0))[0] for point in (begin, end))
    return max(0, after - before) / (end[0] - begin[0])  # rows that are done again are taken away first


def _style(at: int) -> str:
    dashes = _DASHES[at // len(_COLORS) % len(_DASHES)]
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    color = _COLORS[at % len(_COLORS)]
    return f'fill="none" stroke="{color}" stroke-width="1.8" stroke-linejoin="round"{dashed}'


def _frame(points: Points, top: float, shown: Callable[[float], str], title: str) -> Iterator[str]:
    """Yield the beginning of a chart: its title, its grid and its axes."""
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%" role="img" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="currentColor"><title>{svg_text(title)}</title>'
    )
    for part in (0.0, 0.5, 1.0):
        y = _y(top * part, top)
        yield f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#8a94a3" stroke-opacity=".35" fill="none"/>'
        yield f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end" opacity=".8">{svg_text(shown(top * part))}</text>'
    length = points[-1][0] - points[0][0]
    for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * part
        text = duration(points[0][0] + length * part)
        yield f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}" opacity=".8">{text}</text>'


def _polyline(line: Sequence[tuple[float, float]], points: Points, top: float, style: str) -> str:
    path = "L".join(f"{_x(seconds, points):.1f} {_y(value, top):.1f}" for seconds, value in line)
    return f'<path d="M{path}" {style}/>'


def _x(seconds: float, points: Points) -> float:
    begin, end = points[0][0], points[-1][0]
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (seconds - begin) / ((end - begin) or 1.0)


def _y(value: float, top: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value / (top or 1.0))


def _round_up(value: float) -> float:
    """Return the next round number: 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(f"{value:.0f}") - 1) if value >= 1 else 1.0
    while power > value:
        power /= 10
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.999)
