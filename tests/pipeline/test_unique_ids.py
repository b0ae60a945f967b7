"""Rows that carry ids of their own, read by a node that was wired by hand: no id is there twice, silently."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from llm_datagen import IdError, JsonlStream, StopRun, UnifiedNode, UnifiedNodePipeline
from llm_datagen.pipeline import unique_ids
from llm_datagen.runs import told_waits
from llm_datagen.streams import Stream, StreamFactory

from ..kit.support import Bench, instrument, lines, numbered


def pair(row: Any) -> list[Any]:
    return [{"n": row["n"]}, {"n": -row["n"]}]


def by_itself(bench: Bench, **settings: Any) -> Any:
    node = UnifiedNode("a", log_file=None, **settings).bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}")
    node.set_operator(pair)
    return node.run


def in_a_pipeline(bench: Bench, **settings: Any) -> Any:
    node = UnifiedNode("a", **settings).bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}")
    node.set_operator(pair)
    pipeline = UnifiedNodePipeline([node], results_dir=bench.folder / "results", log_file=None)
    return lambda: pipeline.create("a").run()


WAYS: list[Callable[..., Any]] = [by_itself, in_a_pipeline]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"_i": 1}, {"_i": 0}, {"_i": 1}], r"in\.jsonl, line 3: the row has the id 1, as row 0 of the stream has"),
        ([{"_i": "a"}, {"_i": "a"}], r"line 2: the row has the id 'a', as row 0"),
        ([{"_i": 12}, {"_i": "12"}], r"line 2: the row has the id '12', as row 0"),
        ([{"_i": 5}, {}, {"_i": 1}], r"line 3: the row has the id 1, as row 1"),
        ([{"_i": 1}, {}], r"line 2: the row has the id 1, as row 0"),
        ([{"_i": "7_0"}, {"_i": 7}], r"row 0 has the id '7_0', which a descendant of row 1 with the id '7' would have"),
        ([{"_i": "b"}, {"_i": "a"}, {"_i": "a"}, {"_i": "b"}], r"line 3: the row has the id 'a', as row 1"),
        ([{"_i": 7}, {"_i": "7_1_0"}], r"row 1 has the id '7_1_0', which a descendant of row 0 with the id '7'"),
    ],
)
def test_an_id_that_is_there_twice_is_refused_before_anything_is_done(
    bench: Bench, way: Callable[[Bench], Any], rows: list[dict[str, Any]], message: str
) -> None:
    """13.19: both rows are named, with what to do; an id that is missing is the row's number."""
    bench.give([{**row, "n": 1} for row in rows])
    JsonlStream(f"jsonl://{bench.input}").seal()
    run = way(bench)
    with pytest.raises(IdError, match=message + r".*give each row an id of its own, or none \(rename the column\)"):
        run()
    assert not bench.output.exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("in.jsonl", '{"n":1}\n{"\\u005fi":0,"n":2}\n'),
        ("in.jsonl", '{"n":1}\n{"_\\u0069":0,"n":2}\n'),
        ("in.json", '[{"n":1}, {"\\u005Fi":0,"n":2}]'),
        ("in.csv", 'n,"_i"\n1,\n2,0\n'),
    ],
)
def test_an_id_is_found_however_its_name_is_written(bench: Bench, name: str, text: str) -> None:
    """13.19: only rows of which the bytes say that they have no id are passed over."""
    (bench.folder / name).write_text(text)
    node = UnifiedNode("a", log_file=None, follow_input=False)
    node.bind_io(str(bench.folder / name), f"jsonl://{bench.output}").set_operator(pair)
    with pytest.raises(IdError, match="the row has the id 0, as row 0 of the stream has"):
        node.run()


def test_an_id_behind_many_rows_without_is_found(bench: Bench) -> None:
    """Whole blocks without ids are passed over, and their numbers are ids, too."""
    bench.give([*numbered(10_000), {"_i": 5_000, "n": 0}])
    with pytest.raises(IdError, match=r"line 10001: the row has the id 5000, as row 5000"):
        by_itself(bench, follow_input=False)()
    bench.give([{"_i": 20_000, "n": 0}, *numbered(20_000)])
    with pytest.raises(IdError, match="as row 0"):
        by_itself(bench, follow_input=False)()


