"""The plain loop: what one would write by hand, and what the engine is compared with."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from .job import Job
from .operators import OPERATORS

_BLOCK = 1 << 20


def run(job: Job) -> dict[str, Any]:
    """Do a job.

    Returns:
        `seconds`, the rows, and how long an `fsync` of the result took after that.
    """
    began = time.perf_counter()
    rows = _csv(job) if job.output.suffix == ".csv" else _jsonl(job)
    seconds = time.perf_counter() - began
    fd = os.open(job.output, os.O_RDWR)
    began = time.perf_counter()
    os.fsync(fd)
    synced = time.perf_counter() - began
    os.close(fd)
    return {"seconds": seconds, "fsync": synced, "rows": rows}


def _function(job: Job) -> tuple[Callable[[Any], Any], bool]:
    operators = [OPERATORS[name] for name in job.operators]
    if len(operators) == 1:
        return operators[0].function, operators[0].is_wide
    functions = [operator.function for operator in operators]
    assert not any(operator.is_wide for operator in operators), "the plain loop chains only operators that keep rows"

    def chain(row: Any) -> Any:
        for function in functions:
            row = function(row)
        return row

    return chain, False


def _jsonl(job: Job) -> int:
    function, is_wide = _function(job)
    is_filter = any(OPERATORS[name].is_filter for name in job.operators)
    loads, dumps, newline = orjson.loads, orjson.dumps, orjson.OPT_APPEND_NEWLINE
    number = written = 0
    with Path(job.input).open("rb") as reader, job.output.open("wb", buffering=_BLOCK) as writer:
        rest = b""
        write = writer.write
        while block := reader.read(_BLOCK):
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            for line in lines:
                row = loads(line)
                row["_i"] = number
                result = function(row)
                if is_wide:
                    k = 0
                    for child in result:
                        child["_i"] = f"{number}_{k}"
                        k += 1
                        write(dumps(child, None, newline))
                    written += k
                elif is_filter:
                    if result is not None:
                        written += 1
                        write(dumps(result, None, newline))
                else:
                    result["_i"] = number
                    write(dumps(result, None, newline))
                number += 1
    return written if is_wide or is_filter else number


def _csv(job: Job) -> int:
    function, _ = _function(job)
    number = 0
    with (
        Path(job.input).open(encoding="utf-8", newline="") as reader,
        job.output.open("w", buffering=_BLOCK, encoding="utf-8", newline="") as file,
    ):
        records: Iterable[list[str]] = csv.reader(reader)
        columns = next(iter(records))
        writer = csv.writer(file, lineterminator="\n")
        for cells in records:
            row: dict[str, Any] = dict(zip(columns, cells, strict=True))
            row["_i"] = number
            result = function(row)
            result["_i"] = number
            if not number:
                writer.writerow(result.keys())
            writer.writerow(result.values())
            number += 1
    return number
