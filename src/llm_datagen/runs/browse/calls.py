"""The model calls of a run, as they are kept in its folder: what was asked about which row, and what came back.

    files/calls/node_1.<when>-<process>.jsonl      being written: a line per call, before its row goes on
    files/calls/node_1.<when>-<process>.jsonl.gz   the same, full
    files/calls/node_1.<when>-<process>.ids        checksums of the ids of its rows: whether to look into it

A line begins with the id: ``{"row": 12, "at": …, "call": {…}}``; with a list of ids where a call was about a batch.
Who writes them is `llm.answers.call_log`. A line that was torn by a crash is passed over.
"""

from __future__ import annotations

import gzip
import zlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote

from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.ids import Id

FOLDER = "calls"
LINES, PACKED, IDS = ".jsonl", ".jsonl.gz", ".ids"

_BEFORE_ID = b'{"row":'
_BEHIND_ID = b',"at":"'


def name_of(node_id: str) -> str:
    """Return how the names of the files of a node begin."""
    return quote(node_id, safe="").replace(".", "%2E") + "."


def call_line(rows: tuple[Id, ...], at: str, call: dict[str, Any]) -> bytes:
    """Return a call as a line."""
    return dumps({"row": rows[0] if len(rows) == 1 else list(rows), "at": at, "call": call}) + b"\n"


def checksums_of(line: bytes) -> list[int]:
    """Return the checksums of the ids of a line's rows; none of a torn one."""
    key = _key_of(line)
    if key is None:
        return []
    ids: Iterable[Id] = loads_exactly(key) if key.startswith(b"[") else ()
    return [_checksum(dumps(row_id)) for row_id in ids] or [_checksum(key)]


def calls_of(folder: Path, node_id: str, row_ids: Iterable[Id]) -> dict[Id, list[dict[str, Any]]]:
    """Return the calls that a node has made about some rows, in the order in which they ended, each with when (``at``).

    Full files that hold none of the rows are not unpacked.

    Args:
        folder: where the operators of the run keep their files.
        node_id: the node.
        row_ids: the ids that rows have in its source.
    """
    keys = {dumps(row_id): row_id for row_id in row_ids}
    sums = {_checksum(key) for key in keys}
    found: dict[Id, list[dict[str, Any]]] = {}
    for path in _files_of(folder, node_id) if keys else ():
        if not _may_hold(path, sums):
            continue
        for line in _lines(path):
            key = _key_of(line)
            if key is None or (key not in keys and not key.startswith(b"[")):
                continue
            try:
                value = loads_exactly(line)
                ids = value["row"] if key.startswith(b"[") else [value["row"]]
                call = {"at": value["at"], **value["call"]}
                for row_id in ids:
                    if dumps(row_id) in keys:
                        found.setdefault(row_id, []).append(call)
            except (ValueError, KeyError, TypeError):
                continue
    return {row_id: sorted(calls, key=_when) for row_id, calls in found.items()}


def _when(call: dict[str, Any]) -> str:
    return str(call["at"])


def _files_of(folder: Path, node_id: str) -> list[Path]:
    """Return the files of a node; of one that is just being packed, the new or the old one."""
    begin = name_of(node_id)
    files: dict[str, Path] = {}
    for path in sorted((folder / FOLDER).glob(f"{begin.replace('[', '[[]')}*")):
        if path.name.endswith((LINES, PACKED)):
            files[path.name.removesuffix(".gz")] = path
    return list(files.values())


def _may_hold(path: Path, sums: set[int]) -> bool:
    if not path.name.endswith(PACKED):
        return True
    try:
        known = array("I", path.with_name(path.name.removesuffix(PACKED) + IDS).read_bytes())
    except (OSError, ValueError):
        return True
    return not sums.isdisjoint(known)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with cast(IO[bytes], gzip.open(path) if path.name.endswith(PACKED) else path.open("rb")) as file:
            yield from file
    except (OSError, EOFError, zlib.error):
        return  # it was removed meanwhile, as the oldest; or is damaged from there on


def _key_of(line: bytes) -> bytes | None:
    end = line.find(_BEHIND_ID)
    return line[len(_BEFORE_ID) : end] if end > 0 and line.startswith(_BEFORE_ID) else None


def _checksum(key: bytes) -> int:
    return zlib.crc32(key)
