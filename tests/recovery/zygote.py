"""The other end of `job.py`: starting jobs, killing them, and seeing what they left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..support import bag, eventually, lines, stored, worker_processes
from .job import expected

JOB = Path(__file__).with_name("job.py")


class Zygote:
    """A process that has imported the package, and forks a child for every job."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(JOB), "--zygote"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.orphans: set[int] = set()
        """The worker processes that jobs had when they were killed."""

    def _ask(self, request: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, job: dict[str, Any]) -> int:
        """Start a job; return its pid."""
        return self._ask(job)

    def wait(self, pid: int) -> int:
        """Wait for a job to end; return its exit status, negative for the signal that ended it."""
        return os.waitstatus_to_exitcode(self._ask(pid))

    def run(self, job: dict[str, Any]) -> int:
        """Start a job and wait for its end."""
        return self.wait(self.start(job))

    def kill(self, pid: int) -> None:
        """`kill -9` a job, and wait until it is gone."""
        self.orphans.update(worker_processes(pid))
        os.kill(pid, signal.SIGKILL)
        self.wait(pid)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


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
    """See to it that a finished job has made exactly the rows that it must make."""
    path, found = output_of(job), rows_of(job)
    wanted = expected(rows)
    if not job.get("keep_ids", True):
        wanted = [{key: value for key, value in row.items() if key != "_i"} for row in wanted]
        assert bag(lines(Path(f"{path}.rows"))) == bag(expected(rows))
    assert bag(found) == bag(wanted)
    assert not Path(f"{path}.commits").exists()
