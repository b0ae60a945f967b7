"""Ids that other readers do not damage, and an `_i` that the input has already: nothing is overwritten unseen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import BaseOperator, ConfigError, INodeContext, MemoryStream, NodeFailedError
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.ids import RootNames

from ..kit.support import Bench, bag, lines, numbered, stored


def pair(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return two rows of one."""
    return [{**row, "k": k} for k in range(2)]


class Whole(BaseOperator):
    """Makes one row of a batch as a whole."""

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return [{"sum": sum(item["n"] for item in items)}]


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.parametrize(("given", "prefix"), [({}, "r"), ({"id_prefix": "shard3-"}, "shard3-")])
def test_text_ids_are_all_text_that_no_reader_takes_for_a_number(
    bench: Bench, given: dict[str, Any], prefix: str, executor: str
) -> None:
    """Readers of JSON and CSV ask Python's, or their own, int() and float() whether a text is a number."""
    bench.give(numbered(5))
    bench.pipeline([pair, pair], id_scheme="text", executor=executor, **given).run()
    ids = [row["_i"] for row in lines(bench.output)]
    assert ids == [f"{prefix}{n}_{a}_{b}" for n in range(5) for a in range(2) for b in range(2)]
    for row_id in ids:
        for number in (int, float):
            with pytest.raises(ValueError, match="_"):
                number(row_id)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_runs_with_text_ids_are_traced_and_verified(bench: Bench, batch_size: int) -> None:
    bench.give([*numbered(3), {"n": "bad"}])

    def work(row: dict[str, Any]) -> list[dict[str, Any]]:
        return pair({"n": row["n"] + 1})

    bench.pipeline([work, lambda row: row], id_scheme="text", on_error="dead_letter", batch_size=batch_size).create(
        "a"
    ).run()
    run_state = bench.run_state("a")
    assert [account.findings for account in verify(run_state)] == [[], []]
    assert [(one.where, one.row_id, one.relation) for one in trace(run_state, "r1_0")] == [
        ("input", "r1", "ancestor"),
        ("node_0", "r1_0", "itself"),
        ("node_1", "r1_0", "itself"),
    ]
    assert [one.state for one in trace(run_state, "r3")] == ["row", "dead letter"]
    dead_letter = json.loads(bench.between("a").with_name("node_0.jsonl.errors.jsonl").read_text())
    assert dead_letter["_i"] == "r3"


def test_rows_of_a_whole_batch_are_traced_to_its_rows(bench: Bench) -> None:
    bench.give(numbered(5))
    bench.pipeline([Whole()], id_scheme="text", batch_size=3).create("a").run()
    assert [row["_i"] for row in lines(bench.output)] == ["r0~r2_0", "r3~r4_0"]
    found = [one.row_id for one in trace(bench.run_state("a"), "r0~r2_0") if one.relation == "ancestor"]
    assert found == ["r0", "r1", "r2"]


def test_a_line_that_is_no_row_has_a_text_id_too(bench: Bench) -> None:
    bench.give(numbered(3))
    with bench.input.open("a") as file:
        file.write("{torn\n")
    bench.pipeline([lambda row: row], id_scheme="text", on_error="dead_letter").create("a").run()
    assert [row["_i"] for row in lines(bench.output)] == ["r0", "r1", "r2"]
    assert [dead_letter["_i"] for dead_letter in lines(Path(f"{bench.output}.errors.jsonl"))] == ["r3"]


@pytest.mark.parametrize("prefix", ["", "3x", "a_", "a~", "s1", "é", "a b", 5, "x" * 65, "-a"])
def test_a_prefix_that_ids_cannot_be_read_with_is_refused(bench: Bench, prefix: Any) -> None:
    with pytest.raises(ConfigError, match="id_prefix must begin with a letter"):
        bench.pipeline([pair], id_scheme="text", id_prefix=prefix)


@pytest.mark.parametrize("scheme", ["path", "numeric"])
def test_ids_that_are_numbers_have_no_prefix(bench: Bench, scheme: Any) -> None:
    with pytest.raises(ConfigError, match="id_prefix='a' needs id_scheme=\"text\""):
        bench.pipeline([pair], id_scheme=scheme, id_prefix="a")


