"""`source_column`: each row says which file it comes from, and which row of that file it is, whatever was killed."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedNode, UnifiedNodePipeline, UnifiedPipeline
from llm_datagen.errors import ConfigError
from llm_datagen.operators import as_operator
from llm_datagen.pipeline.preview import external_inputs, first_rows, run_preview
from llm_datagen.runs.verify import verify
from llm_datagen.streams.stream import Stream

from ..kit import programs
from ..kit.support import QUICK, Bench, Stopping, lines, write_jsonl

ROWS = 12


def same(item: Any) -> Any:
    return item


def fill(folder: Path) -> dict[int, dict[str, Any]]:
    """Make files of each format; return where each row lies."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "sub").mkdir(parents=True)
    places: dict[int, dict[str, Any]] = {}
    names = ["a.jsonl", "b.csv", "c.jsonl.gz", "d.parquet", "empty.jsonl", "sub/e.json", "sub/f.csv.bz2"]
    for number, name in enumerate(names):
        values = range(number * ROWS, number * ROWS + (0 if "empty" in name else ROWS))
        places.update({n: {"file": name, "row": row} for row, n in enumerate(values)})
        jsonl = "\n".join(f'{{"n":{n}}}\n' for n in values).encode()  # with blank lines between
        csv = "".join(["n\n", *(f"{n}\n" for n in values)]).encode()
        data = {
            "jsonl": jsonl,
            "csv": csv,
            "gz": gzip.compress(jsonl[:50], mtime=0) + gzip.compress(jsonl[50:], mtime=0),
            "json": json.dumps([{"n": n} for n in values]).encode(),
            "bz2": bz2.compress(csv),
            "parquet": b"",
        }
        (folder / name).write_bytes(data[name.rpartition(".")[2]])
    pq.write_table(pa.table({"n": list(range(3 * ROWS, 4 * ROWS))}), folder / "d.parquet", row_group_size=5)
    return places


def found(path: Path) -> dict[int, Any]:
    """Return where each row of an output says that it comes from; each is there once."""
    rows = lines(path)
    assert len({row["n"] for row in rows}) == len(rows)
    assert all(row["_i"] == row["n"] or row["n"] >= 4 * ROWS for row in rows)
    return {row["n"]: row["_source"] for row in rows}


SETTINGS: dict[str, Any] = {"source_column": "_source", "data_config": {"dtypes": {"n": "int"}}}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("stop", [0, 1, 11, 12, 17, 25, 31, 38, 47, 63, 70, 83])
def test_each_row_says_where_it_comes_from_also_after_a_resume(bench: Bench, stop: int) -> None:
    places = fill(bench.folder / "in")
    settings = {"input_uri": f"{bench.folder}/in/", "parallel_size": 3, **SETTINGS}
    bench.pipeline([Stopping(stop), same], **settings).create("a").run()
    assert bench.pipeline([Stopping(), same], **settings).resume("a").run().status == "completed"
    assert found(bench.output) == places
    assert [finding for account in verify(bench.run_state("a")) for finding in account.findings] == []


