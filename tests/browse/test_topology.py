"""One list of a run's streams: the page, browsing and the report name the same streams, of the same kinds."""

from __future__ import annotations

from typing import Any

from llm_datagen import UnifiedNode, UnifiedNodePipeline
from llm_datagen.runs.browse.run_streams import streams_of_run
from llm_datagen.runs.report.facts import streams_of_state
from llm_datagen.runs.topology import wired_streams
from llm_datagen.web.stream_view import ROWS, streams_of

from ..kit.support import Bench, numbered, write_jsonl


def _nodes(bench: Bench) -> list[UnifiedNode]:
    at = f"jsonl://{bench.folder}"
    write_jsonl(bench.folder / "side.jsonl", numbered(2))
    joins = [
        ("first", f"{at}/in.jsonl", f"{at}/one.jsonl"),
        ("second", f"{at}/side.jsonl", f"{at}/two.jsonl"),
        ("third", f"{bench.folder}/one.jsonl", f"{at}/three.jsonl"),
    ]
    return [
        UnifiedNode(name, keep_rejected=name == "second").bind_io(*ends).set_operator(lambda row: row)
        for name, *ends in joins
    ]


def test_all_lists_have_the_same_streams(bench: Bench) -> None:
    bench.give(numbered(3))
    UnifiedNodePipeline(_nodes(bench), results_dir=bench.results, log_file=None).create("a")
    state: dict[str, Any] = bench.run_state("a")
    expected = [
        ("input:0", "input", ["first"]),
        ("input:1", "input", ["second"]),
        ("first", "between", ["third"]),
        ("second", "output", []),
        ("third", "output", []),
    ]
    wired = wired_streams(state["nodes"])
    assert [(each.key, each.kind, [reader["node_id"] for reader in each.readers]) for each in wired] == expected
    shown = streams_of(state["nodes"])
    assert [(each.key.removesuffix(ROWS), each.kind, list(each.readers)) for each in shown] == expected
    browsed = [each for each in streams_of_run(state) if each.kind not in {"dead_letters", "rejected"}]
    assert [(each.key, each.kind) for each in browsed] == [(key, kind) for key, kind, _ in expected]
    told = streams_of_state(state, {})
    assert [each.kind for each in told] == [kind for _, kind, _ in expected]
    assert [each.key for each in told] == ["input 1", "input 2", "first", "second", "third"]


def test_streams_that_a_rerun_has_yet_to_take_away_leave_the_keys_of_the_others_as_they_are(bench: Bench) -> None:
    bench.give(numbered(3))
    UnifiedNodePipeline(_nodes(bench), results_dir=bench.results, log_file=None).create("a")
    state = bench.run_state("a")
    assert [each.key for each in streams_of_run(state) if each.kind == "input"] == ["input:0", "input:1"]
    rerun = {**state, "reset": {"delete": [state["nodes"][0]["input_uri"]], "move": []}}
    assert [each.key for each in streams_of_run(rerun)] == [
        "input:1", "second", "second:dead_letters", "second:rejected", "third", "third:dead_letters",
    ]  # fmt: skip
