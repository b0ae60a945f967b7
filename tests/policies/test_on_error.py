"""What becomes of a row that fails (M24), in every mode; and that all who count agree (C1)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from llm_datagen import BaseOperator, INodeContext, NodeFailedError, Status
from llm_datagen.errors import ColumnError, RowFormatError
from llm_datagen.testing import RecordingHooks

from ..kit.support import Bench, bag, lines, numbered, pairwise, stored
from ..pipeline.chains import STYLES, bare, operator
from .helpers import (
    PoisonError,
    accounts_of,
    at_source,
    brief,
    brief_model,
    check_counts,
    dead_letters_of,
    double,
    modelled,
    poisoned,
    some_children,
    source_of,
)

ROWS = 40
FIRST, SECOND = {0, 3, 17, 18, 39}, {14, 22, 52}  # of the second node's rows, 22 has two children


def text_of(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value if key == "_i" else str(value) for key, value in row.items()}


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("on_error", "style", "protocol", "streaming", "ordered", "async_mode"),
    pairwise(["skip", "dead_letter"], STYLES, ["jsonl", "csv"], [True, False], [True, False], [True, False]),
)
def test_the_others_come_out_and_the_failed_are_accounted_for(
    bench: Bench, on_error: str, style: str, protocol: str, streaming: bool, ordered: bool, async_mode: bool
) -> None:
    """M24, C1: exactly the right rows and dead letters, whatever the operator's kind and the mode."""
    rows = numbered(ROWS)
    bench.give(rows)
    fates = [poisoned(FIRST), poisoned(SECOND, some_children)]
    output = bench.folder / f"out.{protocol}"
    pipeline = bench.pipeline(
        [operator(style, fates[0]), operator("item", fates[1])],
        output_uri=f"{protocol}://{output}",
        default_protocol=f"{protocol}://",
        streaming=streaming,
        ordered=ordered,
        parallel_size=3,
        batch_size=7,
        on_error=on_error,
        writer_config={"async_mode": async_mode},
    ).create("a")
    report = pipeline.run()
    assert report.status == Status.COMPLETED

    wanted, failed = modelled(rows, fates)
    found = stored(f"{protocol}://{output}")
    if protocol == "csv":
        wanted = [text_of(row) for row in wanted]
    assert bag(found) == bag(wanted)
    if ordered and style != "flat batch":  # that one turns its batches round
        assert found == wanted
    check_counts(bench, report)
    is_dead = on_error == "dead_letter"
    assert [node.skipped for node in report.nodes] == [0 if is_dead else len(one) for one in failed]
    for number, (out, one) in enumerate(zip([bench.between("a", 0, protocol), output], failed, strict=True)):
        dead_letters = dead_letters_of(out)
        assert brief(dead_letters) == (brief_model(one) if is_dead else [])
        for dead_letter in dead_letters:
            assert (dead_letter["node_id"], dead_letter["error"]["kind"]) == (f"node_{number}", "PoisonError")
            assert dead_letter["error"]["text"] == f"row {dead_letter['input']['n']} is bad"
            assert "PoisonError" in dead_letter["error"]["trace"]
            at = at_source(dead_letter, source_of(bench, "a", number))
            assert str(at["n"]) == str(dead_letter["input"]["n"])
            if number == 0:
                assert dead_letter["source"][0] == dead_letter["_i"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("style", "protocol", "streaming", "ordered", "async_mode"),
    pairwise(["item", "async batch"], ["jsonl", "csv"], [True, False], [True, False], [True, False]),
)
def test_a_run_that_failed_goes_on_with_another_policy(
    bench: Bench, style: str, protocol: str, streaming: bool, ordered: bool, async_mode: bool
) -> None:
    """M24, M6: on_error="fail" ends the run at the first bad row, with its cause; resume() may say otherwise."""
    rows = numbered(ROWS)
    bench.give(rows)
    fates = [poisoned({17}), poisoned({52}, some_children)]
    output = bench.folder / f"out.{protocol}"
    pipeline = bench.pipeline(
        [operator(style, fates[0]), operator("item", fates[1])],
        output_uri=f"{protocol}://{output}",
        default_protocol=f"{protocol}://",
        streaming=streaming,
        ordered=ordered,
        parallel_size=2,
        batch_size=4,
        writer_config={"async_mode": async_mode},
    ).create("a")
    with pytest.raises(NodeFailedError, match="bad") as caught:
        pipeline.run()
    assert isinstance(caught.value.__cause__, PoisonError)
    assert bench.run_state("a")["status"] == "failed"
    assert not dead_letters_of(bench.between("a", 0, protocol))
    assert not dead_letters_of(output)
    accounts_of(bench)  # what is pending is counted, too

    report = pipeline.resume("a", on_error="dead_letter").run()
    wanted, failed = modelled(rows, fates)
    found = stored(f"{protocol}://{output}")
    assert bag(map(text_of, found)) == bag(map(text_of, wanted))
    if ordered:
        assert [row["_i"] for row in found] == [row["_i"] for row in wanted]
    assert brief(dead_letters_of(bench.between("a", 0, protocol))) == brief_model(failed[0])
    assert brief(dead_letters_of(output)) == brief_model(failed[1])
    check_counts(bench, report)


