"""CSV as other programs want it: separators, quotes, headers, encodings, and what stands for null."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import ConfigError, StreamError
from llm_datagen.streams.outputs import Exported, ExportOptions, Target, Work, export_rows, place_of

from ..kit.support import write_jsonl
from .test_outputs import errors, export, stream_of

ROWS = [
    {"t": "a;b", "n": 1, "x": None},
    {"t": "", "n": None, "x": [1, "é"]},
    {"t": 'say "so"', "n": 2.5, "x": True},
    {"t": "NULL", "n": 3},
]


def written(folder: Path, rows: list[Any] = ROWS, **options: Any) -> tuple[str, Exported]:
    made = export(folder, stream_of(folder, rows), "out.csv", keep_ids=False, **options)
    return (folder / "out.csv").read_bytes().decode(options.get("encoding", "utf-8")), made


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, 't,n,x\na;b,1,\n,,"[1,""é""]"\n"say ""so""",2.5,true\nNULL,3,\n'),
        ({"separator": ";"}, 't;n;x\n"a;b";1;\n;;"[1,""é""]"\n"say ""so""";2.5;true\nNULL;3;\n'),
        ({"separator": "\t", "quote": "'"}, 't\tn\tx\na;b\t1\t\n\t\t[1,"é"]\nsay "so"\t2.5\ttrue\nNULL\t3\t\n'),
        ({"header": False}, 'a;b,1,\n,,"[1,""é""]"\n"say ""so""",2.5,true\nNULL,3,\n'),
        (
            {"quoting": "text"},
            '"t","n","x"\n"a;b",1,\n"",,"[1,""é""]"\n"say ""so""",2.5,true\n"NULL",3,\n',
        ),
        (
            {"quoting": "all"},
            '"t","n","x"\n"a;b","1",""\n"","","[1,""é""]"\n"say ""so""","2.5","true"\n"NULL","3",""\n',
        ),
        (
            {"quoting": "text", "nulls": "NULL"},
            '"t","n","x"\n"a;b",1,NULL\n"",NULL,"[1,""é""]"\n"say ""so""",2.5,true\n"NULL",3,NULL\n',
        ),
        (
            {"encoding": "utf-8-sig"},
            't,n,x\na;b,1,\n,,"[1,""é""]"\n"say ""so""",2.5,true\nNULL,3,\n',
        ),
    ],
)
def test_csv_is_written_as_it_is_asked_for(tmp_path: Path, options: Any, text: str) -> None:
    found, made = written(tmp_path, **options)
    assert found == text
    assert (made.rows, made.failed) == (4, 0)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig", "latin-1"])
def test_a_mark_of_an_encoding_comes_once_and_a_row_it_cannot_hold_fails_by_its_column(
    tmp_path: Path, encoding: str
) -> None:
    rows = [{"t": f"é{n}", "u": "x"} for n in range(5000)] + [{"t": "y", "u": "語"}]
    found, made = written(tmp_path, rows, encoding=encoding)
    holds_all = encoding.startswith("utf")
    assert found.splitlines()[:5001] == ["t,u", *(f"é{n},x" for n in range(5000))]
    assert made.failed == (0 if holds_all else 1)
    if not holds_all:
        plain = "iso8859-1" if encoding == "latin-1" else encoding
        assert errors(made)[0] | {"_i": 0} == {
            "_i": 0, "row": 5000, "column": "u", "type": "csv",
            "reason": f"it holds a sign that {plain} lacks; choose another encoding",
        }  # fmt: skip


@pytest.mark.parametrize("quoting", ["needed", "all"])
def test_text_that_would_be_taken_for_null_fails_by_name(tmp_path: Path, quoting: str) -> None:
    found, made = written(tmp_path, nulls="NULL", quoting=quoting)
    assert made.failed == 1
    assert errors(made)[0]["column"] == "t"
    assert "'NULL', which stands for null; choose other nulls" in errors(made)[0]["reason"]
    assert len(found.splitlines()) == 4


def test_a_row_that_would_be_a_blank_line_fails(tmp_path: Path) -> None:
    _, made = written(tmp_path, [{"t": "a"}, {"t": None}], quoting="text")
    assert "would be a blank line" in errors(made)[0]["reason"]
    assert written(tmp_path / "b", [{"t": "a"}, {"t": None}])[0] == 't\na\n""\n'


def test_a_header_that_the_encoding_lacks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match=r"the header cannot be written: .*'語'.* a sign that cp1252 lacks"):
        written(tmp_path, [{"語": 1}], encoding="cp1252")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"separator": "ab"}, "separator must be one sign"),
        ({"quote": ","}, "separator and quote are both"),
        ({"quoting": "some"}, "quoting"),
        ({"header": "no"}, "header"),
        ({"encoding": "klingon"}, "no encoding of files is called 'klingon'"),
        ({"encoding": "rot13"}, "no encoding of files is called 'rot13'"),
        ({"encoding": "unicode_escape"}, "no encoding of files"),
        ({"nulls": "a,b"}, "nulls must be text without"),
    ],
)
def test_wrong_options_are_refused(options: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ExportOptions(**options)


def test_options_of_csv_are_refused_of_other_formats_and_left_out_where_they_are_for_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"separator= is for CSV, and .* is jsonl"):
        export(tmp_path, stream_of(tmp_path, ROWS), "out.jsonl.gz", separator=";")
    write_jsonl(tmp_path / "in.jsonl", ROWS)
    pipeline = UnifiedPipeline(
        [lambda row: row],
        str(tmp_path / "in.jsonl"),
        str(tmp_path / "out.jsonl"),
        also=[f"csv:{tmp_path}/a.csv", f"chatml:{tmp_path}/chat.jsonl"],
        export_options={"separator": ";", "keep_ids": False},
        results_dir=tmp_path / "results",
        log_file=None,
    )
    pipeline.create("a").run()
    assert (tmp_path / "a.csv").read_text().startswith("t;n;x\n")


def test_an_export_of_a_version_without_these_options_is_the_same_one(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, ROWS)
    made = export(tmp_path, stream, "out.csv")
    target = Target.of(str(tmp_path / "out.csv"))
    work = Work(target, place_of(target))
    manifest = work.manifest()
    assert manifest is not None
    for name in ("separator", "quote", "quoting", "header", "encoding", "nulls"):
        del manifest["options"][name]
    work._put(work.target.manifest_path, manifest)
    assert export_rows(stream, made.target, ExportOptions()).was_there


cells = st.one_of(st.none(), st.integers(), st.text(st.characters(codec="utf-8", exclude_characters="\0")))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(cells, cells), min_size=1, max_size=5),
    st.sampled_from([";", "\t", "|", " "]),
    st.sampled_from(["'", '"', "~"]),
    st.sampled_from(["needed", "text", "all"]),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], separator: str, quote: str, quoting: str
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    given = [{"a": a, "b": b} for a, b in rows]
    text, made = written(folder, given, separator=separator, quote=quote, quoting=quoting)
    assert made.failed == 0
    read = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, quotechar=quote, strict=True))
    assert read == [["a", "b"], *([("" if cell is None else str(cell)) for cell in row] for row in rows)]