@pytest.mark.parametrize("way", WAYS)
def test_an_input_that_is_taken_as_it_is_needs_no_seal(bench: Bench, way: Callable[..., Any]) -> None:
    """13.19: with `follow_input=False`, all its rows are there when the node begins, as in a sealed one."""
    bench.give([{"_i": 3, "n": 1}, {"_i": "3", "n": 2}])
    run = way(bench, follow_input=False)
    with pytest.raises(IdError, match=r"line 2: the row has the id '3', as row 0"):
        run()
    assert not bench.output.exists()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "ids", [["b", "a", "7_1", 3], [9, 2, 5, 0], [0, 3, 4, 70], [None] * 4, [7, "007_0", "7_x", "²_0"]]
)
def test_ids_of_the_rows_own_that_differ_are_kept(bench: Bench, way: Callable[[Bench], Any], ids: list[Any]) -> None:
    bench.give([{"n": n} if row_id is None else {"_i": row_id, "n": n} for n, row_id in enumerate(ids)])
    JsonlStream(f"jsonl://{bench.input}").seal()
    way(bench)()
    own = range(4) if ids[0] is None else ids
    assert sorted(row["_i"] for row in lines(bench.output)) == sorted(f"{row_id}_{k}" for row_id in own for k in (0, 1))


def test_a_line_that_is_no_row_is_not_looked_at(bench: Bench) -> None:
    """It fails as a row, by itself, under whichever policy there is."""
    bench.input.write_bytes(b'{"_i":"x","n":1}\nno row\n{"_i":"y","n":2}\n')
    JsonlStream(f"jsonl://{bench.input}").seal()
    node = UnifiedNode("a", log_file=None, on_error="skip").bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}")
    node.set_operator(pair)
    report = node.run()
    assert (report.rows_in, report.rows_out, report.nodes[0].skipped) == (3, 4, 1)


def test_a_writers_rows_are_looked_at_when_they_have_ids_of_their_own(bench: Bench) -> None:
    with StreamFactory.create(f"jsonl://{bench.input}").get_writer() as writer:
        writer.write([{"_i": "a", "n": 1}, {"_i": "a", "n": 2}])
    with pytest.raises(IdError, match="the id 'a'"):
        by_itself(bench)()


