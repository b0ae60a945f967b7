"""Exports: files of other formats, whole or not there, with the rows of the stream or a word about each that is not."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import llm_datagen
from llm_datagen.errors import ConfigError, DiskError, StopRun, StreamError, StreamExistsError
from llm_datagen.streams import JsonlStream, MemoryStream
from llm_datagen.streams.outputs import Exported, ExportOptions, Target, Work, check_parts, export_rows, place_of
from llm_datagen.streams.outputs.arrow import types_of_all
from llm_datagen.streams.outputs.found_types import settled
from llm_datagen.streams.outputs.local_place import LocalPlace
from llm_datagen.streams.outputs.template import NO_VALUE
from llm_datagen.streams.storage.local import LOCAL_STORAGE
from llm_datagen.testing import Fault, inject, record

from ..kit import programs
from ..kit.support import Bench

ROWS = [{"text": f"t{n}", "n": n, "lang": ("en", "de")[n % 2], "l": [n, None], "o": {"a": n}} for n in range(25)]


def stream_of(folder: Path, rows: list[Any]) -> JsonlStream:
    stream = JsonlStream(f"jsonl://{folder}/rows.jsonl")
    with stream.get_writer() as writer:
        writer.write(rows)
    return stream


def export(folder: Path, stream: Any, target: str, **options: Any) -> Exported:
    overwrite = options.pop("overwrite", False)
    kind, colon, path = target.partition("!")
    text = f"{kind}:{folder / path}" if colon else str(folder / target)
    return export_rows(stream, Target.of(text), ExportOptions(**options), overwrite=overwrite)


def parquet(path: str | Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return list(pq.read_table(BytesIO(Path(path).read_bytes())).to_pylist())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def errors(made: Exported) -> list[dict[str, Any]]:
    assert made.errors_path is not None
    return [json.loads(line) for line in Path(made.errors_path).read_text().splitlines()]


def test_parquet_has_the_rows_and_their_ids_as_text(tmp_path: Path) -> None:
    made = export(tmp_path, stream_of(tmp_path, ROWS), "out.parquet")

    assert parquet(tmp_path / "out.parquet") == [{"_i": str(n), **row} for n, row in enumerate(ROWS)]
    assert (made.rows, made.failed, made.errors_path) == (25, 0, None)
    assert made.columns == {
        "_i": "string",
        "text": "string",
        "n": "int64",
        "lang": "string",
        "l": {"list": "int64"},
        "o": {"struct": {"a": "int64"}},
    }


@pytest.mark.parametrize(
    ("options", "first"),
    [({"keep_ids": False}, {"a": 1}), ({"id_column": "row_id"}, {"row_id": "0", "a": 1}), ({}, {"_i": "0", "a": 1})],
)
def test_ids_are_kept_left_out_or_called_otherwise(tmp_path: Path, options: Any, first: Any) -> None:
    export(tmp_path, stream_of(tmp_path, [{"a": 1}]), "out.parquet", **options)

    assert parquet(tmp_path / "out.parquet") == [first]


def test_shards_are_cut_by_rows_or_bytes_of_the_source(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, ROWS)
    by_rows = export(tmp_path, stream, "a/out-{shard:05}.parquet", rows_per_shard=10)
    by_bytes = export(tmp_path, stream, "b/out-{shard}.jsonl", bytes_per_shard=500)

    assert [part["rows"] for part in by_rows.parts] == [10, 10, 5]
    assert [Path(path).name for path in by_rows.paths] == [
        "out-00000.parquet",
        "out-00001.parquet",
        "out-00002.parquet",
    ]
    assert all(500 <= part["bytes"] < 600 for part in by_bytes.parts[:-1])
    assert b"".join(Path(path).read_bytes() for path in by_bytes.paths) == (tmp_path / "rows.jsonl").read_bytes()
    assert (tmp_path / "a" / "_SUCCESS").exists()


def test_rows_are_parted_by_a_column(tmp_path: Path) -> None:
    rows = [*ROWS, {"text": "none"}, {"text": "slash", "lang": "a/../b"}, {"text": "list", "lang": [1]}]
    made = export(tmp_path, stream_of(tmp_path, rows), "p/lang={lang}/out-{shard:05}.jsonl", rows_per_shard=20)

    assert {part["path"] for part in made.parts} == {
        "lang=en/out-00000.jsonl",
        "lang=de/out-00000.jsonl",
        "lang=en/out-00001.jsonl",
        "lang=de/out-00001.jsonl",
        "lang=__HIVE_DEFAULT_PARTITION__/out-00001.jsonl",
        "lang=a%2F..%2Fb/out-00001.jsonl",
    }
    assert [(error["_i"], error["column"]) for error in errors(made)] == [(27, "lang")]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("o/{lang}{n}.jsonl", r"nothing stands between \{lang\} and \{n\}, so different values could make one file"),
        ("o/{lang}{shard:03}.parquet", r"between \{lang\} and \{shard\}.*such as \{lang\}-\{shard\}"),
        ("o/{shard}{lang}/x.jsonl", r"between \{shard\} and \{lang\}"),
        ("o/{lang}0{shard}.jsonl", r"only '0', which values may hold, too, stands between"),
        ("s3://b/{lang}x2%{n}.jsonl", r"only 'x2%', which"),
    ],
)
def test_fields_that_stand_side_by_side_are_refused_but_for_a_run_that_has_such_a_target(
    bench: Bench, target: str, said: str
) -> None:
    """An older version may have made that run: its own file describes it, and it goes on."""
    bench.give([{"lang": "de", "n": 1}])
    pipeline = bench.pipeline([lambda row: row], also=[target])
    with pytest.raises(ConfigError, match=said):
        pipeline.create("a")
    run = bench.pipeline([lambda row: row]).create("a")
    run.run()
    with pytest.raises(ConfigError, match=said):
        llm_datagen.export("a", target, results_dir=bench.results)
    assert pipeline.resume("a").run().status == "completed"


VALUES = (
    st.text(alphabet="aA-_.1%/ ü", max_size=4) | st.sampled_from([None, NO_VALUE, "zh-CN", "1-2"]) | st.integers(0, 12)
)
TEMPLATES = [
    "{a}-{b}-{shard}.x",
    "{a}_{b}.x",
    "{a}.{shard}.{b}.x",
    "{shard}-{a} {b}",
    "a={a}_b={b}/{shard}",
    "{a}to-{b}",
]


@given(st.sampled_from(TEMPLATES), *(st.tuples(st.integers(0, 30), VALUES, VALUES),) * 2)
@settings(max_examples=300, deadline=None)
def test_different_values_have_different_paths(path: str, one: Any, other: Any) -> None:
    target = Target("jsonl", path)

    def path_of(number: int, a: Any, b: Any) -> str:
        return target.part_path(number, {"a": a, "b": b})

    def said(number: int, *values: Any) -> Any:
        names = [None if value in {None, ""} else str(value) for value in values]
        return (number, *names) if "{shard}" in path else names

    assert (path_of(*one) == path_of(*other)) == (said(*one) == said(*other))


def test_rows_of_different_partitions_never_lie_in_one_file(tmp_path: Path) -> None:
    rows = [
        *({"a": a, "b": b} for a, b in (("x", "y-z"), ("x-y", "z"), ("a-1", 2), ("a", "1-2"))),
        {"a": None, "b": NO_VALUE},
        {"a": NO_VALUE, "b": None},
        {"a": "_hidden", "b": ".b"},
        {"a": "k" * 200, "b": "k" * 200},
    ]
    made = export(tmp_path, stream_of(tmp_path, rows), "p/{a}-{b}.jsonl", keep_ids=False)

    assert {part["path"]: part["rows"] for part in made.parts} == dict.fromkeys(
        [
            "x-y-z.jsonl",
            "x%2Dy-z.jsonl",
            "a%2D1-2.jsonl",
            "a-1-2.jsonl",
            "__HIVE_DEFAULT_PARTITION__-%5F_HIVE_DEFAULT_PARTITION__.jsonl",
            "%5F_HIVE_DEFAULT_PARTITION__-__HIVE_DEFAULT_PARTITION__.jsonl",
            "%5Fhidden-%2Eb.jsonl",
        ],
        1,
    )
    assert [(error["_i"], error["column"], error["reason"][:28]) for error in errors(made)] == [
        (7, "a, b", "its values are too long for ")
    ]


@pytest.mark.parametrize(
    ("values", "options", "reason", "remedy"),
    [
        ([1, 2**70], {}, "is too large or too small; choose long_ints 'text' or 'decimal', or", {"long_ints": "text"}),
        ([1, 2**70], {"mixed": "json"}, "; choose long_ints 'text' or 'decimal', or", {"long_ints": "decimal"}),
        ([1, 2**200], {"long_ints": "decimal"}, "38 digits; choose long_ints 'text', or", {"long_ints": "text"}),
        ([2**53 + 1, 2.5], {}, "it holds a float; choose mixed 'json', or", {"mixed": "json"}),
        ([2.5, 2**53 + 1], {}, "is not exact as a float; choose mixed 'json', or", {"mixed": "json"}),
        ([1, "x"], {}, "it holds text; choose mixed 'json', or", {"schema": {"v": "json"}}),
        ([[1], "x"], {}, "it holds text; choose mixed 'json', or", {"mixed": "json"}),
        ([{"a": 1}, "x"], {}, "it holds text; choose mixed 'json', or", {"mixed": "json"}),
        ([1, "x"], {"schema": {"v": "int64"}, "mixed": "json"}, "it holds text; choose", {"schema": {"v": "json"}}),
        ([1, "x"], {"schema_rows": 1, "mixed": "json"}, "it holds text; choose", {"schema": {"v": "json"}}),
    ],
)
def test_a_reason_names_the_option_with_which_the_row_fits(
    tmp_path: Path, values: list[Any], options: dict[str, Any], reason: str, remedy: dict[str, Any]
) -> None:
    stream = stream_of(tmp_path, [{"v": value} for value in values])
    [error] = errors(export(tmp_path, stream, "out.parquet", **options))
    assert error["reason"].endswith(f"{reason} a schema that takes it")
    assert export(tmp_path, stream, "again.parquet", **{**options, **remedy}).failed == 0


def test_a_message_without_text_names_the_options_that_say_where_it_is(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, [{"q": "x", "answer": "y"}])
    [error] = errors(export(tmp_path, stream, "chatml!out.jsonl"))
    assert (error["column"], error["reason"]) == (
        "prompt",
        "the text of a message is missing; choose other columns as prompt, answer and system",
    )


def test_values_before_a_shard_alone_stay_as_they_are(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, [{"lang": "zh-CN"}, {"lang": "zh-CN-1"}])
    made = export(tmp_path, stream, "p/{lang}-{shard}.jsonl", rows_per_shard=1)
    assert [part["path"] for part in made.parts] == ["zh-CN-0.jsonl", "zh-CN-1-1.jsonl"]


def test_a_partition_is_no_file_that_the_export_has_of_itself(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, [{"lang": "SUCCESS"}, {"lang": "x"}])
    made = export(tmp_path, stream, "jsonl!p/_{lang}")
    assert [part["path"] for part in made.parts] == ["_x"]
    assert [error["reason"] for error in errors(made)] == [
        f"{tmp_path}/p/_SUCCESS is a file that the export has of itself"
    ]


def test_values_that_differ_by_case_are_told_apart_where_the_file_system_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_of(tmp_path, [{"lang": "de", "n": 0}, {"lang": "DE", "n": 1}, {"lang": "de", "n": 2}])
    if not LocalPlace(LOCAL_STORAGE).ignores_case(str(tmp_path)):
        made = export(tmp_path, stream, "apart/{lang}.jsonl")
        assert [(part["path"], part["rows"]) for part in made.parts] == [("DE.jsonl", 1), ("de.jsonl", 2)]

    monkeypatch.setattr(LocalPlace, "ignores_case", lambda self, folder: True)
    made = export(tmp_path, stream, "one/{lang}.jsonl")
    assert [(part["path"], part["rows"]) for part in made.parts] == [("de.jsonl", 2)]
    assert [(error["_i"], error["reason"]) for error in errors(made)] == [
        (1, "this file system takes DE.jsonl for de.jsonl, where other rows lie")
    ]


@pytest.mark.parametrize("name", ["a[1]-{lang}.jsonl", "{lang}/a[1]?.jsonl", "a[b-{lang}/x.jsonl"])
def test_what_is_there_is_found_though_the_target_has_signs_of_patterns(tmp_path: Path, name: str) -> None:
    stream = stream_of(tmp_path, [{"lang": "de"}])
    there = tmp_path / "p" / name.format(lang="de")
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    with pytest.raises(StreamExistsError, match="is there already, and no export made it"):
        export(tmp_path, stream, f"p/{name}")
    assert there.read_text() == "mine"


@pytest.mark.parametrize("target", ["u/{lnag}/out.parquet", "u/{lnag}/{shard}.jsonl", "chatml!u/{lnag}.jsonl"])
def test_a_partition_column_that_no_row_has_is_refused(tmp_path: Path, target: str) -> None:
    stream = stream_of(tmp_path, ROWS)
    before = files(tmp_path)
    said = (
        r"parts the rows by the column 'lnag', and no row has it \(did you mean \{lang\}\?\); the columns are "
        r"_i, text, n, lang, l, o; export to a path that names one of them"
    )
    with pytest.raises(ConfigError, match=said):
        export(tmp_path, stream, target, prompt="text", answer="text")
    assert files(tmp_path) == before
    assert not (tmp_path / "u").exists()
    assert export(tmp_path, stream_of(tmp_path / "empty", []), "e/{lnag}/out.jsonl").parts == []


def test_an_export_with_a_misspelt_partition_column_removes_none_that_it_was_to_replace(tmp_path: Path) -> None:
    export(tmp_path, stream_of(tmp_path / "old", [{"lnag": "en"}]), "set/{lnag}.jsonl")
    stream = stream_of(tmp_path, ROWS)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match="'lnag', and no row has it"):
        export(tmp_path, stream, "set/{lnag}.jsonl", overwrite=True)
    assert files(tmp_path) == before


def test_rows_may_be_parted_by_their_ids_and_by_a_column_that_only_the_last_row_has(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, [{"a": 1}, {"a": 2, "late": None}])
    assert [part["path"] for part in export(tmp_path, stream, "ids/{_i}.jsonl").parts] == ["0.jsonl", "1.jsonl"]
    (part,) = export(tmp_path, stream, "late/{late}.jsonl").parts
    assert (part["path"], part["rows"]) == ("__HIVE_DEFAULT_PARTITION__.jsonl", 2)
    with pytest.raises(ConfigError, match="'_i', and no row has it; the columns are a, late"):
        export(tmp_path, stream, "none/{_i}.jsonl", keep_ids=False)


def test_messages_are_parted_by_a_column_of_their_rows(tmp_path: Path) -> None:
    rows = [{"q": "why", "a": "so", "split": name} for name in ("train", "test")]
    made = export(
        tmp_path, stream_of(tmp_path, rows), "chatml!set/{split}.jsonl", prompt="q", answer="a", keep_ids=False
    )
    assert [part["path"] for part in made.parts] == ["test.jsonl", "train.jsonl"]
    message = b'{"messages":[{"role":"user","content":"why"},{"role":"assistant","content":"so"}]}\n'
    assert [Path(path).read_bytes() for path in made.paths] == [message, message]


def test_csv_and_messages_are_written_too(tmp_path: Path) -> None:
    rows = [{"q": "why", "a": "so"}, {"messages": [{"role": "user", "content": "x"}], "q": None}, {"q": "alone"}]
    stream = stream_of(tmp_path, rows)
    export(tmp_path, stream, "out.csv.gz")
    made = export(tmp_path, stream, "chatml!chat.jsonl", prompt="q", answer="a", keep_ids=False)

    cells = list(csv.reader(gzip.decompress((tmp_path / "out.csv.gz").read_bytes()).decode().splitlines()))
    assert cells == [
        ["_i", "q", "a", "messages"],
        ["0", "why", "so", ""],
        ["1", "", "", '[{"role":"user","content":"x"}]'],
        ["2", "alone", "", ""],
    ]
    assert [json.loads(line) for line in (tmp_path / "chat.jsonl").read_text().splitlines()] == [
        {"messages": [{"role": "user", "content": "why"}, {"role": "assistant", "content": "so"}]},
        {"messages": [{"role": "user", "content": "x"}]},
    ]
    assert [(error["_i"], error["column"]) for error in errors(made)] == [(2, "a")]


def test_a_folder_for_datasets_has_arrow_files_and_their_list(tmp_path: Path) -> None:
    import pyarrow as pa

    made = export(tmp_path, stream_of(tmp_path, ROWS), "hf-folder!hf", rows_per_shard=10, keep_ids=False)
    state = json.loads((tmp_path / "hf" / "state.json").read_text())
    names = [each["filename"] for each in state["_data_files"]]
    rows = [
        row
        for name in names
        for row in pa.ipc.open_stream((tmp_path / "hf" / name).read_bytes()).read_all().to_pylist()
    ]

    assert rows == ROWS
    assert names == [Path(path).name for path in made.paths] == [f"data-{n:05}.arrow" for n in range(3)]
    assert sorted(files(tmp_path / "hf")) == ["_SUCCESS", *names, "dataset_info.json", "state.json"]


@pytest.mark.parametrize(
    ("values", "options", "written", "failed"),
    [
        ([1, 2.5, None], {}, [1.0, 2.5, None], []),
        ([2.5, 2**53 + 1], {}, [2.5], [1]),
        ([2**53 + 1, 2.5, 3], {}, [2**53 + 1, 3], [1]),
        ([2**60, 2.5, -(2**63)], {}, [2.0**60, 2.5, -(2.0**63)], []),
        ([1, "x", True], {}, [1], [1, 2]),
        ([True, 1], {}, [True], [1]),
        ([False, 1.5, True], {}, [False, True], [1]),
        ([1.5, True, 2], {}, [1.5, 2.0], [1]),
        ([True, 1.5], {"schema": {"v": "float64"}}, [1.5], [0]),
        ([1, "x", [{}], None], {"mixed": "json"}, ["1", '"x"', "[{}]", None], []),
        ([2**64 - 1, 1], {}, [2**64 - 1, 1], []),
        ([2**63, -1], {}, [2**63], [1]),
        ([1, -1, 2**63], {}, [1, -1], [2]),
        ([1, 2**63, -1], {}, [1, 2**63], [2]),
        ([2**63, 2**70, 1], {}, [2**63, 1], [1]),
        ([-1, 2**63], {"long_ints": "decimal"}, [-1, 2**63], []),
        ([2**70, 1], {"long_ints": "text"}, [str(2**70), "1"], []),
        ([2**70, 1], {"long_ints": "decimal"}, [2**70, 1], []),
        ([2**70, 1], {}, [1], [0]),
        ([{}, None], {}, ["{}", None], []),
        ([[], [None], ["x"]], {}, [[], [None], ["x"]], []),
        ([{"a": 1}, {"b": {"c": "x"}}], {}, [{"a": 1, "b": None}, {"a": None, "b": {"c": "x"}}], []),
        ([1, 2.5], {"schema": {"v": "int64"}}, [1], [1]),
        ([1, 300], {"schema": {"v": "int8"}}, [1], [1]),
        ([0.5, 0.1], {"schema": {"v": "float32"}}, [0.5], [1]),
        ([["a"], "b"], {"schema": {"v": "list<string>"}}, [["a"]], [1]),
        ([1, "x"], {"schema_rows": 1}, [1], [1]),
    ],
)
def test_what_fits_is_written_as_it_is_and_what_does_not_is_named(
    tmp_path: Path, values: list[Any], options: Any, written: list[Any], failed: list[int]
) -> None:
    stream = JsonlStream(f"jsonl://{tmp_path}/rows.jsonl")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"_i": n, "v": v}) + "\n" for n, v in enumerate(values)))
    made = export(tmp_path, stream, "out.parquet", **options)

    assert [row["v"] for row in parquet(tmp_path / "out.parquet")] == written
    assert [type(row["v"]) for row in parquet(tmp_path / "out.parquet") if not options.get("long_ints")] == [
        type(value) for value in written if not options.get("long_ints")
    ]
    found = errors(made) if failed else []
    assert [(error["_i"], error["column"]) for error in found] == [(n, "v") for n in failed]
    assert (made.rows, made.failed) == (len(written), len(failed))


@pytest.mark.parametrize(
    ("values", "options", "written", "failed"),
    [
        ([["b"], ["a", 1]], {}, [["b"]], {1: "v[]"}),
        ([["a", 1], ["b"]], {}, [["b"]], {0: "v[]"}),
        ([["b"], ["a", 1]], {"mixed": "json"}, [['"b"'], ['"a"', "1"]], {}),
        ([[{"n": 1}], [{"n": 2}, {"n": "x"}]], {}, [[{"n": 1}]], {1: "v[].n"}),
        ([{"n": [1, 2]}, {"n": [3, True]}], {}, [{"n": [1, 2]}], {1: "v.n[]"}),
        ([[-1], [2**63]], {}, [[-1]], {1: "v[]"}),
        (
            [{"n": [{"f": 0.5}]}, {"n": None}, {"n": [{"f": True}]}],
            {},
            [{"n": [{"f": 0.5}]}, {"n": None}],
            {2: "v.n[].f"},
        ),
    ],
)
def test_what_does_not_go_together_within_a_list_does_not_fit_either(
    tmp_path: Path, values: list[Any], options: Any, written: list[Any], failed: dict[int, str]
) -> None:
    """No value is changed: the type that is found first holds at each depth, unless JSON text is asked for."""
    made = export(tmp_path, stream_of(tmp_path, [{"v": value} for value in values]), "out.parquet", **options)

    assert [row["v"] for row in parquet(tmp_path / "out.parquet")] == written
    assert {error["row"]: error["column"] for error in (errors(made) if failed else [])} == failed


@pytest.mark.parametrize(
    ("batches", "reads", "found"),
    [
        ([[{"n": 1, "f": 0.5}, {"f": True}], [{"n": -3, "f": 1.5}]], 1, {"n": "int64", "f": "float64"}),
        ([[{"n": 1}], [{"n": None, "t": "a"}], [{"n": 2, "t": None}]], 1, {"n": "int64", "t": "string"}),
        ([[{"n": -1}], [{"n": 2**63}]], 2, {"n": "int64"}),
        ([[{"n": 1}], [{"n": 2**63}]], 2, {"n": "uint64"}),
        ([[{"n": [1]}], [{"n": [0.5]}]], 2, {"n": {"list": "float64"}}),
    ],
)
def test_rows_are_looked_at_one_by_one_only_where_their_types_differ(
    batches: list[list[Any]], reads: int, found: dict[str, Any]
) -> None:
    begun: list[int] = []

    def read() -> Iterator[list[Any]]:
        begun.append(1)
        return iter(batches)

    types = types_of_all(read, "fail")
    assert {name: settled(type, "fail") for name, type in types.items()} == found
    assert len(begun) == reads


@pytest.mark.parametrize("name", ["{lang}-{shard}.jsonl", "{shard}.parquet"])
def test_an_export_that_an_older_version_has_begun_is_begun_anew(tmp_path: Path, name: str) -> None:
    """Its parts may have other names, and values of other types: nothing of it is left."""
    stream = stream_of(tmp_path, ROWS)
    options = ExportOptions(rows_per_shard=10)
    export(tmp_path, stream, f"whole/{name}", rows_per_shard=10)
    target = Target.of(str(tmp_path / "set" / name)).absolute()
    work = Work(target, place_of(target))
    with pytest.raises(StopRun):
        export_rows(stream, target, options, stopped=lambda: work.window(0) is not None)
    plan = work.plan()
    assert plan is not None
    del plan["rules"]
    work.begin(plan)
    for path in filter(Path.is_file, (tmp_path / "set").iterdir()):
        path.write_bytes(b"as the older version made it")
    if "{lang}" in name:
        work.note_paths(1, ["x-y-1.jsonl"])
        (tmp_path / "set/x-y-1.jsonl").write_bytes(b"in place, and not noted as done")

    export_rows(stream, target, options)
    made, fresh = files(tmp_path / "set"), files(tmp_path / "whole")
    listed = {path for path in fresh if path.endswith(".manifest")}
    assert {path: made[path] for path in made.keys() - listed} == {path: fresh[path] for path in fresh.keys() - listed}


@pytest.mark.parametrize("float_at", [1, 9_999])
def test_one_float_among_long_whole_numbers_leaves_out_no_row_but_its_own(tmp_path: Path, float_at: int) -> None:
    values: list[float] = [2**53 + 1 + n for n in range(10_000)]
    values[float_at] = 0.5
    made = export(tmp_path, stream_of(tmp_path, [{"v": value} for value in values]), "out.parquet")

    assert [row["v"] for row in parquet(tmp_path / "out.parquet")] == [value for value in values if value != 0.5]
    assert [error["row"] for error in errors(made)] == [float_at]


@pytest.mark.parametrize("long_at", [0, 1, 9_999])
def test_the_first_type_of_whole_numbers_holds_over_all_batches(tmp_path: Path, long_at: int) -> None:
    """An int64 that pyarrow finds may be negative or not: then each row is looked at."""
    values = [-1 - n for n in range(10_000)]
    values[long_at] = 2**63
    made = export(tmp_path, stream_of(tmp_path, [{"v": value} for value in values]), "out.parquet")

    kept = [row["v"] for row in parquet(tmp_path / "out.parquet")]
    assert kept == ([2**63] if long_at == 0 else [value for value in values if value < 0])
    assert made.rows + made.failed == 10_000


def test_a_column_that_the_schema_lacks_makes_the_row_fail(tmp_path: Path) -> None:
    made = export(tmp_path, stream_of(tmp_path, [{"a": 1}, {"a": 2, "b": 3}]), "out.parquet", schema={"a": "int64"})

    assert errors(made) == [
        {"_i": 1, "row": 1, "column": "b", "type": "none", "reason": "the schema has no such column"}
    ]


def test_a_row_with_a_column_of_the_name_of_ids_fails(tmp_path: Path) -> None:
    made = export(tmp_path, stream_of(tmp_path, [{"a": 1}, {"key": 2}]), "out.parquet", id_column="key")

    assert [(error["_i"], error["column"]) for error in errors(made)] == [(1, "key")]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _read_back(value: Any, type_: Any) -> Any:
    if value is None:
        return None
    if type_ == "json":
        return orjson.loads(value) if len(value) < 15 else json.loads(value)
    if isinstance(type_, dict) and "list" in type_:
        return [_read_back(each, type_["list"]) for each in value]
    if isinstance(type_, dict):
        return {name: _read_back(value.get(name), each) for name, each in type_["struct"].items()}
    return value


@given(
    rows=st.lists(st.dictionaries(st.sampled_from("xyz"), JSON, max_size=3), max_size=6),
    mixed=st.sampled_from(["fail", "json"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_back_equal_or_are_refused(tmp_path_factory: Any, rows: list[Any], mixed: Any) -> None:
    folder = tmp_path_factory.mktemp("round")
    made = export(folder, stream_of(folder, rows), "out.parquet", mixed=mixed)
    refused = {error["_i"] for error in errors(made)} if made.failed else set()
    back = parquet(folder / "out.parquet")

    assert made.columns is not None
    kept = [{"_i": str(n), **row} for n, row in enumerate(rows) if n not in refused]
    found = [{name: _read_back(value, made.columns[name]) for name, value in row.items()} for row in back]
    assert _without_nulls(found) == _without_nulls(kept)
    assert len(rows) == len(back) + len(refused)


# Again, refused, interrupted.


def test_an_export_that_is_there_is_not_made_again_and_another_one_is_refused(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, ROWS)
    export(tmp_path, stream, "out.parquet")
    before = files(tmp_path)

    assert export(tmp_path, stream, "out.parquet").was_there
    with pytest.raises(StreamExistsError, match="with other options"):
        export(tmp_path, stream, "out.parquet", keep_ids=False)
    (tmp_path / "other.csv").write_text("mine")
    with pytest.raises(StreamExistsError, match="no export made it"):
        export(tmp_path, stream, "other.csv")
    assert files(tmp_path) == before | {"other.csv": b"mine"}

    assert not export(tmp_path, stream, "out.parquet", keep_ids=False, overwrite=True).was_there
    assert parquet(tmp_path / "out.parquet") == ROWS
    with pytest.raises(StreamExistsError, match="no export made it"):
        export(tmp_path, stream, "other.csv", overwrite=True)


def test_a_part_that_was_changed_is_found(tmp_path: Path) -> None:
    made = export(tmp_path, stream_of(tmp_path, ROWS), "a/out-{shard}.jsonl", rows_per_shard=10)
    work = Work(made.target, place_of(made.target))
    Path(made.paths[1]).write_bytes(Path(made.paths[1]).read_bytes().replace(b"t1", b"t9"))
    Path(made.paths[2]).unlink()

    manifest = work.manifest()
    assert manifest is not None
    findings = check_parts(made.target, manifest, work.place)
    assert [finding.rpartition("/")[2] for finding in findings] == [
        "out-1.jsonl was changed: its checksum differs",
        "out-2.jsonl is gone",
    ]


def test_a_row_that_cannot_be_read_ends_the_export_by_name(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"_i": 0}\n{"_i": 1, "v": "\\ud800"}\n')

    with pytest.raises(StreamError, match="line 2: this is not a row: it holds half a surrogate pair"):
        export(tmp_path, JsonlStream(f"jsonl://{tmp_path}/rows.jsonl"), "out.parquet")
    assert sorted(files(tmp_path)) == ["rows.jsonl"]


def test_a_stream_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    stream = JsonlStream(f"jsonl://{tmp_path}/rows.jsonl")
    writer = stream.get_writer()
    writer.write(ROWS)
    writer.__exit__(ValueError, None, None)

    with pytest.raises(StreamError, match="is not finished"):
        export(tmp_path, stream, "out.parquet")
    assert not (tmp_path / ".out.parquet.export").exists()


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("out.xlsx", {}, "does not say a format"),
        ("out-{shard.jsonl", {}, "a brace is open"),
        ("out.parquet.gz", {}, "compressed inside"),
        ("out.parquet", {"rows_per_shard": 5}, r"has no \{shard\}"),
        ("out.jsonl", {"schema": {"a": "int64"}}, "has no columns with types"),
        ("out.parquet", {"schema": {"a": "tensor"}}, "'tensor' is no type"),
        ("out-{shard}.parquet", {"rows_per_shard": 5, "bytes_per_shard": 5}, "give one of them"),
        ("out.parquet", {"id_column": "data"}, "choose another"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_touched(
    tmp_path: Path, target: str, options: Any, said: str
) -> None:
    stream = MemoryStream("memory://refused", [{"a": 1}])
    with pytest.raises(ConfigError, match=said):
        export(tmp_path, stream, target, **options)
    stream.delete()
    assert files(tmp_path) == {}


TARGETS = {
    "csv": ("out.csv.gz", {}),
    "parquet": ("x/out-{shard}.parquet", {"rows_per_shard": 10}),
    "folder": ("hf-folder!hf", {"rows_per_shard": 15}),
    "parted": ("p/{lang}/out-{shard}.jsonl", {"rows_per_shard": 15}),
}
BAD_ROWS = [*ROWS[:12], {"text": "no list", "lang": {}, "l": 5}, *ROWS[12:]]


def _steps(folder: Path, kind: str, rows: Any = BAD_ROWS) -> tuple[dict[str, bytes], int]:
    """Return what an export makes, and how many steps it takes."""
    folder.mkdir()
    target, options = TARGETS[kind]
    stream = stream_of(folder, rows)
    with record() as storage:
        export(folder, stream, target, **options)
    return _made(folder), len(storage.hits)


def _made(folder: Path) -> dict[str, bytes]:
    return {
        name: data
        for name, data in files(folder).items()
        if not name.startswith("rows.jsonl") and not name.endswith(".manifest")
    }


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", TARGETS)
def test_wherever_an_export_is_cut_short_it_goes_on_to_the_same_files(tmp_path: Path, kind: str) -> None:
    expected, steps = _steps(tmp_path / "whole", kind)
    target, options = TARGETS[kind]
    assert steps > 20
    for number in range(1, steps + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        stream = stream_of(folder, BAD_ROWS)
        fault = Fault(operation="*", path=f"{folder}/*", hit=number, action="raise", error="ENOSPC")
        with inject(fault), contextlib.suppress(DiskError):
            export(folder, stream, target, **options)
        seen = {name: data for name, data in _made(folder).items() if "/." not in f"/{name}"}
        assert seen.items() <= expected.items()  # whatever a reader sees is whole
        assert export(folder, stream, target, **options).rows == 25 + (kind == "csv")
        assert _made(folder) == expected


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", TARGETS)
def test_wherever_the_removal_of_an_export_is_cut_short_the_next_one_takes_its_place(tmp_path: Path, kind: str) -> None:
    """Of more rows, as after a replay: also parts that the next export does not make are gone."""
    target, options = TARGETS[kind]
    fewer = BAD_ROWS[:9]
    expected, _ = _steps(tmp_path / "whole", kind, rows=fewer)
    for number in range(1, 40, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        export(folder, stream_of(folder, BAD_ROWS), target, **options)
        for path in folder.glob("rows.jsonl*"):
            path.unlink()
        stream = stream_of(folder, fewer)
        fault = Fault(operation="*", path=f"{folder}/*", hit=number, action="raise", error="ENOSPC")
        with inject(fault), contextlib.suppress(DiskError):
            export(folder, stream, target, overwrite=True, **options)
        export(folder, stream, target, overwrite=True, **options)
        assert _made(folder) == expected


KILLED = """
import json, os, sys
from pathlib import Path
import pyarrow.parquet  # once, not in each child
from llm_datagen.streams import JsonlStream
from llm_datagen.testing.storage import Fault, inject
from tests.streams.test_outputs import TARGETS, export
folders, kind = sys.argv[1:]
target, options = TARGETS[kind]
killed = 0
for number, folder in json.loads(folders):
    child = os.fork()  # a process that has imported everything, and runs no thread
    if not child:
        fault = Fault(operation="*", path=f"{folder}/*", hit=number, action="kill")
        with inject(fault):
            export(Path(folder), JsonlStream(f"jsonl://{folder}/rows.jsonl"), target, **options)
        os._exit(0)
    killed += os.waitpid(child, 0)[1] == 9
