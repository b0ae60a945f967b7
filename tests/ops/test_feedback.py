"""`Feedback`: what a later node has accepted is shown to an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, Generate, Route, StopRun, UnifiedNode, UnifiedNodePipeline, ops
from llm_datagen.cli.target import find_target
from llm_datagen.errors import RowDataError
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.committed_rows import CommittedRows

from ..kit.support import Bench, lines, numbered, write_jsonl
from .calls import Context


def same(row: Any) -> Any:
    return row


def third(row: Any) -> Any:
    return {**row, "square": row["n"] ** 2} if row["n"] % 3 == 0 else None


STREAMING: dict[str, Any] = {"streaming": True, "max_lead": 1}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("uri", ["out.jsonl", "out.csv", "out.jsonl.gz", "memory://feedback"])
def test_rows_that_the_last_node_has_committed_are_drawn(bench: Bench, uri: str) -> None:
    bench.give(numbered(90))
    uri = uri if "://" in uri else str(bench.folder / uri)
    settings = {**STREAMING, "output_uri": uri}
    feedback = ops.Feedback(k=2, columns=["n"])
    bench.pipeline([feedback, third, ops.Drop("square")], **settings).create("a").run()
    drawn = lines(bench.between("a"))
    shown = [[int(row["n"]) for row in row["examples"]] for row in drawn]
    assert [len(numbers) for numbers in shown[:1]] == [0]
    assert all(len(set(numbers)) == len(numbers) == 2 for numbers in shown[15:])
    for row, numbers in zip(drawn, shown, strict=True):
        assert all(number % 3 == 0 and number < row["n"] for number in numbers), "accepted before"
    assert len({number for numbers in shown for number in numbers}) > 12, "from all of them"
    with_tail = [row for row in shown if row and max(row) > 70]
    assert with_tail, "also the newest"


def test_all_columns_but_those_of_bookkeeping_are_shown(bench: Bench) -> None:
    bench.give(numbered(30))
    bench.pipeline([ops.Feedback(k=1), third], **STREAMING).create("a").run()
    shown = [row["examples"][0] for row in lines(bench.between("a")) if row["examples"]]
    assert shown
    assert all(set(row) == {"n", "square"} and row["square"] == row["n"] ** 2 for row in shown)


@pytest.mark.slow
def test_a_node_in_the_middle_is_named_by_its_id_or_its_operator(bench: Bench) -> None:
    bench.give(numbered(60))
    for of in ("node_1", "third"):
        settings = {**STREAMING, "output_uri": str(bench.folder / f"{of}.jsonl")}
        pipeline = bench.pipeline([ops.Feedback(of, k=3, columns="square"), third, ops.Keep("n < 0")], **settings)
        assert pipeline.create(of).run().rows_out == 0
        shown = {each["square"] for row in lines(bench.between(of)) for each in row["examples"]}
        assert len(shown) > 5
        assert shown <= {n**2 for n in range(0, 60, 3)}


def test_an_output_without_ids_feeds_the_rows_that_have_them(bench: Bench) -> None:
    bench.give(numbered(30))
    bench.pipeline([ops.Feedback(k=1), third], keep_ids=False, **STREAMING).create("a").run()
    assert any(row["examples"] for row in lines(bench.between("a")))


@pytest.mark.slow
def test_a_resume_keeps_what_was_drawn_and_goes_on_from_the_truth(bench: Bench) -> None:
    class Stop:
        version = "1"
        name = "stop"

        def __init__(self, at: int | None) -> None:
            self.at = at

        def process_item(self, item: Any, ctx: Any) -> Any:
            if item["_i"] == self.at:
                raise StopRun("enough")
            return item

    kept: list[Any] = []
    for at in (30, 60, None):
        operators = [ops.Feedback(k=2, columns="a"), Stop(at), same]
        settings = {**STREAMING, "input": Generate({"a": list(range(1000))}, n=90), "input_uri": None}
        report = bench.pipeline(operators, **settings).create("a", if_exists="resume").run()
        drawn = lines(bench.between("a"))
        assert drawn[: len(kept)] == kept
        kept = drawn
    assert report.status == "completed"
    made = {row["a"] for row in lines(bench.output)}
    assert {each["a"] for row in kept for each in row["examples"]} <= made
    assert len(kept) == 90


@pytest.mark.slow
def test_one_of_several_outputs_is_named_by_its_node(bench: Bench) -> None:
    bench.give(numbered(60))
    StreamFactory.create(str(bench.input)).seal()
    at = {name: str(bench.folder / f"{name}.jsonl") for name in ("drawn", "good", "bad")}

    def judge(row: Any) -> Any:
        return Route("good" if row["n"] % 2 else "bad", row)

    nodes = [
        UnifiedNode("draw", max_lead=1)
        .bind_io(str(bench.input), at["drawn"])
        .set_operator(ops.Feedback("judge.good", columns="n")),
        UnifiedNode("judge", max_lead=1)
        .bind_io(at["drawn"], {"good": at["good"], "bad": at["bad"]})
        .set_operator(judge),
    ]
    UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=None).create("a").run()
    shown = {each["n"] for row in lines(bench.folder / "drawn.jsonl") for each in row["examples"]}
    assert len(shown) > 8
    assert all(n % 2 for n in shown)


def drawn(feedback: ops.Feedback, accepted: list[Any], row: dict[str, Any]) -> list[Any]:
    """Return what is drawn, without a run."""
    ctx: Any = Context()
    ctx.feedback = accepted
    found: list[Any] = feedback.process_item(row, ctx)["examples"]
    return found


def test_seeds_come_first_and_the_last_rows_can_be_preferred() -> None:
    accepted = [{"n": n, "_i": n, "examples": ["old"]} for n in range(100)]
    seeds = [{"n": -1}, {"n": -2}]
    assert sorted(row["n"] for row in drawn(ops.Feedback(k=5, seeds=seeds), [], {"_i": 0})) == [-2, -1]
    every = [drawn(ops.Feedback(k=10, seeds=seeds), accepted, {"_i": i}) for i in range(200)]
    assert {row["n"] for rows in every for row in rows} == set(range(-2, 100))
    assert all(set(row) == {"n"} for rows in every for row in rows)
    newest = [drawn(ops.Feedback(k=10, seeds=seeds, last=20), accepted, {"_i": i}) for i in range(200)]
    assert {row["n"] for rows in newest for row in rows} == set(range(80, 100))
    assert every == [drawn(ops.Feedback(k=10, seeds=seeds), accepted, {"_i": i}) for i in range(200)]
    assert every != [drawn(ops.Feedback(k=10, seeds=seeds, seed=1), accepted, {"_i": i}) for i in range(200)]


@pytest.mark.parametrize(
    ("feedback", "accepted", "row", "error"),
    [
        (ops.Feedback(), [], {"examples": 1}, "a column 'examples' already"),
        (ops.Feedback(columns="m"), [{"n": 1}], {}, "no column 'm'"),
        (ops.Feedback(), [3], {}, "a bare value"),
    ],
)
def test_a_row_that_cannot_be_shown_fails(feedback: Any, accepted: Any, row: Any, error: str) -> None:
    with pytest.raises(RowDataError, match=error):
        drawn(feedback, accepted, {**row, "_i": 0})


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: ops.Feedback(""), "of must be the id of a node"),
        (lambda: ops.Feedback(k=0), "k must be a whole number from 1 on"),
        (lambda: ops.Feedback(last=0), "last must be"),
        (lambda: ops.Feedback(seeds={"a": 1}), "seeds must be a list of rows"),  # type: ignore[arg-type]
        (lambda: ops.Feedback(column="_i"), "column must be"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        make()


@pytest.mark.parametrize(
    ("operators", "settings", "error"),
    [
        ([ops.Feedback(), same], {"streaming": False}, "the nodes have to run at once: give streaming=True"),
        ([ops.Feedback("sane"), same], {}, "there is no such node; did you mean 'same'"),
        ([ops.Feedback("same"), same, same], {}, "node_1, node_2 have an operator of this name"),
        ([same, ops.Feedback()], {}, "Feedback draws from another node, and this is itself"),
        ([ops.Loop([ops.Feedback("a"), ops.Feedback("b")], max_rounds=1), same], {}, "there is no such node"),
    ],
)
def test_a_pipeline_in_which_nothing_can_be_fed_back_is_refused(
    bench: Bench, operators: Any, settings: Any, error: str
) -> None:
    bench.give(numbered(1))
    with pytest.raises(ConfigError, match=error):
        bench.pipeline(operators, **{"streaming": True, **settings}).create("a")
    assert not (bench.results / "a").exists()


def test_worker_processes_cannot_draw(bench: Bench) -> None:
    bench.give(numbered(1))
    with pytest.raises(ConfigError, match="has no access to rows of other nodes"):
        bench.pipeline([ops.Feedback(), same], streaming=True, node_configs=[{"executor": "process"}]).create("a")


def test_yaml_and_a_preview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(
        "operators:\n"
        "  - {use: ops.Feedback, with: {of: accept, k: 2, columns: n, seeds: [{n: -1}]}}\n"
        "  - {use: ops.Keep, with: {condition: n % 2 == 0}, name: accept}\n"
        "input_uri: in.jsonl\noutput_uri: out.jsonl\nlog_file: null\nstreaming: true\nmax_lead: 1\n"
    )
    write_jsonl(tmp_path / "in.jsonl", numbered(40))
    find_target("p.yaml").create("a", None).run(progress=False)
    shown = {each["n"] for row in lines(tmp_path / "out.jsonl") for each in row["examples"]}
    assert -1 in shown
    assert len(shown) > 5
    from typer.testing import CliRunner

    from llm_datagen.cli.app import app

    result = CliRunner().invoke(app, ["preview", "p.yaml", "-n", "3"])
    assert result.exit_code == 0, result.output
    assert '"n": -1' in result.output or '"n":-1' in result.output


def test_rows_are_known_as_far_as_they_are_committed(tmp_path: Path) -> None:
    stream = StreamFactory.create(str(tmp_path / "s.jsonl"))
    rows = CommittedRows(stream)
    rows.look()
    assert len(rows) == 0
    writer = stream.get_writer()
    for size in (3, 5000):
        writer.write([{"n": n, "text": "ä" * (n % 7)} for n in range(size)])
        rows.look()
    assert len(rows) == 5003
    assert [rows[number] for number in (0, 2, 3, 5002)] == [
        {"n": 0, "text": "", "_i": 0},
        {"n": 2, "text": "ää", "_i": 2},
        {"n": 0, "text": "", "_i": 3},
        {"n": 4999, "text": "ä", "_i": 5002},
    ]
    writer.close()
    rows.look()
    assert len(rows) == 5003
    rows.close()
