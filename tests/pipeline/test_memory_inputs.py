"""Rows in memory, tables, standard input and standard output."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import InputWarning, UnifiedPipeline
from llm_datagen.errors import ConfigError, DatagenError, NodeFailedError, PipelineNotFoundError, RowValueError
from llm_datagen.messages import Run
from llm_datagen.pipeline import spool
from llm_datagen.pipeline.preview import external_inputs, first_rows

from ..kit import programs
from ..kit.support import PATIENCE_SECONDS, Bench, Stopping, lines, numbered


def same(item: Any) -> Any:
    return item


def of_rows(bench: Bench, rows: Any, operator: Any = same, **settings: Any) -> UnifiedPipeline:
    return bench.pipeline([operator], **{"input_uri": None, "input": rows, **settings})


ROWS = [{"n": 0, "t": "é\n"}, {"n": 1 << 70, "t": [None, {"a": 1.5}]}, {"_i": 7, "n": -1, "t": ""}]
KINDS: dict[str, Callable[[], Any]] = {
    "list": lambda: ROWS,
    "tuple": lambda: tuple(ROWS),
    "generator": lambda: (row for row in ROWS),
    "iterator": lambda: iter(ROWS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_program_are_an_input(bench: Bench, kind: str) -> None:
    of_rows(bench, KINDS[kind]()).create("a").run()
    assert lines(bench.output) == [
        {**{k: v for k, v in row.items() if k != "_i"}, **({"_i_in": 7} if "_i" in row else {}), "_i": number}
        for number, row in enumerate(ROWS)
    ]


def test_a_resume_needs_the_rows_no_more(bench: Bench) -> None:
    of_rows(bench, (row for row in numbered(100)), Stopping(50)).create("a").run()
    bench.pipeline([Stopping()], input_uri=None).resume("a").run()
    assert sorted((row["n"], row["_i"]) for row in lines(bench.output)) == [(n, n) for n in range(100)]


def test_rows_can_be_given_to_create_and_an_existing_run_reads_none(bench: Bench) -> None:
    pipeline = bench.pipeline([same], input_uri=None)
    pipeline.create("a", input=numbered(3)).run()

    def never() -> Iterator[Any]:
        raise AssertionError("it is read")
        yield

    bench.pipeline([same], input_uri=None).create("a", input=never(), if_exists="resume")
    assert len(lines(bench.output)) == 3
    bench.pipeline([same], input_uri=None).create("a", input=numbered(2), if_exists="overwrite").run()
    assert len(lines(bench.output)) == 2


def raising() -> Iterator[Any]:
    yield {"n": 0}
    raise KeyError("the source is gone")


@pytest.mark.parametrize(
    ("rows", "kind", "why"),
    [
        (raising, KeyError, "the source is gone"),
        (lambda: [{"n": 1}, "text"], ConfigError, "input: row 1 is str, and must be a dict"),
        (lambda: [{"n": 1}, {"n": {1, 2}}], RowValueError, r"input: row 1: .*'n'"),
        (lambda: [{"n": 1}, {"n": b"x"}], RowValueError, r"input: row 1: .*'n'"),
        (lambda: [{"n": math.nan}], RowValueError, r"input: row 0: .*'n'.*nan='null'"),
        (lambda: [{1: "x"}], RowValueError, "input: row 0: "),
        (lambda: {"n": 1}, ConfigError, "input must be rows: a list or an iterator of dicts.*, not dict"),
        (lambda: "a.jsonl", ConfigError, "a file is given as input_uri"),
        (lambda: 5, ConfigError, "input must be rows"),
    ],
)
def test_rows_that_cannot_be_held_are_refused_and_nothing_is_left(
    bench: Bench, rows: Any, kind: type[Exception], why: str
) -> None:
    before = bench.files()
    with pytest.raises(kind, match=why):
        of_rows(bench, rows()).create("a")
    assert bench.files() - {"results"} == before
    assert not (bench.folder / "results" / "a").exists()


def test_rows_and_a_uri_are_refused(bench: Bench) -> None:
    bench.give(numbered(1))
    with pytest.raises(ConfigError, match=r"input and input_uri=.* are both given"):
        bench.pipeline([same], input=[{}])
    with pytest.raises(ConfigError, match="both given"):
        bench.pipeline([same]).create("a", input=[{}])


def test_nan_is_null_where_that_is_set_and_the_copy_is_in_the_encoding_that_is_read(bench: Bench) -> None:
    data = {"nan": "null", "encoding": "latin-1"}
    of_rows(bench, [{"n": math.nan, "t": "é€"}], data_config=data).run()
    assert json.loads(bench.output.read_bytes().decode("latin-1")) == {"n": None, "t": "é€", "_i": 0}


class Frame:
    """A table as pandas has them."""

    def __init__(self, columns: list[str], count: int) -> None:
        self.columns, self.count = columns, count
        self.iloc = self

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> Any:
        class Part:
            def to_dict(self, _: str) -> list[dict[str, int]]:
                return [{"n": n} for n in range(part.start, min(part.stop, 5000))]

        return Part()


def test_a_table_is_read_piece_by_piece(bench: Bench) -> None:
    of_rows(bench, Frame(["n"], 5000)).create("a").run()
    assert [row["n"] for row in lines(bench.output)] == list(range(5000))
    with pytest.raises(ConfigError, match="more than one column 'n'"):
        of_rows(bench, Frame(["n", "n"], 1)).create("a", if_exists="overwrite")


@pytest.mark.slow
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "capsule"])
def test_tables_of_libraries_are_inputs(bench: Bench, library: str) -> None:
    import pyarrow

    data = {"n": [1, 2, 3], "t": ["a", None, "é"], "f": [0.5, 1.5, -1.0]}
    table = pyarrow.table(data)
    rows: list[dict[str, Any]] = table.to_pylist()
    if library == "pandas":
        table = pytest.importorskip("pandas").DataFrame(data)
    elif library == "polars":
        table = pytest.importorskip("polars").DataFrame(data)
    elif library == "capsule":

        class Capsule:
            def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
                return pyarrow.table(data).__arrow_c_stream__(requested_schema)

        table = Capsule()
    of_rows(bench, table).create("a").run()
    assert lines(bench.output) == [{**row, "_i": number} for number, row in enumerate(rows)]


JOB = """
import os, signal, sys
from llm_datagen import UnifiedPipeline
def rows():
    for n in range(100_000):
        yield {"n": n, "t": "x" * 100}
    os.kill(os.getpid(), signal.SIGKILL)