def test_names_are_read_back_as_the_numbers_they_were_made_of() -> None:
    for root in (RootNames(), RootNames("r")):
        assert [root.number(root.name(number)) for number in (0, 7, 10**12)] == [0, 7, 10**12]
    assert [RootNames("r").number(other) for other in (7, "7", "r", "r07", "r-1", "r7_0", "s7")] == [None] * 7
    assert RootNames().number("7") is None


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.process
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_three_chained_runs_keep_all_ids_in_the_order_of_the_runs(bench: Bench, executor: str, batch_size: int) -> None:
    bench.give(numbered(4))
    uris = [f"jsonl://{bench.folder / name}.jsonl" for name in ("in", "a", "b", "c")]
    for number, operator in enumerate([pair, lambda row: row if row["k"] else None, lambda row: row]):
        settings: dict[str, Any] = {"input_uri": uris[number], "output_uri": uris[number + 1], "ordered": True}
        if executor == "process" and number == 0:
            settings["executor"] = executor
        bench.pipeline([operator], batch_size=batch_size, **settings).create(f"run{number}").run()
    assert lines(bench.folder / "c.jsonl") == [
        {"n": n, "k": 1, "_i": n, "_i_in": f"{n}_1", "_i_in_2": 2 * n + 1} for n in range(4)
    ]


@pytest.mark.parametrize("own", ["x", 5, None, True, [1], {"a": 1}, "1_0"])
def test_an_id_column_of_the_users_own_is_kept_whatever_it_holds(bench: Bench, own: Any) -> None:
    bench.give([{"_i": own, "_i_in": "there already", "n": 1}])
    bench.pipeline([lambda row: row]).run()
    assert lines(bench.output) == [{"_i": 0, "_i_in": "there already", "n": 1, "_i_in_2": own}]


def test_an_id_column_of_a_csv_file_is_kept(bench: Bench) -> None:
    source = bench.folder / "in.csv"
    source.write_text("_i,q\na7,one\n,two\n", encoding="utf-8")
    out = bench.folder / "out.csv"
    bench.pipeline([lambda row: row], input_uri=f"csv://{source}", output_uri=f"csv://{out}").run()
    assert out.read_text(encoding="utf-8").splitlines() == ["_i,q,_i_in", "0,one,a7", "1,two,"]


def test_an_id_column_is_left_out_or_refused_by_choice(bench: Bench) -> None:
    bench.give([{"_i": "x", "n": 1}, {"n": 2}])
    bench.pipeline([lambda row: row], input_ids="drop").create("a").run()
    assert lines(bench.output) == [{"_i": 0, "n": 1}, {"_i": 1, "n": 2}]
    with pytest.raises(NodeFailedError, match=r"line 1: .* it has an _i of its own, 'x'.* input_ids=.keep"):
        bench.pipeline([lambda row: row], input_ids="refuse").create("a", if_exists="overwrite").run()


def test_a_run_of_an_older_version_goes_on_as_it_began(bench: Bench) -> None:
    """It left an `_i` of the input out: half of an output with a column, and half without, would be worse."""
    bench.give([{"_i": "x", "n": n} for n in range(4)])
    is_ill = True

    def work(row: dict[str, Any]) -> dict[str, Any]:
        if is_ill and row["n"] == 2:
            raise ValueError
        return row

    pipeline = bench.pipeline([work], input_ids="drop").create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    path = bench.results / "a" / "runtime.json"
    run_state = json.loads(path.read_bytes())
    for entry in run_state["nodes"]:
        del entry["id_prefix"], entry["input_ids"]
    run_state["format"] = 1
    del run_state["check"]
    path.write_text(json.dumps(run_state))
    is_ill = False
    bench.pipeline([work]).resume("a").run()
    assert bag(lines(bench.output)) == bag({"_i": n, "n": n} for n in range(4))


