"""What lies on disk, read without the engine."""

from __future__ import annotations

import bz2
import csv
import gzip
import importlib
import io
import json
import lzma
from pathlib import Path
from typing import Any

from llm_datagen.runs.verify import verify

from .model import Fate, Row

EXPECTED_OF = ("rows_in", "rows_out", "skipped", "dead_letters")


def run_state_problems(run_state: dict[str, Any], wanted: list[Fate]) -> list[str]:
    found = [f"verify: {what}" for account in verify(run_state) for what in account.findings]
    if run_state["status"] != "completed":
        found.append(f"runtime.json says {run_state['status']}")
    for node, fate in zip(run_state["nodes"], wanted, strict=True):
        there = tuple(node[name] for name in EXPECTED_OF)
        right = (fate.rows_in, len(fate.rows), fate.skipped, fate.dead_letters.total())
        if there != right:
            found.append(f"runtime.json: {node['node_id']} has in, out, skipped, dead {there}, not {right}")
    return found


def unpacked(path: Path) -> bytes:
    """Return what a file holds, unpacked by other programs' readers; a member that is cut short is an error."""
    data = path.read_bytes()
    if path.suffix == ".zst":
        return bytes(importlib.import_module("backports.zstd").decompress(data))
    module: Any = {".gz": gzip, ".bz2": bz2, ".xz": lzma}.get(path.suffix)
    return bytes(module.decompress(data)) if module else data


def whole_lines(path: Path) -> list[bytes]:
    """Return the whole lines of a file; none when it is not there."""
    data = path.read_bytes() if path.exists() else b""
    return [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]


def rows_in(path: Path, data: bytes) -> list[Row]:
    """Return the rows of a file, read without the engine."""
    found: list[dict[str, Any]]
    if ".csv" in path.suffixes:
        found = list(csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)) if data else []
    else:
        found = [json.loads(line) for line in data.splitlines()]
    rows: list[Row] = []
    for row in found:
        if None in row or None in row.values():
            raise ValueError(f"a row has too many or too few cells: {row}")
        rows.append((str(row["_i"]), {key: value for key, value in row.items() if key != "_i"}))
    return rows


def key_of(row_id: str, row: dict[str, Any]) -> str:
    return json.dumps([row_id, row], sort_keys=True)