BAD_LINES = ["nonsense", '{"n": 3', '{"n": NaN}', "\x00", '{"_i": 7}{"n": 1}']


@pytest.mark.sampled(5)
@pytest.mark.parametrize("on_error", ["skip", "dead_letter"])
@pytest.mark.parametrize("style", STYLES)
def test_a_line_that_cannot_be_parsed_is_dealt_with_like_a_row_that_fails(
    bench: Bench, style: str, on_error: str
) -> None:
    """M24: the same policy; the error names file and line number, blank lines counted; the letter keeps the line."""
    texts = [json.dumps({"n": n}) for n in range(30)]
    for at, line in zip((0, 4, 5, 16, 29), BAD_LINES, strict=True):
        texts[at] = line
    bench.input.write_text("\n".join([*texts[:10], "", "", *texts[10:]]) + "\n")
    good = [n for n in range(30) if n not in {0, 4, 5, 16, 29}]
    calls: list[int] = []

    def work(row: Any) -> Any:
        calls.append(row["n"])
        return row

    pipeline = bench.pipeline([operator(style, work)], batch_size=8, parallel_size=2, on_error=on_error).create("a")
    report = pipeline.run()
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in good)
    assert sorted(calls) == good, "rows that were read with a bad line were called again"
    check_counts(bench, report)
    assert report.nodes[0].failed == 5
    if on_error == "skip":
        assert not dead_letters_of(bench.output)
        return
    dead_letters = {dead_letter["_i"]: dead_letter for dead_letter in dead_letters_of(bench.output)}
    assert sorted(dead_letters) == [0, 4, 5, 16, 29]
    for number, dead_letter in dead_letters.items():
        line = number + 1 + (2 if number >= 10 else 0)
        assert dead_letter["error"]["kind"] == "RowFormatError"
        assert f"{bench.input}, line {line}:" in dead_letter["error"]["text"]
        assert dead_letter["raw"] == texts[number]
        assert "input" not in dead_letter
        assert dead_letter["attempts"] == 0, "the operator never saw it"
        begin, end = dead_letter["source"][1:]
        assert bench.input.read_bytes()[begin:end].decode().strip("\n") == texts[number]


def test_a_record_of_csv_that_cannot_be_parsed_is_dealt_with_like_a_row_that_fails(bench: Bench) -> None:
    """M19, M24: file and line number, where records may be several lines long."""
    source = bench.folder / "in.csv"
    source.write_bytes(b'id,text\n0,"two\nlines"\n1\n2,fine\n3,"caf\xff"\n4,fine\n5,a,b\n')
    report = bench.pipeline([lambda row: row], input_uri=f"csv://{source}", on_error="dead_letter").create("a").run()
    assert [row["id"] for row in lines(bench.output)] == ["0", "2", "4"]
    texts = {
        dead_letter["_i"]: (dead_letter["error"]["text"], dead_letter["raw"])
        for dead_letter in dead_letters_of(bench.output)
    }
    assert texts.keys() == {1, 3, 5}
    assert f"{source}, line 4: " in texts[1][0]
    assert f"{source}, line 6: " in texts[3][0]
    assert f"{source}, line 8: " in texts[5][0]
    assert texts[3][1] == '3,"caf\\xff"'
    check_counts(bench, report)


