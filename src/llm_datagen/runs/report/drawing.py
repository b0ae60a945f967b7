"""The graph of a run, as SVG: its streams and nodes in layers from top to bottom, joined as they are wired.

Colours are those that can be read on light and on dark ground, and text has that of the page: it fits wherever it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from llm_datagen.runs.report.model import NodeFacts, StreamFacts
from llm_datagen.runs.report.text import middle, svg_text
from llm_datagen.runs.words import number

_WIDTH, _HEIGHT = 230, 62
_STREAM_HEIGHT = 30
_GAP_X, _GAP_Y = 24, 40
_MARGIN = 8
_CHARS = 31
"""Characters of a line in a box."""

STATUS_COLORS = {
    "completed": "#2f9e6e", "running": "#2f7fd1", "resuming": "#2f7fd1", "failed": "#d6453d", "interrupted": "#c98a1b",
    "canceling": "#c98a1b", "canceled": "#c98a1b", "stopped": "#c98a1b", "unneeded": "#7f8a99", "pending": "#7f8a99",
}  # fmt: skip
"""The colour of each status."""


@dataclass(slots=True, eq=False)
class _Box:
    """A stream or a node; or where a long edge passes a layer, when it has no text."""

    lines: Sequence[str] = ()
    color: str = "#7f8a99"
    is_node: bool = False
    above: list[tuple[_Box, str]] = field(default_factory=list)
    layer: int = 0
    x: float = 0.0
    y: float = 0.0

    @property
    def height(self) -> int:
        return _HEIGHT if self.is_node else _STREAM_HEIGHT if self.lines else 0


def draw_graph(nodes: Sequence[NodeFacts], streams: Sequence[StreamFacts]) -> str:
    """Return the graph of a run as an SVG element."""
    boxes = _boxes(nodes, streams)
    layers = _layered(boxes)
    width = max(len(layer) for layer in layers) * (_WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN
    height = _place(layers, width)
    described = "; ".join(f"{node.node_id} reads {', '.join(node.inputs)}" for node in nodes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="12" fill="currentColor">',
        f"<title>The graph of the run: {svg_text(described)}</title>",
        *(line for layer in layers for box in layer for line in _edges(box)),
        *(line for layer in layers for box in layer for line in _shape(box)),
        "</svg>",
    ]
    return "".join(parts)


def _boxes(nodes: Sequence[NodeFacts], streams: Sequence[StreamFacts]) -> list[_Box]:
    found: dict[str, _Box] = {}
    uris = {stream.key: stream for stream in streams}
    for stream in streams:
        if stream.kind == "input":
            found[stream.key] = _Box(lines=[_file_name(stream)])
    for node in nodes:
        account = node.account
        lost = {"failed": node.failed, "filtered": account.filtered}
        counts = ", ".join(f"{number(count)} {name}" for name, count in lost.items() if count)
        lines = [node.node_id, node.operator, f"{number(account.done)} in → {number(account.rows_out)} out"]
        found[node.node_id] = _Box(
            lines=[*lines, counts], color=STATUS_COLORS.get(node.status, "#7f8a99"), is_node=True
        )
    for node in nodes:
        found[node.node_id].above = [(found[key], _rows(uris[key])) for key in node.inputs]
    ends = [
        _Box(lines=[_file_name(stream)], above=[(found[stream.key], _rows(stream))])
        for stream in streams
        if stream.kind == "output"
    ]
    return [*found.values(), *ends]


def _rows(stream: StreamFacts) -> str:
    return "" if stream.rows is None else number(stream.rows)


def _file_name(stream: StreamFacts) -> str:
    return stream.uri.rstrip("/").rpartition("/")[2] or stream.uri


def _layered(boxes: Sequence[_Box]) -> list[list[_Box]]:
    """Return the boxes in layers: each below all that it reads; and a passage in each layer that an edge crosses."""
    for _ in boxes:  # as often as the longest path has boxes, at most
        changed = False
        for box in boxes:
            layer = max((above.layer + 1 for above, _ in box.above), default=0)
            changed, box.layer = changed or layer != box.layer, layer
        if not changed:
            break
    every = list(boxes)
    for box in boxes:
        for at, (above, label) in enumerate(box.above):
            while above.layer < box.layer - 1:
                passage = _Box(above=[(above, "")], layer=above.layer + 1)
                every.append(passage)
                above = passage  # noqa: PLW2901 - on to the next layer
            box.above[at] = (above, label)
    layers: list[list[_Box]] = [[] for _ in range(max((box.layer for box in every), default=-1) + 1)]
    for box in every:
        layers[box.layer].append(box)
    return layers


def _place(layers: Sequence[Sequence[_Box]], width: float) -> float:
    """Give each box its place, near to what it reads; return the height of all."""
    y = float(_MARGIN)
    for layer in layers:
        ordered = sorted(layer, key=lambda box: _mean([above.x for above, _ in box.above]))
        x = (width - len(ordered) * (_WIDTH + _GAP_X) + _GAP_X) / 2
        tallest = max(box.height for box in ordered)
        for box in ordered:
            box.x, box.y = x + _WIDTH / 2, y + (tallest - box.height) / 2
            x += _WIDTH + _GAP_X
        y += tallest + _GAP_Y
    return y - _GAP_Y + _MARGIN


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _edges(box: _Box) -> Iterator[str]:
    for above, label in box.above:
        begin, end = above.y + above.height, box.y
        half = (begin + end) / 2
        yield (
            f'<path d="M{above.x:.0f} {begin:.0f}C{above.x:.0f} {half:.0f} {box.x:.0f} {half:.0f} '
            f'{box.x:.0f} {end:.0f}" '
            f'fill="none" stroke="#8a94a3" stroke-width="1.5"/>'
        )
        if box.lines:
            x, y = f"{box.x:.0f}", f"{end:.0f}"
            yield f'<path d="M{x} {y}l-4 -7h8z" fill="#8a94a3"/>'
        if label:
            x, y = f"{(above.x + box.x) / 2 + 7:.0f}", f"{half + 4:.0f}"
            yield f'<text x="{x}" y="{y}" font-size="11" opacity=".75">{label}</text>'
    if not box.lines:
        x, y = f"{box.x:.0f}", f"{box.y:.0f}"
        yield f'<circle cx="{x}" cy="{y}" r="1" fill="#8a94a3"/>'


def _shape(box: _Box) -> Iterator[str]:
    left, top = box.x - _WIDTH / 2, box.y
    if box.is_node:
        name, operator, counts, lost = box.lines
        yield (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="{box.color}" '
            f'fill-opacity=".1" stroke="{box.color}" stroke-width="1.5"/>'
        )
        yield _line(left + 12, top + 19, name, _CHARS, weight="600")
        yield _line(left + 12, top + 35, operator, _CHARS + 2, opacity=".75")
        yield _line(left + 12, top + 52, ", ".join(filter(None, (counts, lost))), _CHARS + 3)
    elif box.lines:
        yield (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{_WIDTH}" height="{_STREAM_HEIGHT}" rx="15" fill="none" '
            f'stroke="#8a94a3" stroke-width="1.2" stroke-dasharray="4 3"/>'
        )
        yield _line(box.x, top + 19, box.lines[0], _CHARS, anchor="middle")


def _line(x: float, y: float, text: str, chars: int, *, weight: str = "", opacity: str = "", anchor: str = "") -> str:
    said = {"font-weight": weight, "opacity": opacity, "text-anchor": anchor}
    extra = "".join(f' {name}="{value}"' for name, value in said.items() if value)
    shown = svg_text(middle(text, chars))
    title = f"<title>{svg_text(text)}</title>" if len(text) > chars else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{extra}>{title}{shown}</text>'
