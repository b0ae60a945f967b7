"""A run over time, as drawings: rows per second of each node, and what it had cost.

The lines are SVG that is stretched to the room there is; numbers stand beside it as text, so that they can be read on
a phone, too. Colours can be read on light and on dark ground. No style sheet is needed: notebooks have none of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from llm_datagen.runs import timeline as timeline_file
from llm_datagen.runs.report.text import html_text, middle
from llm_datagen.runs.usage import dollars
from llm_datagen.runs.words import duration, rate

Point = tuple[float, float | None, Mapping[str, Sequence[int]]]
"""Seconds, US dollars, and for each node rows in, rows out and failed rows."""

Points = Sequence[Point]

_WIDTH, _HEIGHT = 1000, 160
_COLORS = ("#2f7fd1", "#d9822b", "#2f9e6e", "#a259c4", "#d6453d", "#2aa5b5", "#8a7a2e", "#c25b8a")
_COST_COLOR = _COLORS[2]
_SPANS = 120
"""Into how many spans of time a run is divided, at most: rates from one point to the next jump."""

MOST_LINES = len(_COLORS)
"""Nodes that have a line each."""

SHORTEST_SECONDS = 1.0
"""So long a run lasts that has a chart."""


def draw_rates(points: Points, nodes: Sequence[str]) -> str:
    """Return the rows per second that each node did, as HTML; empty when there are too few points.

    Peaks that would press everything else to the ground are cut off, and named below.
    """
    spans = _spans(points)
    if not spans:
        return ""
    lines = [[(end[0], _rate(begin, end, node)) for begin, end in spans] for node in nodes[:MOST_LINES]]
    top = _round_up(_highest([value for line in lines for _, value in line]))
    most = {node: max(value for _, value in line) for node, line in zip(nodes, lines, strict=False)}
    cut = "; ".join(f"{middle(node, 40)}, at most {rate(value)}" for node, value in most.items() if value > top)
    below = f'<p style="font-size:12px;margin:4px 0 0">Cut off at the top: {html_text(cut)}.</p>' if cut else ""
    paths = [
        f'<path d="{_path([(spans[0][0][0], line[0][1]), *line], points, top)}" {_stroke(color)}/>'
        for line, color in zip(lines, _COLORS, strict=False)
    ]
    names = "".join(map(_legend, nodes, _COLORS))
    head = f'<div style="display:flex;flex-wrap:wrap;gap:2px 18px;font-size:13px;margin:0 0 8px">{names}</div>'
    return head + _chart(paths, points, top, rate, "Rows per second that each node did, over time") + below


def draw_cost(points: Points) -> str:
    """Return what a run had cost, over time, as HTML; empty when no price is known."""
    known = [(seconds, cost) for seconds, cost, _ in points if cost is not None]
    if len(known) < 2 or not _is_long_enough(points):
        return ""
    top = _round_up(max(cost for _, cost in known))
    line = _path(known, points, top)
    area = f"{line}V{_HEIGHT}H{_x(known[0][0], points):.1f}z"
    paths = [
        f'<path d="{area}" fill="{_COST_COLOR}" fill-opacity=".14"/>',
        f'<path d="{line}" {_stroke(_COST_COLOR)}/>',
    ]
    return _chart(paths, points, top, dollars, "US dollars spent, over time")


def _highest(values: Sequence[float]) -> float:
    """Return the most of the values that are at most four times as high as what 95 % stay below."""
    usual = sorted(values)[int(len(values) * 0.95)] if values else 0.0
    return max((value for value in values if not usual or value <= 4 * usual), default=0.0)


def points_of(timeline: Sequence[timeline_file.Point]) -> Points:
    """Return the points of a run, as charts take them: seconds count from the first one."""
    return [
        (
            round((point.at - timeline[0].at).total_seconds(), 3),
            point.cost,
            {node_id: (counts.rows_in, counts.rows_out, counts.failed) for node_id, counts in point.nodes.items()},
        )
        for point in timeline
    ]


def thinned(points: Points, most: int) -> Points:
    """Return some of many points, evenly spread, with the first and the last one."""
    if len(points) <= most:
        return points
    step = (len(points) - 1) / (most - 1)
    return [points[round(at * step)] for at in range(most)]


def _spans(points: Points) -> list[tuple[Point, Point]]:
    """Return spans of time, each from a point to a later one; none when there are too few points."""
    if not _is_long_enough(points):
        return []
    length = (points[-1][0] - points[0][0]) / _SPANS
    ends = [points[0]]
    for point in points[1:]:
        if point[0] > ends[-1][0] and (point[0] - ends[-1][0] >= length or point is points[-1]):
            ends.append(point)
    return list(pairwise(ends))


def _is_long_enough(points: Points) -> bool:
    return len(points) > 1 and points[-1][0] - points[0][0] >= SHORTEST_SECONDS


def _rate(begin: Point, end: Point, node: str) -> float:
    before, after = (point[2].get(node, (0, 0, 0))[0] for point in (begin, end))
    return max(0, after - before) / (end[0] - begin[0])  # rows that are done again are taken away first


def _legend(node: str, color: str) -> str:
    mark = f'<span style="display:inline-block;width:18px;height:3px;vertical-align:4px;background:{color}"></span>'
    return f"<span>{mark} {html_text(middle(node, 40))}</span>"


def _chart(paths: Sequence[str], points: Points, top: float, shown: Callable[[float], str], title: str) -> str:
    """Return lines with a scale beside them, and times below."""
    style = 'stroke="#8a94a3" stroke-opacity=".4" fill="none" vector-effect="non-scaling-stroke"'
    grid = "".join(f'<path d="M0 {at}H{_WIDTH}" {style}/>' for at in (0.5, _HEIGHT / 2, _HEIGHT - 0.5))
    scale = "".join(f"<span>{html_text(shown(top * part))}</span>" for part in (1.0, 0.5, 0.0))
    begin, length = points[0][0], points[-1][0] - points[0][0]
    times = "".join(f"<span>{duration(begin + length * part)}</span>" for part in (0.0, 0.5, 1.0))
    column = "display:flex;flex-direction:column;justify-content:space-between;text-align:right;line-height:1"
    return (
        '<div style="display:grid;grid-template-columns:max-content minmax(0,1fr);gap:6px 8px;font-size:12px">'
        f'<div style="{column};margin:-6px 0">{scale}</div>'
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{html_text(title)}" style="display:block;width:100%;height:{_HEIGHT}px">'
        f"{grid}{''.join(paths)}</svg>"
        f'<div></div><div style="display:flex;justify-content:space-between">{times}</div></div>'
    )


def _stroke(color: str) -> str:
    return f'fill="none" stroke="{color}" stroke-width="2" stroke-linejoin="round" vector-effect="non-scaling-stroke"'


def _path(line: Sequence[tuple[float, float]], points: Points, top: float) -> str:
    return "M" + "L".join(
        f"{_x(seconds, points):.1f} {_HEIGHT * (1 - min(1.0, value / top)):.1f}" for seconds, value in line
    )


def _x(seconds: float, points: Points) -> float:
    begin, end = points[0][0], points[-1][0]
    return _WIDTH * (seconds - begin) / (end - begin)


def _round_up(value: float) -> float:
    """Return the next round number: 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.9999)