print(killed)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", TARGETS)
def test_killed_at_every_step_an_export_goes_on_to_the_same_files(tmp_path: Path, kind: str) -> None:
    expected, steps = _steps(tmp_path / "whole", kind)
    target, options = TARGETS[kind]
    folders = [(number, str(tmp_path / str(number))) for number in range(1, steps + 1, 9)]
    for _, name in folders:
        Path(name).mkdir()
        stream_of(Path(name), BAD_ROWS)
    done = programs.run(["-c", KILLED, json.dumps(folders), kind], cwd=Path(__file__).parents[2], timeout=100)
    assert int(done.stdout) > 4, done.stderr
    for _, name in folders:
        folder = Path(name)
        seen = {name: data for name, data in _made(folder).items() if "/." not in f"/{name}"}
        assert seen.items() <= expected.items()
        export(folder, JsonlStream(f"jsonl://{folder}/rows.jsonl"), target, **options)
        assert _made(folder) == expected


LATER: dict[str, dict[str, Any]] = {
    "the same": {"a": 1, "b": "x", "c": None},
    "fewer columns": {"a": 1},
    "another column": {"a": 1, "b": "x", "d": 1},
    "a type for nulls": {"a": 1, "b": "x", "c": "y"},
    "a float": {"a": 1.5, "b": "x"},
    "a long number": {"a": 1 << 63, "b": "x"},
    "what does not fit": {"a": [1], "b": "x"},
    "a deeper column": {"a": 1, "b": "x", "o": {"p": 1, "q": 2}},
    "the column of the ids": {"a": 1, "row": 1, "e": 2},
    "no object": {},
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("later", LATER)
def test_columns_that_are_guessed_by_the_first_rows_are_those_of_all(tmp_path: Path, later: str) -> None:
    """A guess spares a pass; what is made is the same, byte for byte, as of a look at all rows first."""
    rows: list[Any] = [{"a": n, "b": f"t{n}", "c": None, "o": {"p": n}} for n in range(4100)]
    rows += [LATER[later] or 7, rows[0]]
    stream = stream_of(tmp_path, rows)
    guessed = export(tmp_path, stream, "guessed.parquet", id_column="row")
    known = export(tmp_path, stream, "known.parquet", id_column="row", schema_rows=1 << 40)
    assert (guessed.rows, guessed.failed, guessed.columns) == (known.rows, known.failed, known.columns)
    assert (tmp_path / "guessed.parquet").read_bytes() == (tmp_path / "known.parquet").read_bytes()
    manifest = json.loads((tmp_path / "guessed.parquet.manifest").read_bytes())
    assert "guess" not in manifest
    if known.failed:  # what to choose is said by the options, which differ
        told = [[{**e, "reason": e["reason"].partition("; choose ")[0]} for e in errors(m)] for m in (guessed, known)]
        assert told[0] == told[1]


def test_an_export_by_a_guess_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, [{"a": n} for n in range(4100)] + [{"a": 1, "b": 2}])
    for fault in (Fault(operation="rename", path="*/out.parquet", action="raise", error="ENOSPC"), None):
        with contextlib.ExitStack() as stack:
            if fault is not None:
                stack.enter_context(pytest.raises(DiskError))
                stack.enter_context(inject(fault))
            export(tmp_path, stream, "out.parquet")
    assert parquet(tmp_path / "out.parquet")[-1] == {"_i": "4100", "a": 1, "b": 2}