@pytest.mark.parametrize("id_scheme", ["path", "numeric"])
@pytest.mark.parametrize("style", ["item", "batch", "async item"])
def test_a_result_that_cannot_be_written_is_a_row_that_fails(bench: Bench, style: str, id_scheme: str) -> None:
    """M24, M14: it leaves nothing behind, neither rows nor ids that others may not have."""
    rows = numbered(20)
    bench.give(rows)

    def work(row: Any) -> Any:
        if row["n"] == 5:
            return {"n": object()}
        if row["n"] == 9:
            return [{"n": 1}, {"n": {1, 2}}]
        return [{"n": row["n"]}, {"n": -row["n"]}]

    pipeline = bench.pipeline([operator(style, work)], batch_size=6, on_error="dead_letter", id_scheme=id_scheme)
    report = pipeline.create("a").run()
    ids = [[f"{n}_0", f"{n}_1"] if id_scheme == "path" else [n * 10_000, n * 10_000 + 1] for n in range(20)]
    wanted = [{"n": s * n, "_i": ids[n][k]} for n in range(20) if n not in {5, 9} for k, s in enumerate((1, -1))]
    assert bag(lines(bench.output)) == bag(wanted)
    assert brief(dead_letters_of(bench.output)) == brief_model([(5, {"n": 5}), (9, {"n": 9})])
    assert {dead_letter["error"]["kind"] for dead_letter in dead_letters_of(bench.output)} == {"RowValueError"}
    check_counts(bench, report)


def test_a_result_with_a_column_too_many_is_a_row_that_fails(bench: Bench) -> None:
    """M19, M24: the header stays as it is."""
    bench.give(numbered(10))
    output = bench.folder / "out.csv"
    pipeline = bench.pipeline(
        [lambda row: {**row, "extra": 1} if row["n"] == 7 else row],
        output_uri=f"csv://{output}",
        on_error="dead_letter",
    )
    report = pipeline.create("a").run()
    assert [row["n"] for row in stored(f"csv://{output}")] == [str(n) for n in range(10) if n != 7]
    (dead_letter,) = dead_letters_of(output)
    assert (dead_letter["_i"], dead_letter["error"]["kind"]) == (7, ColumnError.__name__)
    check_counts(bench, report)


def test_a_row_that_can_be_read_and_not_be_written_is_dead_lettered_as_it_lies(bench: Bench) -> None:
    """M24: JSON may be nested more deeply than can be written; the run goes on."""
    deep = '{"n": ' + "[" * 500 + "]" * 500 + "}"
    bench.input.write_text(f'{{"n": 0}}\n{deep}\n{{"n": 2}}\n')
    report = bench.pipeline([lambda row: row], on_error="dead_letter").create("a").run()
    assert [row["n"] for row in lines(bench.output)] == [0, 2]
    (dead_letter,) = dead_letters_of(bench.output)
    assert (dead_letter["_i"], dead_letter["raw"]) == (1, deep)
    check_counts(bench, report)


def test_the_letter_holds_what_the_operator_was_given_and_not_what_it_made_of_it(bench: Bench) -> None:
    """M12, M24: what an operator does to its item before it fails is its own affair."""
    bench.give([{"n": 0, "tags": ["a"]}, {"n": 1, "tags": ["b"]}, "bare", {"data": 5}])

    def work(item: Any) -> Any:
        if isinstance(item, dict):
            item.get("tags", []).append("spoilt")
            item.clear()
        raise PoisonError("always")

    bench.pipeline([work], on_error="dead_letter").create("a").run()
    assert [dead_letter["input"] for dead_letter in dead_letters_of(bench.output)] == [
        {"n": 0, "tags": ["a"], "_i": 0},
        {"n": 1, "tags": ["b"], "_i": 1},
        "bare",
        {"data": 5, "_i": 3},
    ]
    assert bench.is_sealed()


@pytest.mark.parametrize("style", ["item", "batch", "async item"])
def test_numeric_ids_are_those_of_a_run_without_failures(bench: Bench, style: str) -> None:
    """M14, M24: children are named after their parents, whoever is missing; dead letters have numbers, too."""
    rows = numbered(30)
    bench.give(rows)

    def two(row: Any) -> Any:
        return [{"n": row["n"] * 10}, {"n": row["n"] * 10 + 1}]

    fates = [poisoned({0, 11}, two), poisoned({71}, double)]
    pipeline = bench.pipeline(
        [operator(style, fates[0]), operator(style, fates[1])],
        id_scheme="numeric",
        on_error="dead_letter",
        batch_size=4,
        parallel_size=2,
    ).create("a")
    report = pipeline.run()
    kept = [(n, k) for n in range(30) if n not in {0, 11} for k in (0, 1) if (n, k) != (7, 1)]
    assert bag(lines(bench.output)) == bag({"n": (n * 10 + k) * 2, "_i": n * 10_000 + k} for n, k in kept)
    assert sorted(dead_letter["_i"] for dead_letter in dead_letters_of(bench.between("a"))) == [0, 11]
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.output)] == [70_001]
    check_counts(bench, report)