UnifiedPipeline([len], output_uri="out.jsonl", results_dir="results", input=rows()).create("a")
"""


def test_a_process_that_dies_while_it_copies_leaves_word_of_what_to_do(bench: Bench) -> None:
    script = bench.folder / "job.py"
    script.write_text(JOB)
    assert programs.run([script], cwd=bench.folder).returncode == -signal.SIGKILL
    results = {"results_dir": str(bench.folder / "results")}
    with pytest.raises(PipelineNotFoundError, match=r"'a' .* was not created: .* copied the input; create it"):
        bench.pipeline([same], input_uri=None, **results).resume("a")
    of_rows(bench, numbered(3), **results).create("a").run()
    assert len(lines(bench.output)) == 3
    assert not list((bench.folder / "results" / "a").glob("*.tmp"))


OPERATORS = """
from llm_datagen import StopRun
import os
def passed(item):
    print("an operator prints", file=__import__("sys").stderr)
    return item
"""


def shell(bench: Bench, *args: str, text: str | bytes | None = "", **more: Any) -> Any:
    command = [sys.executable, "-m", "llm_datagen.cli", *args]
    import subprocess

    data = text.encode() if isinstance(text, str) else text
    return subprocess.run(command, input=data, capture_output=True, cwd=bench.folder, check=False, **more)


@pytest.fixture
def spec(bench: Bench) -> str:
    (bench.folder / "ops.py").write_text(OPERATORS)
    (bench.folder / "p.yaml").write_text(
        "operators: [ops:passed]\ninput_uri: '-'\noutput_uri: '-'\nresults_dir: results\nbase_path: between\n"
    )
    return "p.yaml"


@pytest.mark.slow
def test_standard_input_and_output_are_a_filter(bench: Bench, spec: str) -> None:
    done = shell(bench, "run", spec, "--id", "a", text='{"n": 1}\n{"n": 2}\n')
    assert (done.returncode, done.stdout) == (0, b'{"n":1,"_i":0}\n{"n":2,"_i":1}\n'), done.stderr
    assert b"run a: completed" in done.stderr
    folder = bench.folder / "results" / "a"
    assert (folder / "spooled-input.jsonl").read_bytes() == b'{"n": 1}\n{"n": 2}\n'
    assert (folder / "output.jsonl").read_bytes() == done.stdout
    empty = shell(bench, "run", spec, "--id", "b")
    assert (empty.returncode, empty.stdout) == (2, b"")
    assert b"standard input is empty: nothing came" in empty.stderr
    assert not (bench.folder / "results" / "b").exists()


@pytest.mark.slow
def test_other_formats_of_standard_input_and_a_file_in_its_place(bench: Bench, spec: str) -> None:
    done = shell(bench, "run", spec, "--input", "csv://-", "--output", "csv://-", "--id", "a", text="n\n1\n")
    assert (done.returncode, done.stdout) == (0, b"n,_i\n1,0\n"), done.stderr
    write = bench.folder / "in.json"
    write.write_text('[{"n": 3}]')
    done = shell(bench, "run", spec, "--input", "in.json", "--output", "out.jsonl", "--id", "b")
    assert done.returncode == 0, done.stderr
    assert b"run b: completed" in done.stdout
    assert lines(bench.folder / "out.jsonl") == [{"n": 3, "_i": 0}]


def test_a_closed_standard_input_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigError, match="standard input is closed"):
        bench.pipeline([same], input_uri="-").create("a")
    read, write = os.pipe()
    os.write(write, b'{"n": 1}\n{"n": 2}\n')
    os.close(write)
    with open(read) as given:  # noqa: PTH123 - of a pipe
        monkeypatch.setattr(sys, "stdin", given)
        bench.pipeline([Stopping(2)], input_uri="-", output_uri="-").create("a").run()
    monkeypatch.setattr(sys, "stdin", None)
    assert capfdbinary.readouterr().out == b"", "a run that was stopped prints nothing"
    bench.pipeline([Stopping()], input_uri="-", output_uri="-").resume("a").run()
    assert capfdbinary.readouterr().out == b'{"n":1,"_i":0}\n{"n":2,"_i":1}\n'


@pytest.mark.slow
def test_rows_may_stand_in_a_yaml_file(bench: Bench, spec: str) -> None:
    text = "operators: [ops:passed]\ninput: [{n: 1}, {n: 2}]\noutput_uri: out.jsonl\nresults_dir: results\n"
    (bench.folder / spec).write_text(text)
    done = shell(bench, "run", spec, "--id", "a")
    assert done.returncode == 0, done.stderr
    assert lines(bench.folder / "out.jsonl") == [{"n": 1, "_i": 0}, {"n": 2, "_i": 1}]
    (bench.folder / spec).write_text(text + "input_uri: x.jsonl\n")
    done = shell(bench, "run", spec, "--id", "b")
    assert done.returncode == 2
    assert b"input and input_uri='x.jsonl' are both given" in done.stderr


def test_a_path_of_the_copy_is_no_file_of_the_user(bench: Bench) -> None:
    of_rows(bench, numbered(1)).create("a")
    missing = bench.pipeline([same], input_uri=f"{bench.folder}/missing.jsonl", output_uri="-")
    with pytest.warns(InputWarning, match="does not exist"):
        missing.create("b")
    with pytest.raises(DatagenError):
        missing.run()
    assert Path(bench.folder).exists()


@pytest.mark.parametrize("how", ["wait", "running", "async", "actor"])
def test_each_way_to_run_writes_the_rows_to_standard_output(
    bench: Bench, capfdbinary: pytest.CaptureFixture[bytes], how: str
) -> None:
    pipeline = of_rows(bench, numbered(3), output_uri="-").create("a")
    if how == "wait":
        pipeline.start()
        pipeline.wait(PATIENCE_SECONDS)
    elif how == "running":
        with pipeline.running():
            pass
    elif how == "async":
        asyncio.run(pipeline.run_async())
    else:
        ref = pipeline.actor()
        ref.ask(Run(), timeout=PATIENCE_SECONDS)
        pipeline.wait(PATIENCE_SECONDS)
        ref.stop()
    assert capfdbinary.readouterr().out == b"".join(b'{"n":%d,"_i":%d}\n' % (n, n) for n in range(3))


def test_standard_output_that_takes_text_only_gets_text(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook. A sign may lie across two pieces."""
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(spool, "_PIECE", 7)
    of_rows(bench, [{"t": "éöü" * 5}], output_uri="-").create("a").run(progress=False)
    monkeypatch.setattr(sys, "stdout", None)
    assert shown.getvalue() == '{"t":"' + "éöü" * 5 + '","_i":0}\n'
    with pytest.raises(NodeFailedError, match="standard output is closed; name a file"):
        of_rows(bench, [{"t": 1}], output_uri="-").create("b").run(progress=False)


