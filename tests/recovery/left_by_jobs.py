"""What the jobs of `job.py` have said, and left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..kit.support import bag, eventually, lines, stored
from .job import expected

JOB = Path(__file__).with_name("job.py")


def said(job: dict[str, Any]) -> str:
    """Return what a job has said."""
    path = Path(job["folder"], "said")
    return path.read_text() if path.exists() else ""


def output_of(job: dict[str, Any]) -> Path:
    """Return the path of a job's output."""
    return Path(job["folder"], f"out.{job.get('protocol', 'jsonl')}")


def committed(path: Path) -> int:
    """Return how many rows of an unfinished stream are committed; all rows of a sealed one."""
    seal, log = Path(f"{path}.done"), Path(f"{path}.commits")
    try:
        data = b"" if seal.exists() else log.read_bytes()
    except FileNotFoundError:  # not begun; or sealed this moment
        data = b""
    if seal.exists():
        return int(json.loads(seal.read_bytes())["rows"])
    whole = data[: data.rfind(b"\n") + 1].splitlines()
    return int(json.loads(whole[-1][18:])["rows"]) if len(whole) > 1 else 0


def wait_for_rows(job: dict[str, Any], rows: int) -> None:
    """Wait until so many rows of the output are committed, or the job is done."""
    path = output_of(job)
    eventually(lambda: committed(path) >= rows or Path(f"{path}.done").exists(), f"{rows} rows in {path}")


def calls_of(job: dict[str, Any]) -> list[str]:
    """Return the calls that the operators of a job have had, in order."""
    return Path(job["folder"], "calls").read_text().split()


def rows_of(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a job's output."""
    path = output_of(job)
    if path.suffix == ".jsonl":
        return lines(path)
    return [{**row, "n": int(row["n"]), "k": int(row["k"])} for row in stored(f"csv://{path}")]


def check_rows(job: dict[str, Any], rows: int) -> None:
    """Make sure that a finished job has made exactly the rows that it must make."""
    path, found = output_of(job), rows_of(job)
    wanted = expected(rows)
    if not job.get("keep_ids", True):
        wanted = [{key: value for key, value in row.items() if key != "_i"} for row in wanted]
        assert bag(lines(Path(f"{path}.rows"))) == bag(expected(rows))
    assert bag(found) == bag(wanted)
    assert not Path(f"{path}.commits").exists()
