"""`llm-datagen compare`: rows of the end of an input, whose ids only count them, are compared by what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Command
from .shell import Shell

OPERATORS = '''

class TheSameAtTheEnd(BaseOperator):
    """Gives its rows at the end, and does not say of which rows each is made."""

    stateful = True

    def setup(self):
        self.seen = []

    def process_item(self, item, ctx):
        self.seen.append(item["k"])

    def finish(self, ctx):
        return [{"k": k} for k in self.seen]


class SourcesAtTheEnd(BaseOperator):
    """Gives two equal rows that stand for the same rows, and one that stands for another."""

    def process_item(self, item, ctx):
        return None

    def finish(self, ctx):
        return [{"x": 1, "_sources": [1, 2]}, {"x": 1, "_sources": [1, 2]}, {"x": 9, "_sources": [7]}]


class Twice(BaseOperator):
    """Gives all rows of a batch, and new ones that are equal."""

    def process_batch(self, items, ctx):
        return [*items, *({"x": item["x"], "_sources": item["_sources"]} for item in items)]


def marked(item):
    return {**item, "mark": 1}


def halves(item, sign=1):
    return [{**item, "half": half * sign} for half in (0, 1)]
'''

GROUPS = [
    {"use": "ops.Keep", "with": {"condition": "k != 'z'"}},
    {"use": "ops.GroupBy", "with": {"by": "k", "collect": ["n"]}},
]


def _groups(shell: Shell, *keys: str) -> None:
    rows = [{"k": key, "n": n} for n, key in enumerate("abcd" * 2)]
    (shell.folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows if row["k"] in keys))


def test_rows_of_the_end_of_an_input_are_compared_by_what_they_are(shell: Shell, command: Command) -> None:
    """The groups b, c and d are the same ones, though each is at another place in the second version."""
    _groups(shell, *"abcd")
    command("run", shell.yaml(GROUPS), "--id", "g")
    shell.yaml([{"use": "ops.Keep", "with": {"condition": "k != 'a'"}}, GROUPS[1]])
    command("resume", "g", "--rerun")
    told = command("compare", "g@1", "g").output
    assert "3 the same, 0 changed, 1 only in g@1, 0 only in g" in told
    assert "numbered, not named: those that stand for the same rows (_sources), or are equal" in " ".join(told.split())
    compared: dict[str, Any] = json.loads(command("compare", "g@1", "g", "--json").output)
    assert [(row["kind"], row["a"]["k"]) for row in compared["rows"]] == [("a", "a")]
    same = json.loads(command("compare", "g@1", "g", "--json", "--only", "same").output)["rows"]
    assert [(row["id"], row["a"]["k"], row["b"]["k"]) for row in same] == [
        ("end_1", "b", "b"),
        ("end_2", "c", "c"),
        ("end_3", "d", "d"),
    ]


def test_a_row_of_the_end_that_differs_is_in_one_run_only_and_equal_ones_are_counted(
    shell: Shell, command: Command, tmp_path: Path
) -> None:
    for name, values in (("a", [1, 1, 1, 2]), ("b", [1, 1, 3])):
        (tmp_path / "in.jsonl").write_text("".join(f'{{"k": {n}}}\n' for n in values))
        command("run", shell.yaml(["ops:TheSameAtTheEnd"], f"{name}.yaml"), "--id", name, "--output", f"{name}.jsonl")
    told = command("compare", "a", "b").output
    assert "a (4 rows of node_0) and b (3 rows of node_0): 2 the same, 0 changed, 2 only in a, 1 only in b" in told
    assert "no id is in both" not in told


def test_equal_rows_of_the_end_are_counted_whatever_they_stand_for(shell: Shell, command: Command) -> None:
    """Some stand for the same rows, and others, which a batch has made, for none."""
    (shell.folder / "in.jsonl").write_text('{"k": 1}\n')
    for name in "ab":
        file = shell.yaml(["ops:SourcesAtTheEnd", {"use": "ops:Twice"}], f"{name}.yaml", batch_size=10)
        command("run", file, "--id", name, "--output", f"{name}.jsonl")
    told = command("compare", "a", "b").output
    assert "a (6 rows of node_1) and b (6 rows of node_1): 6 the same, 0 changed, 0 only in a, 0 only in b" in told


@pytest.mark.slow
def test_rows_of_the_end_that_stand_for_the_same_rows_are_one_row_that_has_changed(
    shell: Shell, command: Command
) -> None:
    """An edit behind the groups changes each; what a child of a group is called counts as it does for other rows."""
    _groups(shell, *"abcd")
    command("run", shell.yaml([*GROUPS, {"use": "ops:halves"}]), "--id", "g")
    shell.yaml(
        [{"use": "ops.Keep", "with": {"condition": "k != 'a'"}}, GROUPS[1], {"use": "ops:halves", "with": {"sign": 2}}]
    )
    command("resume", "g", "--rerun")
    assert "3 the same, 3 changed, 2 only in g@1, 0 only in g" in command("compare", "g@1", "g").output
    changed = json.loads(command("compare", "g@1", "g", "--json", "--only", "changed").output)["rows"]
    assert [(row["columns"], row["a"]["k"], row["b"]["k"]) for row in changed] == [(["half"], k, k) for k in "bcd"]


@pytest.mark.slow
def test_rows_of_the_end_of_rows_of_an_end_are_compared_without_their_numbers(shell: Shell, command: Command) -> None:
    """The rows of the second node stand for end_0, end_1, …, which are others in each version."""
    _groups(shell, *"abcd")
    last = {"use": "ops.Shuffle"}
    command("run", shell.yaml([*GROUPS, last]), "--id", "g")
    shell.yaml([{"use": "ops.Keep", "with": {"condition": "k != 'a'"}}, GROUPS[1], last])
    command("resume", "g", "--rerun")
    assert "3 the same, 0 changed, 1 only in g@1, 0 only in g" in command("compare", "g@1", "g").output


@pytest.fixture(autouse=True)
def operators(shell: Shell) -> None:
    """Operators for these tests."""
    with (shell.folder / "ops.py").open("a") as file:
        file.write(OPERATORS)