@pytest.mark.slow
def test_a_run_that_was_cut_short_writes_all_rows_when_it_is_resumed(bench: Bench, spec: str) -> None:
    (bench.folder / "ops.py").write_text(
        "import os\ndef passed(item):\n"
        "    if item['n'] == 2 and not os.path.exists('go'): os._exit(9)\n    return item\n"
    )
    rows = "".join(f'{{"n": {n}}}\n' for n in range(4))
    done = shell(bench, "run", spec, "--id", "a", text=rows)
    assert (done.returncode, done.stdout) == (9, b"")
    (bench.folder / "go").touch()
    done = shell(bench, "resume", "a", "--results-dir", "results")
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"".join(b'{"n":%d,"_i":%d}\n' % (n, n) for n in range(4))
    assert b"run a: completed" in done.stderr


@pytest.mark.slow
def test_rows_that_are_read_once_are_previewed_and_planned(bench: Bench, spec: str) -> None:
    """No more of standard input is read than is shown, where that is lines; a plan reads all of it."""
    rows = "".join(f'{{"n": {n}}}\n' for n in range(50))
    done = shell(bench, "preview", spec, "-n", "2", "--json", text=rows)
    assert done.returncode == 0, done.stderr
    assert [row["item"]["n"] for row in json.loads(done.stdout)["nodes"][0]["made"]] == [0, 1]
    done = shell(bench, "plan", spec, "-k", "3", text=rows)
    assert b"3 of 50 rows of standard input were tried" in done.stdout, done.stdout
    assert not (bench.folder / "results").exists()


