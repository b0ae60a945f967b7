"""Inputs of every kind: written to a folder as other programs write them, or given to the pipeline."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_datagen.streams.storage.compression import compression_of

if TYPE_CHECKING:
    from .cases import Case

SOURCES = ("jsonl", "json-array", "parquet", "arrow", "memory", "stdin")
"""The kinds: JSON lines and arrays (which may be compressed), tables, rows of a program, standard input."""

TABLES = ("parquet", "arrow")

GROUP_ROWS = 20
"""Rows of a row group, or of a batch, of a table."""

_ENDINGS = {"json-array": "json", "parquet": "parquet", "arrow": "arrow"}


def has_lines(source: str) -> bool:
    """Return whether a source is lines of text, so that a line of it may be no row."""
    return source in {"jsonl", "stdin"}


def path_of(case: Case, folder: Path, file: str = "*") -> Path:
    """Return where the input of a case lies; of many files the pattern, or the path of one."""
    ending = _ENDINGS.get(case.source, "jsonl") + (case.compression if case.source in {"jsonl", "json-array"} else "")
    return folder / f"{'in' if case.files == 1 else f'in/{file}'}.{ending}"


def write(case: Case, folder: Path) -> None:
    """Write the files of the input of a case; some may be without rows. Rows of a program are no file."""
    rows = case.input_rows()
    for number in range(case.files):
        path = path_of(case, folder, f"{number:04}")
        path.parent.mkdir(exist_ok=True)
        _write_file(case, path, rows[number * len(rows) // case.files : (number + 1) * len(rows) // case.files])


def _write_file(case: Case, path: Path, rows: Sequence[dict[str, str] | str]) -> None:
    if case.source in TABLES:
        _write_table(path, rows)
        return
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    text = (f"[{', '.join(lines)}]\n" if case.source == "json-array" else "".join(f"{x}\n" for x in lines)).encode()
    pack = compression_of(case.compression).compress if case.compression and case.source != "stdin" else bytes
    half = len(text) // 2
    path.write_bytes(pack(text[:half]) + pack(text[half:]))


def _write_table(path: Path, rows: Sequence[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in (rows or [{"k": ""}])[0]]))
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=GROUP_ROWS)
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, GROUP_ROWS)


def settings(case: Case, folder: Path) -> dict[str, Any]:
    """Return what the pipeline of a case is told of its input."""
    if case.source == "memory":
        return {"input": (row for row in case.input_rows())}
    if case.source == "stdin":
        return {"input_uri": "-"}
    protocol = {"json-array": "json"}.get(case.source, case.source)
    return {"input_uri": f"{protocol}://{path_of(case, folder)}"}


def open_standard_input(case: Case, folder: Path) -> None:
    """Make the input of a case the standard input of this process, where it is one that is read from there."""
    if case.source == "stdin":
        descriptor = os.open(path_of(case, folder), os.O_RDONLY)
        os.dup2(descriptor, 0)
        os.close(descriptor)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it lives as long as the process
