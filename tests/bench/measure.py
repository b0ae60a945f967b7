"""Starting the processes that are measured, and reading off what they took."""

from __future__ import annotations

import compileall
import json
import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from .job import Job, UnsupportedError

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 1800.0
_LOOK_SECONDS = 0.05

Sample = dict[str, float]
"""What one process took: `work`, `process`, `cpu` in seconds, `peak` in MB, `rows`, and more for some jobs."""


@dataclass(frozen=True, slots=True)
class Side:
    """Which code runs: an interpreter and a tree of the engine.

    Attributes:
        python: the interpreter.
        source: the `src` folder of the engine.
    """

    python: str = sys.executable
    source: Path = ROOT / "src"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        return {**os.environ, "PYTHONPATH": f"{self.source}{os.pathsep}{ROOT}"}

    def compile(self) -> None:
        """Compile the engine, as an installed package is: else some revisions would pay for it and others not."""
        compileall.compile_dir(self.source, quiet=2)
        compileall.compile_dir(Path(__file__).parent, quiet=2)


def sample(job: Job, side: Side) -> Sample:
    """Do a job in a process of its own.

    Raises:
        UnsupportedError: when it cannot be done.
        RuntimeError: when it fails, with what the process said.
    """
    if job.what in {"bare", "import"}:
        code = "pass" if job.what == "bare" else "import llm_datagen"
        return _finished(_Process([side.python, "-c", code], side))
    if job.what == "first_row":
        return _first_row(job, side)
    process = _Process([side.python, "-m", f"{__package__}.child", job.as_json()], side, with_workers=job.has_workers)
    found = _finished(process)
    said = json.loads(process.said.splitlines()[-1])
    if "skipped" in said:
        raise UnsupportedError(said["skipped"])
    source = said.pop("source", None)
    if source is not None and not Path(source).is_relative_to(side.source):
        raise RuntimeError(f"{source} was measured, not what is in {side.source}")
    said["work"] = said.pop("seconds")
    return {
        **said,
        "process": found["process"],
        "cpu": said["cpu"] + process.workers_cpu,
        "peak": max(said["peak"], process.peak),
    }


def cpu_of(command: list[str], side: Side) -> float:
    """Return the processor seconds of a process, from its start to its end.

    Raises:
        RuntimeError: when it fails, with what the process said.
    """
    return _finished(_Process(command, side))["cpu"]


class _Process:
    """A process that runs; with `with_workers`, its children are looked at while it does."""

    def __init__(self, command: list[str], side: Side, *, with_workers: bool = False) -> None:
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            command, env=side.environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said = ""
        self.seconds = 0.0
        self.peak = 0.0
        self._cpu: dict[int, float] = {}
        self._watcher = threading.Thread(target=self._watch) if with_workers else None
        if self._watcher is not None:
            self._watcher.start()

    @property
    def workers_cpu(self) -> float:
        """The processor time of its children, and theirs, when they were last seen."""
        return sum(self._cpu.values())

    def finish(self) -> None:
        """Wait for its end."""
        try:
            self.said, errors = self._process.communicate(timeout=LIMIT_SECONDS)
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise
        self.seconds = time.monotonic() - self.began
        if self._watcher is not None:
            self._watcher.join()
        if self._process.returncode:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.returncode}:\n{errors}")

    def _watch(self) -> None:
        try:
            parent = psutil.Process(self._process.pid)
            while self._process.returncode is None:
                family = [parent, *parent.children(recursive=True)]
                memory = 0
                for each in family:
                    try:
                        memory += each.memory_info().rss
                        if each is not parent:
                            times = each.cpu_times()
                            self._cpu[each.pid] = times.user + times.system
                    except psutil.Error:
                        continue
                self.peak = max(self.peak, memory / 1e6)
                time.sleep(_LOOK_SECONDS)
        except psutil.Error:  # it has ended
            return


def _finished(process: _Process) -> Sample:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process.finish()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"work": process.seconds, "process": process.seconds, "cpu": cpu}


def _first_row(job: Job, side: Side) -> Sample:
    """Return how long after its start a process has a row on disk, and a commit that speaks of it."""
    script = Path(__file__).with_name("first_row.py")
    process = _Process([side.python, str(script), job.input, job.folder], side)
    output = Path(job.folder, "out.jsonl")
    log = Path(job.folder, "out.jsonl.commits")
    seconds = None
    while seconds is None and time.monotonic() < process.began + LIMIT_SECONDS:
        if _lines(output) >= 1 and _lines(log) >= 2:  # the log has a header
            seconds = time.monotonic() - process.began
        elif output.with_suffix(".jsonl.done").exists():
            break
        time.sleep(0.001)
    found = _finished(process)
    return {**found, "work": seconds if seconds is not None else found["process"]}


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
