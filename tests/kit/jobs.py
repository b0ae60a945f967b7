"""Jobs that can be killed: a script whose only argument is a JSON object, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .programs import Program
from .support import worker_processes


class Jobs:
    """Runs a script, once a job.

    Args:
        script: a Python program; it gets its job as JSON.

    Attributes:
        orphans: the worker processes that jobs had when they were killed.
    """

    def __init__(self, script: Path) -> None:
        self._script = script
        self._running: dict[int, Program] = {}
        self.orphans: set[int] = set()

    def start(self, job: dict[str, Any]) -> int:
        """Start a job; return its pid."""
        program = Program([self._script, json.dumps(job)])
        self._running[program.pid] = program
        return program.pid

    def wait(self, pid: int) -> int:
        """Wait for a job to end; return its exit status, negative for the signal that ended it."""
        return self._running.pop(pid).wait()

    def run(self, job: dict[str, Any]) -> int:
        """Start a job and wait for its end."""
        return self.wait(self.start(job))

    def kill(self, pid: int) -> int:
        """`kill -9` a job, and wait until it is gone; return its exit status: it may have ended before."""
        self.orphans.update(worker_processes(pid))
        self._running[pid].kill()
        return self.wait(pid)
