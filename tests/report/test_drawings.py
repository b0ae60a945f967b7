"""The drawings of a report: the graph as it is wired, and the charts over time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from llm_datagen.runs.masking import masked_uri
from llm_datagen.runs.report.chart import Point as ChartPoint
from llm_datagen.runs.report.chart import draw_cost, draw_rates, points_of, thinned
from llm_datagen.runs.report.drawing import draw_graph
from llm_datagen.runs.report.model import NodeFacts, RowAccount, StreamFacts
from llm_datagen.runs.report.text import middle
from llm_datagen.runs.timeline import Counts, Point

SVG = "{http://www.w3.org/2000/svg}"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def node(node_id: str, *inputs: str, operator: str = "op") -> NodeFacts:
    """Return a node that has done ten rows."""
    account = RowAccount(
        source_rows=10, done=10, kept=10, filtered=0, rejected=0, skipped=0, dead_letters=0, pending=0, rows_out=10,
        is_sealed=True, is_known=True, findings=(),
    )  # fmt: skip
    return NodeFacts(
        node_id=node_id, operator=operator, status="completed", inputs=inputs, output=node_id, parallel_size=1,
        batch_size=1, seconds=1.0, shares={}, account=account, failed=0, target_rows=None, usage=(), cost=None,
        error=None, stalled=None, settings={},
    )  # fmt: skip


def places(svg: str) -> dict[str, tuple[float, float]]:
    """Return where each text of a drawing stands."""
    texts = ElementTree.fromstring(svg).iter(f"{SVG}text")
    return {"".join(text.itertext()): (float(text.attrib["x"]), float(text.attrib["y"])) for text in texts}


def test_a_graph_has_each_node_below_what_it_reads() -> None:
    nodes = [node("merge", "left", "first"), node("left", "first"), node("first", "input")]
    streams = [
        StreamFacts(key="input", uri="jsonl://a/in.jsonl", kind="input", rows=10),
        *(StreamFacts(key=each.node_id, uri=f"{each.node_id}.jsonl", kind="between", rows=10) for each in nodes[1:]),
        StreamFacts(key="merge", uri="jsonl://b/out.jsonl", kind="output", rows=None),
    ]
    svg = draw_graph(nodes, streams)
    found = places(svg)
    heights = [found[name][1] for name in ("in.jsonl", "first", "left", "merge", "out.jsonl")]
    assert heights == sorted(heights)
    assert found["10 in → 10 out"]
    root = ElementTree.fromstring(svg)
    curves = [path.attrib["d"] for path in root.iter(f"{SVG}path") if "C" in path.attrib["d"]]
    assert len(curves) == 6, "five edges, of which that from first to merge passes a layer"
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    assert all(0 <= x <= width and 0 <= y <= height for x, y in found.values())


def test_long_and_hostile_names_are_text_that_fits() -> None:
    name = "<b>&" + "a very long name " * 5
    svg = draw_graph([node(name, "input")], [StreamFacts(key="input", uri="x", kind="input", rows=None)])
    assert "<b>" not in svg
    shown = [text for text in places(svg) if text.endswith("a very long name ") or "…" in text]
    assert any(middle(name, 31) in text for text in shown)


def test_rates_are_those_between_the_points() -> None:
    points = [(0.0, None, {"a": (0, 0, 0)}), (10.0, None, {"a": (50, 50, 0)}), (20.0, None, {"a": (150, 9, 0)})]
    drawn = draw_rates(points, ["a"])
    # 5 and 10 rows per second, of at most 10; 160 high.
    assert 'd="M0.0 80.0L500.0 80.0L1000.0 0.0"' in drawn
    assert re.findall(r"<span>([^<]+)</span>", drawn) == ["10.0", "5.0", "0.0", "0:00", "0:10", "0:20"]


def test_a_peak_is_cut_off_and_named() -> None:
    """A first node that reads all in a second hides nothing of the one that calls a model."""
    points = [
        (float(at), None, {"reads": (min(at, 1) * 4000, 0, 0), "asks": (at * 50, 0, 0)}) for at in range(31)
    ]  # fmt: skip
    drawn = draw_rates(points, ["reads", "asks"])
    assert re.findall(r"<span>([^<]+)</span>", drawn)[:3] == ["50.0", "25.0", "0.0"]
    assert "Cut off at the top: reads, at most 4,000." in drawn
    assert "Cut off" not in draw_rates(points, ["asks"])


def test_rows_that_are_done_again_give_no_negative_rate() -> None:
    points = [(0.0, None, {"a": (100, 0, 0)}), (10.0, None, {"a": (0, 0, 0)}), (20.0, None, {"a": (20, 0, 0)})]
    assert 'd="M0.0 160.0L500.0 160.0L1000.0 0.0"' in draw_rates(points, ["a"])


def test_cost_begins_where_a_price_is_known() -> None:
    points: list[ChartPoint] = [(0.0, None, {}), (5.0, 0.5, {}), (10.0, 1.0, {})]
    drawn = draw_cost(points)
    assert 'd="M500.0 80.0L1000.0 0.0"' in drawn
    assert re.findall(r"<span>(\$[^<]+)</span>", drawn) == ["$1.00", "$0.5000", "$0.00"]


@pytest.mark.parametrize("points", [[], [(0.0, 1.0, {})], [(0.0, 1.0, {}), (0.0, 1.0, {})]])
def test_too_few_points_are_no_chart(points: list[tuple[float, float | None, dict[str, tuple[int, int, int]]]]) -> None:
    assert draw_rates(points, ["a"]) == draw_cost(points) == ""


def test_of_many_points_some_are_taken_with_the_first_and_the_last() -> None:
    timeline = [Point(BEGAN + timedelta(seconds=at), None, {"a": Counts(at, at, 0)}) for at in range(1000)]
    found = thinned(points_of(timeline), 10)
    assert [point[0] for point in found] == [0.0, 111.0, 222.0, 333.0, 444.0, 555.0, 666.0, 777.0, 888.0, 999.0]
    assert found[-1][2] == {"a": (999, 999, 0)}


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("jsonl://a/b.jsonl", "jsonl://a/b.jsonl"),
        ("s3://key:secret@bucket/x", "s3://…@bucket/x"),
        ("https://h/x?X-Amz-Signature=abc&y=1", "https://h/x?X-Amz-Signature=…&y=1"),
        ("ask me@here, or https://h/x?api_key=abc now", "ask me@here, or https://h/x?api_key=… now"),
        ("part://in.jsonl?rows=1-2&at=3-4", "part://in.jsonl?rows=1-2&at=3-4"),
        ("jsonl://data/me@home/x.jsonl", "jsonl://data/me@home/x.jsonl"),
    ],
)
def test_addresses_keep_no_secret(uri: str, shown: str) -> None:
    assert masked_uri(uri) == shown


@pytest.mark.parametrize(("text", "shown"), [("abcdef", "abcdef"), ("abcdefgh", "abc…gh"), ("x" * 6, "x" * 6)])
def test_a_long_name_lacks_its_middle(text: str, shown: str) -> None:
    assert middle(text, 6) == shown
