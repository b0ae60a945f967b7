"""A graph with a target whose output becomes another node."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ..kit.support import lines, numbered, write_jsonl
from .conftest import Command
from .shell import Shell


@pytest.mark.parametrize("rows", [200, 15])
def test_the_target_is_that_of_the_node_that_is_the_output_now(shell: Shell, command: Command, rows: int) -> None:
    write_jsonl(shell.folder / "in.jsonl", numbered(rows))
    head = {"target": 20, "input_uri": "in.jsonl", "output_uri": "out.jsonl", "pipeline_id": "a"}
    first: dict[str, Any] = {"from": "input", "use": "ops.Choose", "with": {"column": "c", "values": {"x": 1}}}
    last: dict[str, Any] = {"from": "first", "to": "output", "use": "ops.Limit", "with": {"n": 60}}
    (shell.folder / "two.yaml").write_text(yaml.safe_dump({**head, "nodes": {"first": first, "last": last}}))
    (shell.folder / "one.yaml").write_text(yaml.safe_dump({**head, "nodes": {"first": {**first, "to": "output"}}}))
    code = 0 if rows > 20 else 4
    command("run", "two.yaml", code=code)

    shown = command("diff", "a", "one.yaml").output
    assert ("first: it has 200 rows, and its target is 20 now" in shown) == (rows == 200)
    command("resume", "a", "one.yaml", "--rerun", code=code)
    assert [row["n"] for row in lines(shell.folder / "out.jsonl")] == list(range(min(rows, 20)))
    assert "nothing is wrong" in command("verify", "a").output