def test_of_rows_of_a_program_only_so_many_are_taken_for_a_preview(bench: Bench) -> None:
    def rows() -> Iterator[Any]:
        yield from numbered(2)
        raise OSError("nobody asked for more")

    run_state, _ = of_rows(bench, rows()).to_try(bench.folder / "try", most=2)
    ((stream, root),) = external_inputs(run_state)
    assert [item["n"] for _, item in first_rows(stream, 2, root=root).rows] == [0, 1]


def test_of_lines_only_so_many_are_copied_for_a_preview(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, b'{"n": 1}\n\n{"n": 2}\n')  # and no more comes, nor an end
    with open(read) as given:  # noqa: PTH123 - of a pipe
        monkeypatch.setattr(sys, "stdin", given)
        pipeline = bench.pipeline([same], input_uri="-", output_uri="-")
        run_state, _ = pipeline.to_try(bench.folder / "try", most=2)
        ((stream, root),) = external_inputs(run_state)
        assert [item["n"] for _, item in first_rows(stream, 2, root=root).rows] == [1, 2]
    os.close(write)


@pytest.mark.parametrize("library", ["arrow", "polars"])
def test_a_table_in_memory_has_the_rows_that_a_file_of_it_has(bench: Bench, library: str) -> None:
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "n": [0, 1],
        "t": pa.array([1704164645123456789, None], pa.timestamp("ns", "UTC")),
        "d": pa.array([Decimal("1E-10"), None], pa.decimal128(38, 10)),
        "b": [b"\0", None],
        "s": pa.array([dt.timedelta(1), None], pa.duration("us")),
        "l": [[{"x": dt.date(2024, 1, 1)}], []],
    }
    table = pa.table(columns)
    pq.write_table(table, bench.folder / "in.parquet")
    bench.pipeline([Stopping()], input_uri=f"{bench.folder}/in.parquet").create("file").run()
    of_file = lines(bench.output)
    given: Any = table if library == "arrow" else pl.from_arrow(table)
    bench.pipeline([Stopping()], input_uri=None).create("file", input=given, if_exists="overwrite").run()
    assert lines(bench.output) == of_file
    assert of_file[0]["t"] == "2024-01-02T03:04:05.123456789Z"


def test_a_row_of_a_table_in_memory_that_json_cannot_hold_is_named(bench: Bench) -> None:
    import pyarrow as pa

    table = pa.table({"n": [0, 1, 2], "m": pa.array([[], [("a", 1), ("a", 2)], []], pa.map_(pa.string(), pa.int8()))})
    with pytest.raises(RowValueError, match="input: row 1: column 'm': a map has a key twice"):
        bench.pipeline([Stopping()], input_uri=None).create("a", input=table)
