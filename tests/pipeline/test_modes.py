"""However a pipeline is run, it gives the same rows under the same ids (M5, M10-M12, M14, M20)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from llm_datagen import MemoryStream, Status

from ..kit.support import Bench, bag, lines, numbered, pairwise, stored, write_jsonl
from .chains import STYLES, Fate, modelled, operator


def double(row: Any) -> Any:
    return {"n": int(row["n"]) * 2}


def no_thirds(row: Any) -> Any:
    return None if int(row["n"]) % 3 == 0 else {"n": int(row["n"])}


def children(row: Any) -> Any:
    return [{"n": int(row["n"]) + k} for k in range(int(row["n"]) % 4)]


KINDS: dict[str, tuple[str, Fate]] = {
    "1:1": ("item", double),
    "filter": ("item", no_thirds),
    "1:N": ("item", children),
    "async": ("async item", double),
    "async 1:N": ("async item", children),
    "batch": ("batch", no_thirds),
    "batch 1:N": ("batch", children),
    "flat batch": ("flat batch", no_thirds),
    "async batch": ("async batch", children),
}


def of_csv(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value if key == "_i" else str(value) for key, value in row.items()}


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("kind", "protocol", "streaming", "parallel_size", "batch_size", "async_mode"),
    pairwise(list(KINDS), ["jsonl", "csv", "memory"], [True, False], [1, 4], [1, 7], [True, False]),
)
def test_every_mode_gives_the_same_rows_under_the_same_ids(
    bench: Bench, kind: str, protocol: str, streaming: bool, parallel_size: int, batch_size: int, async_mode: bool
) -> None:
    """M5, M10, M11, M12, M14: modes decide how fast, never what."""
    rows = numbered(50)
    bench.give(rows)
    style, fate = KINDS[kind]
    report = bench.pipeline(
        [operator(style, fate), operator("item", children)],
        streaming=streaming,
        parallel_size=parallel_size,
        batch_size=batch_size,
        writer_config={"async_mode": async_mode},
        default_protocol=f"{protocol}://",
    ).run()
    expected = modelled(rows, [fate, children])
    assert bag(lines(bench.output)) == bag(expected)
    assert report.status == Status.COMPLETED
    first, last = report.nodes
    made = len(modelled(rows, [fate]))
    assert (first.rows_in, first.rows_out, last.rows_in, last.rows_out) == (50, made, made, len(expected))
    assert bench.is_sealed()


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("style", "async_mode", "streaming", "batch_size"), pairwise(STYLES, [True, False], [True, False], [1, 7])
)
def test_ordered_nodes_give_their_rows_in_input_order(
    bench: Bench, style: str, async_mode: bool, streaming: bool, batch_size: int
) -> None:
    """M10: `ordered=True` releases rows in input order, however late some of them come."""
    rows = numbered(60)
    bench.give(rows)
    naps = random.Random(5)
    bench.pipeline(
        [operator(style, no_thirds, naps=naps), operator("item", children, naps=naps)],
        streaming=streaming,
        parallel_size=4,
        batch_size=batch_size,
        ordered=True,
        writer_config={"async_mode": async_mode},
    ).run()
    found = lines(bench.output)
    if style == "flat batch":  # the operator itself turns its batches round
        assert bag(found) == bag(modelled(rows, [no_thirds, children]))
    else:
        assert found == modelled(rows, [no_thirds, children])


def test_one_node_may_keep_the_order_while_another_does_not(bench: Bench) -> None:
    """M10: `ordered` may be set for a node alone."""
    rows = numbered(60)
    bench.give(rows)
    pipeline = bench.pipeline([operator("item", double, naps=random.Random(1))], parallel_size=8)
    pipeline.create("a", node_configs=[{"ordered": True}]).run()
    assert lines(bench.output) == modelled(rows, [double])


@pytest.mark.parametrize("streaming", [True, False])
def test_input_and_output_may_be_csv(bench: Bench, streaming: bool) -> None:
    """M16, M19: CSV in, CSV between, CSV out; cells with commas, quotes and newlines survive."""
    text = ["plain", "with, comma", 'with "quotes"', "two\nlines", "", "crlf\r\nin a cell", "ünï", "007", " padded "]
    given = bench.folder / "in.csv"
    given.write_bytes(
        b"id,text\n" + b"".join(f'{n},"{cell}"\n'.encode() for n, cell in enumerate(t.replace('"', '""') for t in text))
    )
    output = f"csv://{bench.folder / 'out.csv'}"
    bench.pipeline(
        [operator("item", lambda row: row, name="a"), operator("batch", lambda row: row, name="b")],
        input_uri=f"csv://{given}",
        output_uri=output,
        default_protocol="csv://",
        streaming=streaming,
        batch_size=3,
    ).run()
    assert bag(stored(output)) == bag({"_i": n, "id": str(n), "text": cell} for n, cell in enumerate(text))


@pytest.mark.parametrize("streaming", [True, False])
def test_everything_may_be_in_memory(bench: Bench, streaming: bool) -> None:
    """M16: `memory://` in, between and out."""
    MemoryStream("memory://test-in", rows=numbered(100))
    target = MemoryStream("memory://test-out")
    target.delete()
    try:
        bench.pipeline(
            [operator("item", double), operator("item", children)],
            input_uri="memory://test-in",
            output_uri="memory://test-out",
            default_protocol="memory://",
            streaming=streaming,
            parallel_size=3,
        ).run()
        assert bag(target.rows()) == bag(modelled(numbered(100), [double, children]))
    finally:
        target.delete()
        MemoryStream("memory://test-in").delete()


def test_nodes_may_differ_in_everything(bench: Bench) -> None:
    """M4: `node_configs` overrides batch size, parallel size, writer and URIs of one node."""
    rows = numbered(200)
    bench.give(rows)
    middle = f"csv://{bench.folder / 'elsewhere' / 'middle.csv'}"
    pipeline = bench.pipeline([operator("batch", double), operator("item", children)], streaming=True).create(
        "mixed",
        node_configs=[
            {"batch_size": 7, "parallel_size": 3, "output_uri": middle, "writer_config": {"flush_batch_size": 1}},
            {"batch_size": 2, "ordered": True},
        ],
    )
    pipeline.run()
    assert bag(lines(bench.output)) == bag(modelled(rows, [double, children]))
    assert bag(stored(middle)) == bag(map(of_csv, modelled(rows, [double])))
    nodes = bench.run_state("mixed")["nodes"]
    assert [node["output_uri"] for node in nodes] == [middle, f"jsonl://{bench.output}"]
    assert [(node["batch_size"], node["parallel_size"]) for node in nodes] == [(7, 3), (2, 1)]


@pytest.mark.slow
def test_tiny_queues_and_flushes_lose_nothing(bench: Bench) -> None:
    """M20: a queue of one row is slow and right."""
    rows = numbered(300)
    bench.give(rows)
    bench.pipeline(
        [operator("item", children), operator("async item", children)],
        streaming=True,
        parallel_size=4,
        batch_size=2,
        writer_config={"queue_size": 1, "flush_batch_size": 1},
    ).run()
    assert bag(lines(bench.output)) == bag(modelled(rows, [children, children]))


def test_a_batch_larger_than_the_queue_goes_through(bench: Bench) -> None:
    """M20: `queue_size` smaller than what one batch makes does not block for ever."""
    rows = numbered(40)
    bench.give(rows)
    bench.pipeline(
        [operator("batch", lambda row: [row] * 100, name="many")],
        parallel_size=3,
        batch_size=20,
        writer_config={"queue_size": 5},
    ).run()
    assert len(lines(bench.output)) == 4000


def test_ten_nodes_trace_every_row_to_its_line(bench: Bench) -> None:
    """M14 (13.1 of the manual): ids pass through ten operators."""
    rows = numbered(30)
    bench.give(rows)
    fates: list[Fate] = [double, children, double, no_thirds, double, children, double, double, no_thirds, double]
    bench.pipeline([operator("item", fate) for fate in fates], streaming=True, parallel_size=2).run()
    found = lines(bench.output)
    assert bag(found) == bag(modelled(rows, fates))
    assert all(0 <= int(str(row["_i"]).split("_")[0]) < 30 for row in found)


def test_plain_functions_and_builtins_are_operators(bench: Bench) -> None:
    """M11: a function of one item, with or without ctx, is an operator."""
    write_jsonl(bench.input, ["a", "b"])
    bench.pipeline([str.upper, lambda item: item + "!", lambda item, ctx: f"{item}{ctx.node_id}"]).run()
    assert lines(bench.output) == [{"_i": 0, "data": "A!node_2"}, {"_i": 1, "data": "B!node_2"}]