def test_a_user_s_own_i_does_not_name_a_letter(bench: Bench) -> None:
    """M14: rows of the input are named by their number, also those that fail."""
    bench.give([{"_i": "mine", "n": 0}, {"_i": [1], "n": 1}])
    bench.pipeline([poisoned({0, 1})], on_error="dead_letter").create("a").run()
    assert [(dead_letter["_i"], dead_letter["input"]["_i"]) for dead_letter in dead_letters_of(bench.output)] == [
        (0, 0),
        (1, 1),
    ]


class Fragile(BaseOperator):
    def setup(self) -> None:
        raise PoisonError("no model")

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return item


@pytest.mark.parametrize("on_error", ["skip", "dead_letter"])
def test_a_setup_that_fails_is_no_row_that_fails(bench: Bench, on_error: str) -> None:
    """M24: policies are for rows; a run that cannot even begin fails."""
    bench.give(numbered(5))
    with pytest.raises(NodeFailedError, match="no model") as caught:
        bench.pipeline([Fragile()], on_error=on_error).create("a").run()
    assert isinstance(caught.value.__cause__, PoisonError)
    assert not dead_letters_of(bench.output)
    assert not bench.is_sealed()


def test_all_rows_may_fail(bench: Bench) -> None:
    """M24, S2: then the output is empty, and sealed, and every row is accounted for."""
    bench.give(numbered(1000))
    pipeline = bench.pipeline([poisoned(range(1000)), double], parallel_size=4, streaming=True, on_error="dead_letter")
    report = pipeline.create("a").run()
    assert report.status == Status.COMPLETED
    assert lines(bench.output) == []
    dead_letters = dead_letters_of(bench.between("a"))
    assert Counter(dead_letter["_i"] for dead_letter in dead_letters) == Counter(range(1000))
    check_counts(bench, report)


def test_nodes_may_have_policies_of_their_own(bench: Bench) -> None:
    """M4, M24: `node_configs` sets them for a node."""
    bench.give(numbered(20))
    pipeline = bench.pipeline([poisoned({3}), poisoned({8}), poisoned({36})], on_error="dead_letter")
    pipeline.create("a", node_configs=[{"on_error": "skip"}, None, {"on_error": "fail"}])
    with pytest.raises(NodeFailedError, match="node node_2"):
        pipeline.run()
    assert [(node.skipped, node.dead_letters) for node in pipeline.progress] == [(1, 0), (0, 1), (0, 0)]
    report = pipeline.resume("a", on_error="skip").run()
    assert [(node.skipped, node.dead_letters) for node in report.nodes] == [(1, 0), (0, 1), (1, 0)]
    check_counts(bench, report)


def test_hooks_and_log_hear_of_rows_that_fail(bench: Bench) -> None:
    """M26, M28: on_node_error with the items; ten lines in the log, then one a second; rows are never logged."""
    bench.give([{"n": n, "secret": f"s3cr3t-{n}"} for n in range(60)])
    hooks = RecordingHooks()
    bench.pipeline([poisoned(range(0, 60, 2))], on_error="skip", hooks=hooks).create("a").run()
    told = hooks.of("on_node_error")
    assert [bare(items[0])["n"] for _, _, _, items in told] == list(range(0, 60, 2))
    assert all((cid, nid, type(error)) == ("a", "node_0", PoisonError) for cid, nid, error, _ in told)
    logged = [line for line in bench.log_lines() if line["event"] == "[Row Failed]"]
    assert 10 <= len(logged) <= 12
    assert [line["ids"] for line in logged[:10]] == [[str(n)] for n in range(0, 20, 2)]
    assert (logged[0]["kind"], logged[9]["failed_in_run"]) == ("PoisonError", 10)
    assert "s3cr3t" not in bench.log.read_text()
    last = hooks.of("on_node_progress")[-1]
    assert (last[2], last[4]["skipped"], last[4]["failed"], last[4]["dead_letters"]) == (60, 30, 30, 0)