def test_what_the_engine_wrote_is_not_read_once_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that were given by a node, or by a writer, are unique."""
    monkeypatch.setattr("llm_datagen.pipeline.unique_ids.look_through", lambda source: pytest.fail(source.path))
    with StreamFactory.create(f"jsonl://{bench.input}").get_writer() as writer:
        writer.write(numbered(3))
    by_itself(bench)()
    node = UnifiedNode("b", log_file=None).bind_io(f"jsonl://{bench.output}", f"jsonl://{bench.folder / 'b.jsonl'}")
    node.set_operator(pair)
    assert node.run().rows_out == 12


def test_a_pipeline_numbers_its_rows_whatever_they_carry(bench: Bench) -> None:
    bench.input.write_text("".join(json.dumps({"_i": "a", "n": n}) + "\n" for n in range(3)))
    bench.pipeline([lambda row: row]).create("a").run()
    assert [(row["_i"], row["_i_in"]) for row in lines(bench.output)] == [(n, "a") for n in range(3)]


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_seal_is_a_seal(bench: Bench, way: Callable[[Bench], Any]) -> None:
    bench.give([{"_i": 1, "n": 1}, {"_i": 1, "n": 2}])
    bench.input.with_name("in.jsonl.done").touch()
    with pytest.raises(IdError, match="as row 0"):
        way(bench)()


def test_a_row_that_was_added_is_looked_at_before_a_resume(bench: Bench) -> None:
    bench.give([{"_i": 1, "n": 1}, {"_i": 2, "n": 2}])
    stream = JsonlStream(f"jsonl://{bench.input}")
    stream.seal()
    by_itself(bench)()
    stream.unseal()
    with bench.input.open("a") as file:
        file.write('{"_i": 1, "n": 3}\n')
    stream.seal()
    with pytest.raises(IdError, match=r"line 3.*as row 0"):
        by_itself(bench)()


def test_each_of_several_inputs_that_are_taken_as_they_are_is_looked_at(bench: Bench) -> None:
    bench.give([{"_i": 1, "n": 1}, {"_i": 1, "n": 2}])
    right = bench.folder / "right.jsonl"
    right.write_text('{"_i": 1, "n": 3}\n')
    node = UnifiedNode("a", log_file=None, follow_input=False)
    node.bind_io({"left": f"jsonl://{bench.input}", "right": f"jsonl://{right}"}, f"jsonl://{bench.output}")
    node.set_operator(pair)
    with pytest.raises(IdError, match=r"in\.jsonl, line 2.*as row 0"):
        UnifiedNodePipeline([node], results_dir=bench.folder / "results", log_file=None).create("a").run()


class Interrupted:
    """Two readers of one input, of which the first is stopped once."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = bench
        self.looked: list[str] = []
        look_through = unique_ids.look_through

        def look(source: Stream) -> None:
            self.looked.append(source.uri)
            look_through(source)

        monkeypatch.setattr(unique_ids, "look_through", look)

    def pipeline(self, *, is_stopped: bool = False) -> UnifiedNodePipeline:
        def stop_at_3(row: Any) -> Any:
            if is_stopped and row["n"] == 3:
                raise StopRun("that is enough")
            return row

        bench, nodes = self.bench, []
        for name in ("a", "b"):
            node = UnifiedNode(name, follow_input=False)
            node.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.folder / name}.jsonl")
            nodes.append(node.set_operator(instrument(stop_at_3)))
        return UnifiedNodePipeline(nodes, results_dir=bench.folder / "results", log_file=None)


@pytest.fixture
def interrupted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    """A run that was stopped after some rows."""
    bench.give(numbered(10))
    run = Interrupted(bench, monkeypatch)
    run.pipeline(is_stopped=True).create("a").run()
    return run


def test_an_input_is_looked_through_once_for_all_who_read_it_and_all_resumes(interrupted: Interrupted) -> None:
    assert len(interrupted.looked) == 1
    assert interrupted.pipeline().resume("a").run().status == "completed"
    assert len(interrupted.looked) == 1


def test_an_input_that_was_edited_since_is_looked_through_again(interrupted: Interrupted, bench: Bench) -> None:
    """Also where it was not read yet, and has kept its size."""
    text = bench.input.read_text()
    bench.input.write_text(text.replace('{"n": 8}\n{"n": 9}', '{"_i":7}\n{"n": 9}'))
    assert len(bench.input.read_text()) == len(text)
    with pytest.raises(IdError, match="line 9: the row has the id 7, as row 7"):
        interrupted.pipeline().resume("a")
    assert len(interrupted.looked) == 2


def test_a_run_of_an_earlier_version_is_looked_through_when_it_goes_on(interrupted: Interrupted, bench: Bench) -> None:
    run_state = bench.run_state("a")
    del run_state["ids_checked"]
    bench.put_run_state("a", run_state)
    assert interrupted.pipeline().resume("a").run().status == "completed"
    assert len(interrupted.looked) == 2


def test_a_long_look_is_told_while_it_lasts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_waits, "SECONDS_BEFORE_FIRST_LINE", 0)
    bench.give(numbered(3))
    told: list[str] = []
    with told_waits.told_to(told.append):
        by_itself(bench, follow_input=False)()
    assert told == [f"{bench.input}: looking for ids that are there twice, 0 rows so far"]


def test_what_ends_soon_is_not_told_and_what_lasts_is_told_from_time_to_time() -> None:
    now, told = 0.0, list[str]()
    with told_waits.told_to(told.append):
        wait = told_waits.ToldWait(lambda: now)
        for second in range(14):
            now = float(second)
            wait.goes_on(str(second))
    wait.goes_on("nobody hears")
    assert told == ["2", "12"]
