"""Exports of a case: files of other formats, looked at without the engine, at every death and at the end."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import unpacked

if TYPE_CHECKING:
    from .cases import Case
    from .model import Row

SHARD_ROWS = 7

_SHARDS = {"rows_per_shard": SHARD_ROWS}
EXPORTS: dict[str, tuple[str, dict[str, Any]]] = {
    "parquet": ("out.parquet", {}),
    "shards": ("out-{shard:05}.parquet", _SHARDS),
    "partitions": ("p={p}/out-{shard:05}.parquet", _SHARDS),
    "hf-folder": ("set/data-{shard:05}.arrow", _SHARDS),
    "csv.gz": ("out.csv.gz", {}),
    "csv-shards": ("out-{shard:05}.csv", _SHARDS),
    "jsonl.zst": ("out-{shard:05}.jsonl.zst", _SHARDS),
    "jsonl.xz": ("out.jsonl.xz", {}),
}
"""The kinds: how the parts are called, below a folder of its own, and the options."""

_HF_FILES = ["set.manifest", "set/_SUCCESS", "set/state.json", "set/dataset_info.json"]


def _folder_of(folder: Path, kind: str) -> Path:
    return folder / "exports" / kind


def _target_of(folder: Path, kind: str) -> dict[str, Any]:
    parts, options = EXPORTS[kind]
    place = _folder_of(folder, kind)
    return {"to": f"hf-folder:{place / 'set'}" if kind == "hf-folder" else str(place / parts), **options}


def settings(case: Case, folder: Path) -> dict[str, Any]:
    """Return what the pipeline of a case is told of its output and its exports."""
    targets = [_target_of(folder, kind) for kind in case.exports]
    if not case.is_exported:
        return {"output_uri": f"{case.output}://{case.output_path(folder)}", "also": targets or None}
    first = dict(targets[0])
    return {"output_uri": first.pop("to"), "export_options": first or None, "also": targets[1:] or None}


def is_under_way(folder: Path) -> bool:
    """Return whether an export was begun, and is not finished."""
    return any((folder / "exports").rglob("plan.json"))


def torn(case: Case, folder: Path) -> list[str]:
    """Return what a reader would trip over now: visible files that are not whole, and a list of parts that lies."""
    found = []
    for kind in case.exports:
        place = _folder_of(folder, kind)
        try:
            for path in _visible(place):
                _rows_of(path)
            lists = list(place.glob("*.manifest"))
            if not lists and list(place.rglob("_SUCCESS")):
                found.append(f"{kind}: _SUCCESS without a list of parts")
            gone = [name for path in lists for name in _listed(path) if not (place / name).is_file()]
            if gone:
                found.append(f"{kind}: {gone} are listed, and not there")
        except Exception as error:  # noqa: BLE001 - whatever cannot be read is a finding
            found.append(f"{kind}: a reader finds a file that is not whole: {error!r}")
    return found


def problems(case: Case, folder: Path, rows: Sequence[Row]) -> list[str]:
    """Return what is wrong with the exports of a run that has ended.

    Args:
        case: the case.
        folder: where it is.
        rows: the rows of its last stream, in their order.
    """
    found = torn(case, folder)
    if found:
        return found
    for kind in case.exports:
        place = _folder_of(folder, kind)
        there = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
        parts = _expected(kind, rows)
        wanted = {*parts, *_beside(kind)}
        if there != wanted:
            found.append(f"{kind}: {sorted(there - wanted)} are too many, {sorted(wanted - there)} are missing")
            continue
        found += [
            f"{kind}: {name} has other rows than the stream"
            for name, expected in parts.items()
            if _rows_of(place / name) != expected
        ]
        listed = _listed(next(place.glob("*.manifest")))
        if sorted(listed) != sorted(parts):
            found.append(f"{kind}: the list names {listed}")
    return found


def _expected(kind: str, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each part: a shard is a number of rows of the stream, whatever partition they are in."""
    name, options = EXPORTS[kind]
    size = options.get("rows_per_shard") or max(1, len(rows))
    parts: dict[str, list[Row]] = {}
    for number, first in enumerate(range(0, max(1, len(rows)), size)):
        shard = list(rows[first : first + size])
        if kind != "partitions":
            parts[name.format(shard=number)] = shard
            continue
        for row in shard:
            parts.setdefault(name.format(shard=number, **row[1]), []).append(row)
    return parts


def _beside(kind: str) -> list[str]:
    name, options = EXPORTS[kind]
    if kind == "hf-folder":
        return _HF_FILES
    base = Path(name).name.replace("-{shard:05}", "")
    return [f".{base}.manifest", "_SUCCESS"] if options else [f"{base}.manifest"]


def _listed(path: Path) -> list[str]:
    """Return the parts that a list names, as paths that count from its folder."""
    inside = Path("set" if path.name == "set.manifest" else "")
    return [str(inside / part["path"]) for part in json.loads(path.read_bytes())["parts"]]


def _visible(place: Path) -> Iterator[Path]:
    for path in place.rglob("*"):
        names = path.relative_to(place).parts
        if path.is_file() and not any(name.startswith((".", "_")) for name in names) and path.suffix != ".manifest":
            yield path


def _rows_of(path: Path) -> list[Row]:
    """Return the rows of a part, with their ids as text; of a file that is about parts, none."""
    found: list[dict[str, Any]]
    match path.suffix:
        case ".parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(path, memory_map=False) as file:  # no threads, since children are forked here
                found = file.read(use_threads=False).to_pylist()
        case ".arrow":
            import pyarrow as pa

            with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as batches:
                found = [row for batch in batches for row in batch.to_pylist()]
        case ".json":
            json.loads(path.read_bytes())
            return []
        case _:
            data = unpacked(path)
            if ".csv" in path.suffixes:
                found = list(csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True))
            elif data and not data.endswith(b"\n"):
                raise ValueError(f"{path} ends within a line")
            else:
                found = [json.loads(line) for line in data.splitlines()]
    return [(str(row.pop("_i")), row) for row in found]