def test_an_exit_that_an_operator_asks_for_is_a_row_that_fails(bench: Bench) -> None:
    """M24, H9: whatever an operator lets out, the policy holds; the process goes on."""
    bench.give(numbered(6))

    def work(row: Any) -> Any:
        if row["n"] == 2:
            raise SystemExit(3)
        return row

    report = bench.pipeline([work], on_error="dead_letter", retries=2, retry_wait=0.001).create("a").run()
    assert [row["n"] for row in lines(bench.output)] == [0, 1, 3, 4, 5]
    assert [dead_letter["error"]["kind"] for dead_letter in dead_letters_of(bench.output)] == ["SystemExit"]
    check_counts(bench, report)


class Counting(BaseOperator):
    """Makes one row of a whole batch."""

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        if any(item["n"] == 13 for item in items):
            raise PoisonError("unlucky")
        return [{"sum": sum(item["n"] for item in items)}]


def test_rows_made_of_a_whole_batch_keep_their_names(bench: Bench) -> None:
    """M12, M24: halves that succeed are batches of their own; the account holds, though it cannot tell who was kept."""
    bench.give(numbered(20))
    report = bench.pipeline([Counting()], batch_size=10, on_error="dead_letter").create("a").run()
    covered: list[int] = []
    for row in lines(bench.output):
        first, _, last = str(row["_i"]).removesuffix("_0").partition("~")  # a batch of one row keeps that one's id
        batch = range(int(first), int(last or first) + 1)
        assert row["sum"] == sum(batch)
        covered += batch
    assert sorted(covered) == [n for n in range(20) if n != 13]
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.output)] == [13]
    (account,) = accounts_of(bench)
    assert account.kept is None
    assert (account.covered, account.dead) == (20, 1)
    assert report.failed == 1


def test_a_bad_line_in_a_batch_that_must_stay_whole_fails_alone(bench: Bench) -> None:
    """M24: with bisect=False, too: the operator never saw the line, and the rows around it have done nothing wrong."""

    class Whole(BaseOperator):
        bisect = False

        def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
            return list(items)

    texts = [json.dumps({"n": n}) for n in range(16)]
    texts[5] = "oops"
    bench.input.write_text("\n".join(texts))
    report = bench.pipeline([Whole()], batch_size=16, on_error="dead_letter").create("a").run()
    assert [row["n"] for row in lines(bench.output)] == [n for n in range(16) if n != 5]
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.output)] == [5]
    check_counts(bench, report)


def test_with_fail_a_bad_line_ends_the_run_with_its_place(bench: Bench) -> None:
    """M24: and no letter is written for it."""
    bench.input.write_text('{"n": 0}\n\noops\n')
    with pytest.raises(NodeFailedError, match=f"{bench.input}, line 3: this is not a row") as caught:
        bench.pipeline([double], retries=5).create("a").run()
    assert isinstance(caught.value.__cause__, RowFormatError)
    assert not dead_letters_of(bench.output)


@pytest.mark.parametrize("on_error", ["fail", "dead_letter"])
def test_an_exception_with_a_text_of_megabytes_fills_neither_messages_nor_files(bench: Bench, on_error: str) -> None:
    """M24: whatever a server has sent back, a bounded part of it is kept."""

    def fail(row: Any) -> Any:
        raise ValueError("z" * 5_000_000)

    bench.give(numbered(3))
    pipeline = bench.pipeline([fail], on_error=on_error, log_file=str(bench.folder / "log.jsonl")).create("a")
    if on_error == "fail":
        with pytest.raises(NodeFailedError) as caught:
            pipeline.run()
        assert len(str(caught.value)) < 10_000
    else:
        assert pipeline.run().nodes[0].dead_letters == 3
        assert all(len(json.dumps(dead_letter)) < 150_000 for dead_letter in dead_letters_of(bench.output))
        assert all(
            "(cut: it has 5000000 characters)" in dead_letter["error"]["text"]
            for dead_letter in dead_letters_of(bench.output)
        )
    others = [path for path in bench.folder.rglob("*") if path.is_file() and not path.name.endswith(".errors.jsonl")]
    assert sum(path.stat().st_size for path in others) < 100_000
