"""Inputs that were edited in the file of a run: rows that were added are done; nothing that is not used is silent."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_datagen import Generate
from llm_datagen.runs import RunFolder

from ..kit.support import lines, write_jsonl
from .conftest import Command

SPEC: dict[str, Any] = {"topic": ["birds", "trees"], "level": [1, 2]}
STEP: dict[str, Any] = {"use": "ops.Choose", "with": {"column": "c", "values": {"x": 1}}}

Given = Callable[..., None]
"""Writes the file of the run, and what it reads, with so many rows; other settings of the input may be given."""


def _line(n: int | None, **changed: Any) -> None:
    given = {"generate": SPEC, "n": n, "seed": 7, **changed}
    _write({"input": given, "operators": [STEP], "streaming": n is None})


def _graph(n: int | None, generate: Any = None, seed: int = 7) -> None:
    Path("spec.json").write_text(json.dumps({"rows": generate or SPEC, "n": n, "seed": seed}))
    _write({"input_uri": "generate://spec.json", "nodes": {"a": {**STEP, "from": "input", "to": "output"}}})


def _cycle(n: int, uri: str = "s.jsonl") -> None:
    _write({"input": {"cycle": uri, "n": n}, "operators": [STEP]})


def _cycle_in_graph(n: int) -> None:
    nodes = {"a": {**STEP, "from": "input", "to": "output"}}
    _write({"input_uri": f"cycle://s.jsonl?n={n}", "nodes": nodes})


def _merged(n: int) -> None:
    """A node that reads two inputs, one of them a cycle."""
    node = {**STEP, "from": [f"cycle://s.jsonl?n={n}", "t.jsonl"], "to": "output"}
    _write({"nodes": {"a": node}})


def _write(content: dict[str, Any]) -> None:
    Path("p.yaml").write_text(yaml.safe_dump({"output_uri": "out.jsonl", "log_file": None, **content}))


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path) -> None:
    """Two files of rows."""
    write_jsonl(tmp_path / "s.jsonl", [{"n": 1}, {"n": 2}])
    write_jsonl(tmp_path / "t.jsonl", [{"n": 3}])


@pytest.mark.sampled(1)
@pytest.mark.parametrize("given", [_line, _graph, _cycle, _cycle_in_graph, _merged])
def test_a_larger_n_is_rows_that_were_added(given: Given, command: Command, tmp_path: Path) -> None:
    given(30)
    command("run", "p.yaml", "--id", "a")
    first = {str(row["_i"]): row for row in lines(tmp_path / "out.jsonl")}
    given(90)
    shown = command("diff", "a").output
    assert f"kept         {len(first)}     60" in shown
    assert shown.splitlines()[-1] == "to do it: llm-datagen resume a"
    told = "its input has other bounds: n 30 → 90"
    assert (told in " ".join(command("resume", "a").output.split())) == (told in shown)
    rows = {str(row["_i"]): row for row in lines(tmp_path / "out.jsonl")}
    assert len(rows) == len(first) + 60
    assert first.items() <= rows.items()
    assert "nothing is wrong" in command("verify", "a").output
    assert command("diff", "a").output.splitlines()[-1] == "there is nothing to do"
    if given in (_line, _graph):
        drawn = Generate(SPEC, seed=7)
        assert [row["topic"] for row in rows.values()] == [drawn.row(number)["topic"] for number in range(90)]


def test_rows_are_added_to_a_run_that_missed_its_target(command: Command, tmp_path: Path) -> None:
    """As "stop at n rows" says: add rows to the input, and resume."""
    keep = {"use": "ops.Keep", "with": {"condition": 'topic == "birds"'}}

    def give(n: int | None) -> None:
        given = {"generate": SPEC, "n": n, "seed": 7}
        _write({"input": given, "operators": [keep], "target": 50, "streaming": True})

    give(30)
    command("run", "p.yaml", "--id", "a", code=4)
    give(None)
    assert "* node_0: its input has other bounds: n 30 → no end" in command("diff", "a").output
    command("resume", "a")
    assert len(lines(tmp_path / "out.jsonl")) == 50


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("given", "changed", "error"),
    [
        (_line, {"n": 30, "seed": 8}, "input was edited since the run was made (seed)"),
        (
            _line,
            {"n": 90, "generate": {**SPEC, "level": [1, 3]}},
            "input was edited since the run was made (column 'level')",
        ),
        (_line, {"n": 30, "generate": [{"topic": "birds"}]}, "column 'topic', rows)"),
        (_line, {"n": 20}, "with n=20 there are 20 rows, and 30 were read"),
        (_graph, {"n": 30, "seed": 8}, "spec.json was edited since the run was made (seed)"),
        (
            _graph,
            {"n": 90, "generate": {**SPEC, "more": 1}},
            "spec.json was edited since the run was made (column 'more')",
        ),
        (_graph, {"n": 20}, "spec.json: with n=20 there are 20 rows, and 30 were read"),
        (_cycle, {"n": 20}, "s.jsonl: with n=20 there are 20 rows, and 30 were read"),
        (_cycle_in_graph, {"n": 20}, "s.jsonl: with n=20 there are 20 rows, and 30 were read"),
    ],
)
def test_any_other_edit_is_named_and_refused_by_diff_and_resume(
    given: Given, changed: dict[str, Any], error: str, command: Command, tmp_path: Path
) -> None:
    given(30)
    command("run", "p.yaml", "--id", "a")
    before = (tmp_path / "tmp/results/a/runtime.json").read_bytes()
    given(**changed)
    for verb in ("diff", "resume"):
        assert error in " ".join(command(verb, "a", code=1).output.split())
    assert (tmp_path / "tmp/results/a/runtime.json").read_bytes() == before
    assert len(lines(tmp_path / "out.jsonl")) == 30


@pytest.mark.parametrize("given", [_cycle, _cycle_in_graph, _merged])
@pytest.mark.parametrize("rows", [[{"n": 1}, {"n": 2}, {"n": 4}], [{"n": 1}]], ids=["more", "fewer"])
def test_a_cycled_file_of_another_length_is_refused_before_anything_is_changed(
    given: Given, rows: list[dict[str, Any]], command: Command, tmp_path: Path
) -> None:
    _times(given, 2)
    command("run", "p.yaml", "--id", "a")
    before = _contents(tmp_path)
    write_jsonl(tmp_path / "s.jsonl", rows)
    for verb in ("diff", "resume"):
        assert f"has {len(rows)} rows, and had 2" in " ".join(command(verb, "a", code=1).output.split())
    write_jsonl(tmp_path / "s.jsonl", [{"n": 1}, {"n": 2}])
    assert _contents(tmp_path) == before
    assert command("diff", "a").output.splitlines()[-1] == "there is nothing to do"


@pytest.mark.parametrize("given", [{"generate": SPEC, "n": 3}, [{"n": 1}]], ids=["generated", "rows"])
def test_a_run_of_several_inputs_is_no_run_of_a_line(given: Any, command: Command) -> None:
    _merged(3)
    command("run", "p.yaml", "--id", "a")
    _write({"input": given, "operators": [STEP]})
    for verb in ("diff", "resume"):
        assert "is not a stream of a UnifiedPipeline" in command(verb, "a", "p.yaml", code=2).output


def test_more_rounds_of_a_file_that_is_gone_are_refused(command: Command, tmp_path: Path) -> None:
    _times(_cycle, 2)
    command("run", "p.yaml", "--id", "a")
    seeds = (tmp_path / "s.jsonl").rename(tmp_path / "elsewhere")
    _times(_cycle, 3)
    for verb in ("diff", "resume"):
        assert "s.jsonl does not exist, and other rows of it are wanted" in command(verb, "a", code=1).output
    seeds.rename(tmp_path / "s.jsonl")
    command("resume", "a")
    assert len(lines(tmp_path / "out.jsonl")) == 6


def _times(given: Given, times: int) -> None:
    """Have the file read so many times, in the place of so many rows."""
    given(0)
    text = Path("p.yaml").read_text()
    Path("p.yaml").write_text(text.replace("n: 0", f"times: {times}").replace("n=0", f"times={times}"))


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nodes_that_wait_for_an_end_are_refused_one_that_is_taken_away(command: Command) -> None:
    content: dict[str, Any] = {
        "operators": [STEP, {**STEP, "with": {"column": "d", "values": {"x": 1}}}],
        "streaming": False,
    }
    _write({"input": {"generate": SPEC, "n": 5}, **content})
    command("run", "p.yaml", "--id", "a")
    _write({"input": {"generate": SPEC}, **content})
    for verb in ("diff", "resume"):
        assert "the input has no end" in " ".join(command(verb, "a", code=2).output.split())


def test_a_rerun_reads_the_rows_that_were_added(command: Command, tmp_path: Path) -> None:
    """What the run state notes of the input outlives an edit of the steps."""
    _cycle(4)
    command("run", "p.yaml", "--id", "a")
    _cycle(6)
    command("resume", "a")
    more = {"use": "ops.Choose", "with": {"column": "d", "values": {"y": 1}}}
    _write({"input": {"cycle": "s.jsonl", "n": 6}, "operators": [STEP, more]})
    command("resume", "a", "--rerun")
    assert [(row["_i"], row["d"]) for row in lines(tmp_path / "out.jsonl")] == [(number, "y") for number in range(6)]
    assert "nothing is wrong" in command("verify", "a").output


def test_a_larger_n_and_a_new_step_go_together_in_a_graph(command: Command, tmp_path: Path) -> None:
    def give(n: int, *nodes: str) -> None:
        streams = ["input", *(f"mid_{name}.jsonl" for name in nodes[:-1]), "output"]
        wired = {
            name: {"use": "ops.Choose", "with": {"column": name, "values": {"x": 1}}, "from": source, "to": target}
            for name, source, target in zip(nodes, streams, streams[1:], strict=False)
        }
        _write({"input_uri": f"cycle://s.jsonl?n={n}", "nodes": wired})

    give(4, "a", "b")
    command("run", "p.yaml", "--id", "a")
    give(6, "a", "b", "c")
    shown = [line.split()[2:5] for line in command("diff", "a").output.splitlines()[1:4]]
    assert [(what, kept) for what, kept, _ in shown] == [("kept", "4"), ("kept", "4"), ("new", "0")]
    command("resume", "a", "--rerun")
    assert [(row["_i"], row["c"]) for row in lines(tmp_path / "out.jsonl")] == [(number, "x") for number in range(6)]
    assert "nothing is wrong" in command("verify", "a").output


def test_a_run_of_an_earlier_version_knows_its_spec_by_its_bytes(command: Command, tmp_path: Path) -> None:
    _graph(30)
    command("run", "p.yaml", "--id", "a")
    folder = RunFolder(str(tmp_path / "tmp/results"), "a")
    state = folder.load()
    data = Path("spec.json").read_bytes()
    state["nodes"][0]["input_fingerprint"] = [len(data), zlib.crc32(data)]
    folder.lock.acquire()
    folder.save(state)
    folder.lock.release()
    assert command("diff", "a").output.splitlines()[-1] == "there is nothing to do"
    command("resume", "a")
    _graph(90)
    assert "spec.json was edited" in " ".join(command("resume", "a", code=1).output.split())


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"input_uri": "s.jsonl"}, {"input_uri": "t.jsonl"}, "the code gives 't.jsonl', which is not used"),
        ({"input_uri": "s.jsonl"}, {"input": {"cycle": "s.jsonl", "n": 9}}, "the code gives 'cycle://s.jsonl?n=9'"),
        ({"input": {"cycle": "s.jsonl", "n": 9}}, {"input": {"cycle": "t.jsonl", "n": 9}}, "'cycle://t.jsonl?n=9'"),
        ({"input": {"cycle": "s.jsonl", "n": 9}}, {"input": {"generate": SPEC, "n": 9}}, "the code gives input=…"),
        ({"input_uri": "s.jsonl"}, {"input": [{"n": 1}]}, "the code gives input=…, which is not used"),
        ({"input": [{"n": 1}]}, {"input_uri": "s.jsonl"}, "the code gives 's.jsonl', which is not used"),
        ({"input": [{"n": 1}]}, {"input": [{"n": 2}]}, "the code gives others, not used"),
        ({"input": [{"n": 1}]}, {"input": [{"n": 1}, {"n": 2}]}, "the code gives others, not used"),
        ({"input": [{"n": 1}, {"n": 2}]}, {"input": [{"n": 1}]}, "the code gives others, not used"),
        ({"input_uri": "q.parquet?columns=n"}, {"input_uri": "q.parquet?columns=m"}, "gives 'q.parquet?columns=m'"),
        (
            {"input_uri": "in.csv"},
            {"input_uri": "in.csv", "data_config": {"separator": ";"}},
            "data_config['separator']",
        ),
    ],
)
def test_an_input_that_is_not_used_is_told_of_a_completed_run(
    before: dict[str, Any], after: dict[str, Any], told: str, command: Command, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "in.csv").write_text("n,m\n1,2\n")
    pq.write_table(pa.table({"n": [1, 2], "m": [3, 4]}), tmp_path / "q.parquet")
    _write({"operators": [STEP], **before})
    command("run", "p.yaml", "--id", "a")
    for verb in ("diff", "resume"):
        assert "not used" not in command(verb, "a").output
    _write({"operators": [STEP], **after})
    for verb in ("diff", "resume"):
        assert told in " ".join(command(verb, "a").output.split())
