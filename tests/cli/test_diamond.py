"""The commands that look at a run, of one that splits and merges (M31)."""

from __future__ import annotations

import json

import pytest

from ..kit.support import lines
from .conftest import Command
from .shell import Shell

DIAMOND = """
    from llm_datagen import UnifiedNode, UnifiedNodePipeline
    from ops import picky

    def name(item):
        return "odd" if item["n"] % 2 else "even"

    def node(name, source, output, operator, **settings):
        return UnifiedNode(name, on_error="dead_letter", **settings).bind_io(source, output).set_operator(operator)

    split = UnifiedNode("split", follow_input=False).set_operator(lambda item: item)
    split.bind_io("in.jsonl", {"odd": "jsonl://odd.jsonl", "even": "jsonl://even.jsonl"}, route=name)
    pipeline = UnifiedNodePipeline([
        split,
        node("left", "odd.jsonl", "jsonl://left.jsonl", picky),
        node("right", "even.jsonl", "csv://right.csv", lambda item: [item, item]),
        node("both", {"left": "left.jsonl", "right": "right.csv"}, "jsonl://out.jsonl", lambda item: item),
    ])
"""


@pytest.mark.slow
def test_a_diamond_is_described_run_looked_at_and_replayed(shell: Shell, command: Command) -> None:
    """C1: what is not there yet, what failed in a branch, and what came of it in the end, behind the merge."""
    shell.text(DIAMOND, "diamond.py")
    drawn = command("describe", "diamond:pipeline").stdout
    assert "↓ both.merge [left], below\n" in drawn
    assert "↓ both.merge [right]: merge(left, right) " in drawn
    command("run", "diamond:pipeline", "--id", "a")
    assert "  both.merge merge(left, right): completed, 70/70 rows" in command("status", "a").stdout
    told = {node["node_id"]: node for node in json.loads(command("verify", "a", "--json").stdout)["nodes"]}
    counts = told["left"]["dead"], told["right"]["rows_out"], told["both.merge"]["kept"], told["both"]["kept"]
    assert counts == (5, 50, 70, 70)
    assert "left picky: ValueError, 4 rows" in command("errors", "a").stdout
    up = command("trace", "a", "4_1").stdout.splitlines()
    assert [line for line in up if " both" in f" {line}"] == [
        "both.merge merge(left, right)  jsonl://out.jsonl.merged",
        "both <lambda>  jsonl://out.jsonl",
    ]
    assert sum(line.startswith("  ancestor  4    {") for line in up) == 3
    assert "DEAD LETTER: ValueError" in command("trace", "a", "7").stdout
    assert "  both.merge: completed" in command("logs", "a", "--summary").stdout
    shell.mend()
    command("replay", "a")
    assert "nothing is wrong" in command("verify", "a").stdout
    found = json.loads(command("trace", "a", "7", "--json").stdout)["found"]
    assert [(row["where"], row["state"]) for row in found[-3:]] == [
        ("left", "row"),
        ("both.merge", "row"),
        ("both", "row"),
    ]
    assert sorted(int(row["n"]) for row in lines(shell.output)) == sorted(
        [*range(1, 50, 2), *range(0, 50, 2), *range(0, 50, 2)]
    )