def test_an_id_that_a_writer_gave_is_no_id_of_the_users(bench: Bench) -> None:
    """12.2.7: rows without ids get their numbers from a writer; one that was given with a row is the user's own."""
    for name, rows, kept in [("given", [{"v": 1}, {"v": 2}], False), ("own", [{"v": 1}, {"v": 2, "_i": 9}], True)]:
        MemoryStream(f"memory://{bench.folder}/{name}", rows)
        output = f"jsonl://{bench.folder}/{name}.jsonl"
        bench.pipeline([lambda row: row], input_uri=f"memory://{bench.folder}/{name}", output_uri=output).create(
            name
        ).run()
        assert [("_i_in" in row) for row in stored(output)] == [kept, kept]


def same(row: Any) -> Any:
    """Return the row."""
    return row


LIKE_VALUES: list[Any] = [{"_i": 5, "data": "x"}, {"_i": "a", "data": {"n": 1}}, {"data": 2}, {"data": 3, "_i": 7}]


@pytest.mark.process
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_rows_of_the_user_that_look_like_values_of_the_engine_are_rows(bench: Bench, executor: str) -> None:
    """12: `_i` of such a row went without a word."""
    bench.give(LIKE_VALUES)
    bench.pipeline([same], executor=executor).create("a").run()
    kept = [
        {"_i": 0, "data": "x", "_i_in": 5},
        {"_i": 1, "data": {"n": 1}, "_i_in": "a"},
        {"data": 2, "_i": 2},
        {"data": 3, "_i": 3, "_i_in": 7},
    ]
    assert lines(bench.output) == kept
    assert [account.findings for account in verify(bench.run_state("a"))] == [[]]


def test_they_are_refused_or_lose_their_id_by_choice_alone(bench: Bench) -> None:
    bench.give(LIKE_VALUES)
    bench.pipeline([same], input_ids="drop").create("a").run()
    found = lines(bench.output)
    assert found == [{"data": row["data"], "_i": n} for n, row in enumerate(LIKE_VALUES)]
    assert list(found[0]) == ["data", "_i"]  # a row, and no value
    report = bench.pipeline([same], input_ids="refuse", on_error="skip").create("a", if_exists="overwrite").run()
    assert (report.nodes[0].rows_out, report.nodes[0].skipped) == (1, 3)


def test_a_csv_file_with_the_columns_of_a_value_keeps_both(bench: Bench) -> None:
    source = bench.folder / "in.csv"
    source.write_text("_i,data\n5,x\n,y\n")
    bench.pipeline([same], input_uri=f"csv://{source}").run()
    assert lines(bench.output) == [{"_i": 0, "data": "x", "_i_in": 5}, {"_i": 1, "data": "y", "_i_in": None}]


def test_values_that_a_run_wrote_are_values_for_the_next_one(bench: Bench) -> None:
    bench.give(["x", 5, {"data": 1}])
    middle = f"jsonl://{bench.folder / 'middle.jsonl'}"
    bench.pipeline([same], output_uri=middle).create("a").run()
    seen: list[Any] = []
    bench.pipeline([lambda item: seen.append(item) or item], input_uri=middle).create("b").run()  # type: ignore[func-returns-value]
    assert seen == ["x", 5, {"data": 1, "_i": 2, "_i_in": 2}]
    assert lines(bench.output) == [{"_i": 0, "data": "x"}, {"_i": 1, "data": 5}, {"data": 1, "_i": 2, "_i_in": 2}]


def test_a_run_of_an_older_version_takes_them_for_values_as_it_began(bench: Bench) -> None:
    bench.give(LIKE_VALUES)
    bench.pipeline([same]).create("a")
    run_state = bench.run_state("a")
    del run_state["nodes"][0]["input_values"]
    bench.put_run_state("a", run_state)
    bench.pipeline([same]).resume("a").run()
    assert lines(bench.output)[0] == {"_i": 0, "data": "x"}


def test_values_that_a_writer_begins_to_write_after_the_run_was_created_are_values(bench: Bench) -> None:
    pipeline = bench.pipeline([lambda item: {"is": item}], follow_input=True).create("a")
    with StreamFactory.create(f"jsonl://{bench.input}").get_writer() as writer:
        writer.write([5, "t"])
    pipeline.run()
    assert [row["is"] for row in lines(bench.output)] == [5, "t"]
