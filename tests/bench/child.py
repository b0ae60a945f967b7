"""The process that is measured: ``python -m tests.bench.child JOB`` does one job, and says what it took as JSON."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

from .job import Job, UnsupportedError


def peak_mb() -> float:
    """Return the most memory that this process has had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent had when it started this process
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def do(job: Job) -> dict[str, Any]:
    """Do a job in this process.

    Raises:
        UnsupportedError: when it cannot be done here.
    """
    if job.what == "plain":
        from . import plain

        return plain.run(job)
    if job.what == "datatrove":
        from . import trove

        return trove.run(job)
    from . import engine

    if job.what == "begin":
        return engine.begin(job)
    if job.what == "resume":
        return engine.resume(job)
    return engine.run(job)


def main() -> None:
    """Do the job in the arguments."""
    try:
        result = do(Job.from_json(sys.argv[1]))
    except UnsupportedError as error:
        result = {"skipped": str(error)}
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({**result, "cpu": used.ru_utime + used.ru_stime, "peak": peak_mb()}))


if __name__ == "__main__":
    main()
