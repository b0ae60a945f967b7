"""An output without `_i`, or with it under another name: rows with ids lie beside it, and nothing has to do without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    ConfigError,
    InputWarning,
    MemoryStream,
    NodeFailedError,
    OperatorChangedError,
    OperatorWarning,
    UnifiedPipeline,
)
from llm_datagen.operators.references import operators_of
from llm_datagen.runs.id_stripper import IdStripper
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify
from llm_datagen.testing import Fault, inject

from ..kit.support import Bench, bag, lines, numbered


def pair(row: Any) -> Any:
    """Return two rows of one, and values as they are."""
    return [{**row, "k": k} for k in range(2)] if isinstance(row, dict) else row


def same(row: Any) -> Any:
    """Return the row."""
    return row


PAIRS = [{"n": n, "k": k} for n in range(4) for k in range(2)]


def rows_of(bench: Bench) -> Path:
    """Return the file that has the ids."""
    return Path(f"{bench.output}.rows")


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_the_output_has_no_ids_and_the_rows_beside_it_do(bench: Bench, streaming: bool, executor: str) -> None:
    bench.give([*numbered(4), 5, {"data": 6}])
    pipeline = bench.pipeline([pair, same], keep_ids=False, streaming=streaming, executor=executor).create("a")
    report = pipeline.run()
    assert lines(bench.output) == [*PAIRS, {"data": 5}, {"data": 6, "k": 0}, {"data": 6, "k": 1}]
    assert [row["_i"] for row in lines(rows_of(bench))][:3] == ["0_0", "0_1", "1_0"]
    assert [(node.node_id, node.rows_out) for node in report.nodes] == [("node_0", 11), ("node_1", 11), ("export", 11)]
    assert bench.is_sealed()
    assert [account.findings for account in verify(bench.run_state("a"))] == [[], [], []]


def test_a_value_that_is_a_list_is_copied_as_it_is(bench: Bench) -> None:
    bench.give(numbered(2))
    bench.pipeline([lambda row: (row["n"], 5)], keep_ids=False).create("a").run()
    assert lines(bench.output) == [{"data": [0, 5]}, {"data": [1, 5]}]


def test_ids_stand_in_a_column_of_another_name(bench: Bench) -> None:
    bench.give([*numbered(2), 5])
    bench.pipeline([pair], id_column="row_id", id_scheme="text").create("a").run()
    ids = ["r0_0", "r0_1", "r1_0", "r1_1"]
    wanted = [{**row, "row_id": row_id} for row, row_id in zip(PAIRS, ids, strict=False)]
    assert lines(bench.output) == [*wanted, {"row_id": "r2", "data": 5}]


@pytest.mark.parametrize("given", [{"keep_ids": False}, {"id_column": "row_id"}])
def test_rows_of_csv_have_none_either(bench: Bench, given: dict[str, Any]) -> None:
    bench.give([{"q": 'a "b"\nc', "z": None}, {"q": "7", "z": ""}])
    out = bench.folder / "out.csv"
    bench.pipeline([same], output_uri=f"csv://{out}", **given).run()
    wanted = 'q,z\n"a ""b""\nc",\n7,\n' if "keep_ids" in given else 'q,z,row_id\n"a ""b""\nc",,0\n7,,1\n'
    assert out.read_text(encoding="utf-8") == wanted


def test_a_row_without_a_column_is_no_blank_line(bench: Bench) -> None:
    bench.give([{}, {"n": 1}])
    out = bench.folder / "out.csv"
    with pytest.raises(NodeFailedError, match="a row without any column cannot be written as CSV"):
        bench.pipeline([same], output_uri=f"csv://{out}", keep_ids=False).run()
    bench.pipeline([same], keep_ids=False).create(if_exists="overwrite").run()
    assert lines(bench.output) == [{}, {"n": 1}]


def test_rows_are_traced_through_it_and_dead_letters_are_found(bench: Bench) -> None:
    bench.give([*numbered(3), {"n": 3, "odd": "mine"}, {"n": "bad"}])
    out = bench.folder / "out.csv"

    def work(row: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**row, "n": row["n"] + 1}]

    bench.pipeline([work], output_uri=f"csv://{out}", id_column="row_id", on_error="skip").create("a").run()
    run_state = bench.run_state("a")
    assert [(one.where, one.row_id, one.relation, one.state) for one in trace(run_state, 1)] == [
        ("input", 1, "itself", "row"),
        ("node_0", "1_0", "descendant", "row"),
        ("export", "1_0", "descendant", "row"),
    ]
    assert [one.state for one in trace(run_state, "3_0")] == ["row", "row", "dead letter"]
    assert [one.state for one in trace(run_state, 4)] == ["row", "skipped"]
    assert [account.findings for account in verify(run_state)] == [[], []]
    (dead_letter,) = lines(Path(f"{out}.errors.jsonl"))
    assert dead_letter["_i"] == "3_0"
    assert "has the column 'odd', which the header lacks" in dead_letter["error"]["text"]


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_column_that_is_taken_fails_where_it_is_made_and_nothing_is_overwritten(
    bench: Bench, streaming: bool, executor: str
) -> None:
    """12: it was noticed when all rows had been made, and paid for."""
    bench.give([{"n": 0}, {"n": 1, "row_id": "mine"}, *({"n": n} for n in range(2, 40))])
    with pytest.raises(
        NodeFailedError, match=r"row 1 has a column 'row_id' already.*choose another id_column"
    ) as failed:
        bench.pipeline(
            [same, same], id_column="row_id", streaming=streaming, executor=executor, ordered=True, parallel_size=1
        ).create("a").run()
    assert failed.value.node_id == "node_1"
    assert lines(rows_of(bench)) == [{"n": 0, "_i": 0}]


def test_a_row_with_the_column_is_dead_lettered_by_the_node_that_made_it(bench: Bench) -> None:
    bench.give([{"n": 0}, {"n": 1, "row_id": "mine"}])
    bench.pipeline([same], id_column="row_id", on_error="dead_letter").create("a").run()
    assert lines(bench.output) == [{"n": 0, "row_id": 0}]
    (dead_letter,) = lines(Path(f"{rows_of(bench)}.errors.jsonl"))
    assert (dead_letter["_i"], dead_letter["input"]) == (1, {"n": 1, "row_id": "mine", "_i": 1})


def test_a_run_of_an_older_version_notices_it_when_rows_are_copied(bench: Bench) -> None:
    bench.give([{"n": 0}, {"n": 1, "row_id": "mine"}])
    bench.pipeline([same], id_column="row_id").create("a")
    run_state = bench.run_state("a")
    del run_state["nodes"][0]["kept_free"]
    bench.put_run_state("a", run_state)
    with pytest.raises(NodeFailedError, match=r"row 1 has a column 'row_id' already") as failed:
        bench.pipeline([same]).resume("a").run()
    assert failed.value.node_id == "export"
    assert lines(rows_of(bench)) == [{"n": 0, "_i": 0}, {"n": 1, "row_id": "mine", "_i": 1}]


@pytest.mark.filterwarnings("default")
def test_create_warns_when_the_first_row_of_the_input_has_the_column(bench: Bench) -> None:
    bench.give([{"n": 0, "row_id": "mine"}])

    def without(row: dict[str, Any]) -> dict[str, Any]:
        return {"n": row["n"]}

    with pytest.warns(
        OperatorWarning, match=r"in\.jsonl has a column 'row_id'.*take it out, or choose another"
    ) as told:
        pipeline = bench.pipeline([without], id_column="row_id").create("a")
    assert told[0].filename == __file__
    pipeline.run()
    assert lines(bench.output) == [{"n": 0, "row_id": 0}]
    assert [line["node_id"] for line in bench.log_lines() if line["event"] == "[Not Used]"] == ["export"]


def test_a_verify_counts_what_is_missing(bench: Bench) -> None:
    bench.give(numbered(3))
    bench.pipeline([same], keep_ids=False).create("a").run()
    bench.output.write_bytes(b"".join(bench.output.read_bytes().splitlines(keepends=True)[:2]))
    assert any(str(bench.output) in finding for finding in verify(bench.run_state("a"))[-1].findings)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("delivery", ["exactly_once", "at_most_once"])
@pytest.mark.parametrize("streaming", [True, False])
def test_dead_letters_are_replayed_into_it(bench: Bench, delivery: str, streaming: bool) -> None:
    bench.give(numbered(4))
    is_ill = True

    def work(row: dict[str, Any]) -> list[dict[str, Any]]:
        if is_ill and row["n"] == 2:
            raise ValueError
        return list(pair(row))

    settings: dict[str, Any] = {"keep_ids": False, "on_error": "dead_letter", "delivery": delivery}
    bench.pipeline([work], streaming=streaming, **settings).create("a").run()
    assert bag(lines(bench.output)) == bag(row for row in PAIRS if row["n"] != 2)
    is_ill = False
    bench.pipeline([work]).replay("a").run()  # what the run state says counts, not what the code says now
    assert bag(lines(bench.output)) == bag(PAIRS)
    assert [row["_i"] for row in lines(rows_of(bench))][-2:] == ["2_0", "2_1"]
    assert [account.findings for account in verify(bench.run_state("a"))] == [[], []]


def test_a_run_goes_on_where_its_disk_failed(bench: Bench) -> None:
    bench.give(numbered(4))
    fault = Fault(operation="write", path="*/out.jsonl", action="raise", error="ENOSPC")
    with inject(fault), pytest.raises(NodeFailedError):
        bench.pipeline([pair], keep_ids=False).create("a").run()
    bench.pipeline([pair]).resume("a").run()
    assert lines(bench.output) == PAIRS


def test_a_run_is_resumed_by_what_its_run_state_says_alone(bench: Bench) -> None:
    bench.give(numbered(4))
    bench.pipeline([pair], keep_ids=False).create("a").run()
    with bench.input.open("a") as file:
        file.write('{"n": 4}\n')
    UnifiedPipeline(results_dir=bench.results, log_file=None).resume("a").run()
    assert lines(bench.output) == [*PAIRS, {"n": 4, "k": 0}, {"n": 4, "k": 1}]


def test_overwriting_deletes_both(bench: Bench) -> None:
    bench.give(numbered(4))
    bench.pipeline([pair], keep_ids=False).create("a").run()
    bench.pipeline([same]).create("a", if_exists="overwrite").run()
    assert lines(bench.output) == [{"n": n, "_i": n} for n in range(4)]
    assert not list(bench.folder.glob("out.jsonl.rows*"))


def test_steps_are_added_and_removed_before_it(bench: Bench) -> None:
    bench.give(numbered(4))

    def more(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "m": 1}

    bench.pipeline([pair], keep_ids=False).create("a").run()
    with pytest.raises(OperatorChangedError):
        bench.pipeline([pair, more]).resume("a")
    bench.pipeline([pair, more]).resume("a", on_change="rerun").run()
    assert lines(bench.output) == [{**row, "m": 1} for row in PAIRS]
    bench.pipeline([pair]).resume("a", on_change="rerun").run()
    assert lines(bench.output) == PAIRS
    assert bench.run_state("a")["config"]["operators"] == ["pair"]
    assert [account.findings for account in verify(bench.run_state("a"))] == [[], []]


def test_other_files_of_the_run_cannot_lie_there(bench: Bench) -> None:
    bench.give(numbered(1))
    with pytest.raises(ConfigError, match=r"out.jsonl.rows would be"):
        bench.pipeline([same], keep_ids=False, log_file=rows_of(bench)).run()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keep_ids": 0}, "keep_ids must be True or False"),
        ({"id_column": ""}, "id_column must be text"),
        ({"id_column": "_i"}, "id_column cannot be '_i'"),
        ({"id_column": "data"}, "id_column cannot be 'data'"),
        ({"id_column": "row_id", "keep_ids": False}, "keep_ids=False that none do"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        UnifiedPipeline([same], "in.jsonl", "out.jsonl", **given)


def test_memory_has_both(bench: Bench) -> None:
    bench.give(numbered(2))
    bench.pipeline([same], output_uri="memory://unnamed", keep_ids=False).run()
    assert [row["n"] for row in MemoryStream("memory://unnamed").rows()] == [0, 1]
    for name in ("memory://unnamed", "memory://unnamed.rows"):
        MemoryStream(name).delete()


@pytest.mark.parametrize("rows", [[], [5], [{"n": 0}], [{"n": 0}, {"row_id": 1}]])
def test_create_warns_of_nothing_else(bench: Bench, rows: list[Any]) -> None:
    with pytest.warns(InputWarning, match="does not exist") as told:
        bench.pipeline([same], id_column="row_id", output_uri=f"jsonl://{bench.folder}/1.jsonl").create("no input")
    assert len(told) == 1
    bench.give(rows)
    bench.pipeline([same], id_column="row_id").create("a")  # warnings are errors here
    bench.input.write_text("{no json\n")
    bench.pipeline([same], id_column="row_id", output_uri=f"jsonl://{bench.folder}/2.jsonl").create("b")


@pytest.mark.parametrize("use", ["llm_datagen.exporting:Exporter", "llm_datagen.runs.export:Exporter"])
def test_a_run_that_knows_the_node_without_ids_by_an_older_name_goes_on(use: str) -> None:
    ref = {"use": use, "args": ["row_id"]}
    (operator,) = operators_of({"nodes": [{"node_id": "export", "operator": "export", "operator_ref": ref}]})

    assert isinstance(operator, IdStripper)
    assert operator.id_column == "row_id"