DYING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.pipeline.test_source_column import dying
dying(Path(sys.argv[1]), int(sys.argv[3]))
"""


class Dying:
    """Kills the process at a row."""

    version = "1"

    def __init__(self, at: int) -> None:
        self.at = at

    def process_item(self, item: Any, ctx: Any) -> Any:
        if item["n"] == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return item


def dying(folder: Path, at: int) -> None:
    """Run, or resume, a pipeline that is killed at a row."""
    operators: list[Any] = [Dying(at)]
    UnifiedPipeline(
        operators,
        f"{folder}/in/",
        f"jsonl://{folder}/out.jsonl",
        parallel_size=2,
        results_dir=folder / "results",
        log_file=None,
        writer_config={"fsync": "never", "flush_batch_size": 1},
        **SETTINGS,
    ).create("a", if_exists="resume").run()


@pytest.mark.slow
def test_it_is_the_same_after_kills(tmp_path: Path) -> None:
    places = fill(tmp_path / "in")
    codes = [
        programs.run(["-c", DYING, tmp_path, Path(__file__).parents[2], at]).returncode
        for at in (5, 20, 30, 40, 65, 80, -1)
    ]
    assert codes == [-signal.SIGKILL] * 6 + [0]
    assert found(tmp_path / "out.jsonl") == places


def test_dead_letters_of_files_that_were_passed_are_replayed_with_it(bench: Bench) -> None:
    """No commit tells any more where these files begin: their rows are counted."""
    places = fill(bench.folder / "in")

    def judge(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] in bad:
            raise ValueError("on purpose")
        return row

    bad = [5, 18, 30, 40, 65, 76]
    settings = {"input_uri": f"{bench.folder}/in/", "on_error": "dead_letter", **SETTINGS}
    assert bench.pipeline([judge], **settings).create("a").run().nodes[0].dead_letters == len(bad)
    left = lines(Path(f"{bench.output}.errors.jsonl"))
    assert [letter["input"]["_source"] for letter in left] == [places[n] for n in bad]
    bad = []
    bench.pipeline([judge], **settings).replay("a").run()
    assert found(bench.output) == places


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_batch_over_two_files_has_it_too(bench: Bench, executor: str) -> None:
    places = fill(bench.folder / "in")
    settings = {"input_uri": f"{bench.folder}/in", "batch_size": 7, "executor": executor, **SETTINGS}
    bench.pipeline([Whole()], **settings).create("a").run()
    assert found(bench.output) == places


class Whole:
    """Gives a batch back."""

    def process_batch(self, items: list[Any], ctx: Any) -> list[Any]:
        return items


def test_a_file_by_itself_is_called_by_its_name_and_values_become_objects(bench: Bench) -> None:
    bench.input.write_text('{"n":1}\n7\n')
    bench.pipeline([same], source_column="from").create("a").run()
    assert lines(bench.output) == [
        {"n": 1, "from": {"file": "in.jsonl", "row": 0}, "_i": 0},
        {"data": 7, "from": {"file": "in.jsonl", "row": 1}, "_i": 1},
    ]


def test_a_row_that_has_such_a_column_fails_by_name(bench: Bench) -> None:
    bench.give([{"n": 1, "_source": "mine"}])
    report = bench.pipeline([same], source_column="_source", on_error="dead_letter").create("a").run()
    assert report.nodes[0].dead_letters == 1
    (letter,) = lines(Path(f"{bench.output}.errors.jsonl"))
    assert "a column '_source' of its own; choose another source_column" in letter["error"]["text"]


@pytest.mark.parametrize("column", ["_i", "data", "", 3])
def test_a_column_that_cannot_be_is_refused(bench: Bench, column: Any) -> None:
    with pytest.raises(ConfigError, match="source_column"):
        bench.pipeline([same], source_column=column)


def test_a_preview_shows_it(bench: Bench) -> None:
    places = fill(bench.folder / "in")
    bench.pipeline([same], input_uri=f"{bench.folder}/in/", **SETTINGS).create("a")
    run_state = bench.run_state("a")
    ((stream, root),) = external_inputs(run_state)
    sample = {stream.place: first_rows(stream, 40, root=root)}
    (shown,) = run_preview(run_state, [as_operator(same)], sample, rows=40, folder=bench.folder)
    assert {item["n"]: item["_source"] for _, item in shown.made} == {n: places[n] for n in range(40)}


def test_each_of_several_inputs_says_its_own_file(bench: Bench) -> None:
    write_jsonl(bench.folder / "left.jsonl", [{"n": 1}, {"n": 2}])
    write_jsonl(bench.folder / "right.jsonl", [{"n": 3}])
    node = UnifiedNode("both", follow_input=False, source_column="_source", writer_config=QUICK)
    node.bind_io([f"{bench.folder}/left.jsonl", f"{bench.folder}/right.jsonl"], f"{bench.output}").set_operator(same)
    pipeline = UnifiedNodePipeline([node], results_dir=bench.results, log_file=None)
    assert pipeline.create("a").run().status == "completed"
    assert {row["n"]: (row["_source"]["file"], row["_source"]["row"]) for row in lines(bench.output)} == {
        1: ("left.jsonl", 0),
        2: ("left.jsonl", 1),
        3: ("right.jsonl", 0),
    }


def test_it_is_added_to_whatever_is_read() -> None:
    """No stream makes its own `cursor`, which adds the column; they have an `open_cursor`."""
    waiting, kinds = [Stream], set()
    while waiting:
        kinds.add(kind := waiting.pop())
        waiting += kind.__subclasses__()
    assert [kind.__name__ for kind in kinds if "cursor" in vars(kind) and kind is not Stream] == []


def test_rows_without_ids_say_where_they_come_from(bench: Bench) -> None:
    bench.give([{"n": 1}])
    bench.pipeline([lambda row: row], source_column="from", keep_ids=False).run()
    assert lines(bench.output) == [{"n": 1, "from": {"file": "in.jsonl", "row": 0}}]
