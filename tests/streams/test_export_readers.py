"""Exports of each kind, read by other programs: the same rows, of the same types."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from llm_datagen import StreamFactory
from llm_datagen.streams import JsonlStream, Stream
from llm_datagen.streams.outputs import ExportOptions, Target, export_rows

from .storages import read_now

pytestmark = pytest.mark.slow

ROWS: list[dict[str, Any]] = [
    {
        "n": 2**53 + n,
        "text": f"ü 😀 {n}\n,\"'",
        "score": n / 3,
        "good": n % 2 == 0,
        "lang": ("en", "de/at", None)[n % 3],
        "tags": [f"t{n}", None] if n % 4 else [],
        "deep": [{"a": [n], "b": {"c": None if n % 2 else "x"}}],
        "none": None if n % 5 else n,
    }
    for n in range(40)
]
"""Rows as JSON has them."""

MOMENT = dt.datetime(2024, 1, 31, 12, 0, 0, 123456, tzinfo=dt.UTC)
TYPED: list[dict[str, Any]] = [
    {**row, "at": MOMENT + dt.timedelta(days=n), "day": dt.date(2024, 1, 1), "cost": Decimal("0.10"), "raw": b"\0\xff"}
    for n, row in enumerate(ROWS)
]
"""The same with columns whose types a schema says."""

SCHEMA = {
    "n": "int64",
    "text": "string",
    "score": "float64",
    "good": "bool",
    "lang": "string",
    "tags": "list<string>",
    "deep": {"list": {"struct": {"a": "list<int64>", "b": {"struct": {"c": "string"}}}}},
    "none": "int32",
    "at": "timestamp[us, UTC]",
    "day": "date",
    "cost": "decimal(10, 2)",
    "raw": "binary",
}
PLAIN = ("n", "text", "score", "good")
"""The columns that CSV tells the types of."""


def export(folder: Path, target: str, **options: Any) -> Path:
    """Export the rows, and return the folder that the target is in."""
    stream = JsonlStream(f"jsonl://{folder}/rows.jsonl")
    if stream.size() is None:
        of_text = {"day": "2024-01-01", "cost": "0.10", "raw": "AP8="}
        with stream.get_writer() as writer:
            writer.write(
                [
                    {**row, **of_text, "at": typed["at"].isoformat()} if "schema" in options else row
                    for row, typed in zip(ROWS, TYPED, strict=True)
                ]
            )
    kind, colon, path = target.partition("!")
    text = f"{kind}:{folder / path}" if colon else str(folder / target)
    made = export_rows(stream, Target.of(text), ExportOptions.of({"keep_ids": False, **options}))
    assert (made.rows, made.failed) == (len(ROWS), 0)
    return (folder / (path or target)).parent


def sorted_rows(rows: Any) -> list[dict[str, Any]]:
    """Return rows by their number, and columns by their names."""
    return [dict(sorted(row.items())) for row in sorted(rows, key=lambda row: row["n"])]


def by_pyarrow(paths: list[str], kind: str) -> Any:
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.json as pj
    import pyarrow.parquet as pq

    if kind == "arrow":
        return [row for path in paths for row in pa.ipc.open_stream(Path(path).read_bytes()).read_all().to_pylist()]
    if kind == "parquet":
        return [row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]
    if kind == "csv":
        return pc.read_csv(paths[0], parse_options=pc.ParseOptions(newlines_in_values=True)).to_pylist()
    return [row for path in paths for row in pj.read_json(pa.input_stream(path)).to_pylist()]


def by_polars(paths: list[str], kind: str) -> Any:
    import polars as pl

    read: Callable[..., Any] = {
        "parquet": lambda path: pl.read_parquet(path, hive_partitioning=False),
        "arrow": pl.read_ipc_stream,
        "csv": lambda path: pl.read_csv(path, infer_schema_length=None),
        "jsonl": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    }[kind]
    return [row for path in paths for row in read(path).to_dicts()]


def by_duckdb(paths: list[str], kind: str) -> Any:
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    if kind == "arrow":
        table = pa.concat_tables([pa.ipc.open_stream(Path(path).read_bytes()).read_all() for path in paths])
        return connection.from_arrow(table).to_arrow_table().to_pylist()
    calls = {"parquet": "read_parquet({}, hive_partitioning = false)", "csv": "read_csv({})", "jsonl": "read_json({})"}
    return connection.sql(f"from {calls[kind].format(paths)}").to_arrow_table().to_pylist()


def by_pandas(paths: list[str], kind: str) -> Any:
    import pandas as pd
    import pyarrow as pa

    read: Callable[..., Any] = {
        "parquet": pd.read_parquet,
        "csv": pd.read_csv,
        "jsonl": lambda path, **options: pd.read_json(path, lines=True, precise_float=True, **options),
    }.get(kind, lambda path, **_: pa.ipc.open_stream(Path(path).read_bytes()).read_pandas(types_mapper=pd.ArrowDtype))
    frames = [read(path, dtype_backend="pyarrow") for path in paths]
    return pa.concat_tables(
        [pa.Table.from_pandas(frame, preserve_index=False) for frame in frames], promote_options="permissive"
    ).to_pylist()


def by_datasets(paths: list[str], kind: str) -> Any:
    import datasets

    name = {"jsonl": "json"}.get(kind, kind)
    return datasets.load_dataset(name, data_files=paths, split="train", cache_dir=str(Path(paths[0]).parent / ".cache"))


READERS = {reader.__name__: reader for reader in (by_pyarrow, by_polars, by_duckdb, by_pandas, by_datasets)}
readers = pytest.mark.parametrize("reader", READERS)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let `datasets` ask no hub, and keep nothing outside the folder of the tests."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.getbasetemp() / "hf"))


@readers
@pytest.mark.parametrize(
    ("target", "pattern"),
    [
        ("out.parquet", "out.parquet"),
        ("out-{shard:05}.parquet", "*.parquet"),
        ("lang={lang}/{shard}.parquet", "lang=*/*.parquet"),
        ("hf-folder!set/here", "here/*.arrow"),
    ],
)
def test_typed_columns_are_the_same(tmp_path: Path, reader: str, target: str, pattern: str) -> None:
    shards = {"rows_per_shard": 15} if "out.parquet" not in target else {}
    folder = export(tmp_path / "x", target, schema=SCHEMA, **shards)
    paths = sorted(map(str, (folder if "{lang}" not in target else tmp_path / "x").glob(pattern)))
    found = READERS[reader](paths, "arrow" if "hf" in target else "parquet")
    assert sorted_rows(found) == sorted_rows(TYPED)


@pytest.mark.parametrize(
    ("reader", "ending"),
    [
        (reader, ending)
        for reader in READERS
        for ending in ("jsonl", "jsonl.gz", "jsonl.zst")
        if (reader, ending) != ("by_pandas", "jsonl.zst")  # for which pandas needs another library
    ],
)
def test_lines_are_the_same(tmp_path: Path, reader: str, ending: str) -> None:
    folder = export(tmp_path / "x", f"out-{{shard}}.{ending}", rows_per_shard=15)
    found = READERS[reader](sorted(map(str, folder.glob(f"out-*.{ending}"))), "jsonl")
    assert sorted_rows(found) == sorted_rows(ROWS)


@readers
@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_plain_cells_are_the_same(tmp_path: Path, reader: str, ending: str) -> None:
    folder = export(tmp_path / "x", f"out.{ending}")
    found = READERS[reader]([str(folder / f"out.{ending}")], "csv")
    assert [[row[name] for name in PLAIN] for row in found] == [[row[name] for name in PLAIN] for row in ROWS]


def test_a_saved_folder_is_loaded_from_disk(tmp_path: Path) -> None:
    import datasets

    export(tmp_path, "hf-folder!set", schema=SCHEMA, rows_per_shard=15)
    loaded = datasets.load_from_disk(str(tmp_path / "set"))
    assert sorted_rows(loaded) == sorted_rows(TYPED)
    assert str(loaded.features["at"]) == "Value('timestamp[us, tz=UTC]')"


def test_a_folder_of_shards_is_read_as_one_set(tmp_path: Path) -> None:
    import datasets
    import pandas as pd
    import polars as pl
    import pyarrow.dataset as pads

    stream = JsonlStream(f"jsonl://{tmp_path}/rows.jsonl")
    with stream.get_writer() as writer:
        writer.write([*ROWS, {"n": "a row that does not fit"}])
    target = Target.of(str(tmp_path / "set" / "train-{shard:05}.parquet"))
    made = export_rows(stream, target, ExportOptions(keep_ids=False, rows_per_shard=15))
    assert (made.failed, Path(str(made.errors_path)).exists()) == (1, True)

    folder = str(tmp_path / "set")
    found = datasets.load_dataset(folder, cache_dir=str(tmp_path / "cache"))
    assert sorted_rows(found["train"]) == sorted_rows(ROWS)
    assert sorted_rows(pads.dataset(folder).to_table().to_pylist()) == sorted_rows(ROWS)
    assert pd.read_parquet(folder)["n"].tolist() == [row["n"] for row in ROWS]
    assert sorted_rows(pl.read_parquet(f"{folder}/*.parquet").to_dicts()) == sorted_rows(ROWS)


def test_what_datasets_has_saved_is_read_with_its_features(tmp_path: Path) -> None:
    import datasets
    import pyarrow as pa

    features = datasets.Features(
        {
            "matrix": datasets.Array2D((2, 2), "int32"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "at": datasets.Value("timestamp[us, tz=UTC]"),
            "chat": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
        }
    )
    row = {"matrix": [[1, 2], [3, 4]], "label": "yes", "at": MOMENT, "chat": [{"role": "user", "content": "hi"}]}
    datasets.Dataset.from_list([row], features=features).save_to_disk(str(tmp_path / "set"))
    (found,) = [row for _, row in read_now(cast(Stream, StreamFactory.source(str(tmp_path / "set"))))]
    assert found == {**row, "label": 1, "at": "2024-01-31T12:00:00.123456Z"}

    image = pa.table({"image": [{"bytes": b"\x89PNG", "path": None}]})
    datasets.Dataset(image).cast_column("image", datasets.Image(decode=False)).to_parquet(tmp_path / "image.parquet")
    (found,) = [row for _, row in read_now(StreamFactory.create(str(tmp_path / "image.parquet")))]
    assert found == {"image": {"bytes": "iVBORw==", "path": None}}
