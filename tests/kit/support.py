"""What many tests need: input files, rows as they lie on disk, pipelines in a folder, a look at what is left behind."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import pykka

from llm_datagen import INodeContext, StopRun, StreamFactory, UnifiedPipeline
from llm_datagen.runs import RunFolder

cloudpickle.register_pickle_by_value(sys.modules[__package__.partition(".")[0]])
"""Operators of tests go to worker processes as those of a script do: no worker imports a test's module, and pytest."""

QUICK: dict[str, Any] = {"fsync": "never"}
"""A writer configuration that does not wait for the medium."""

PATIENCE_SECONDS = 60.0
"""How long a test waits for something that takes milliseconds, on a machine that is busy with other things."""


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    """Write rows, one JSON value a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def numbered(count: int) -> list[dict[str, Any]]:
    """Return rows with a number each."""
    return [{"n": n} for n in range(count)]


def lines(path: Path) -> list[Any]:
    """Return the rows of a JSONL file as they lie on disk, `_i` included. A torn line is an error."""
    data = path.read_bytes()
    assert not data or data.endswith(b"\n"), f"{path} ends within a line"
    return [json.loads(line) for line in data.splitlines()]


def stored(uri: str) -> list[dict[str, Any]]:
    """Return the rows of a sealed stream with their ids, whatever its format."""
    stream = StreamFactory.create(uri)
    assert stream.is_sealed(), f"{uri} is not sealed"
    stream.verify()
    found: list[dict[str, Any]] = []
    for rows, ids in stream.get_reader().read(1000):
        found += [
            {**(row if isinstance(row, dict) else {"data": row}), "_i": i} for row, i in zip(rows, ids, strict=True)
        ]
    return found


def bag(rows: Iterable[Any]) -> Counter[str]:
    """Return rows as a multiset: what is lost, and what is there twice, shows."""
    return Counter(json.dumps(row, sort_keys=True) for row in rows)


def instrument(operator: Any) -> Any:
    """Return an operator that a test may change between two runs of one id: it gets a version, which stays.

    A partial gets none: what a run state makes again in its place would not have it.
    """
    target = getattr(operator, "__func__", operator)
    if getattr(target, "version", None) is None and not isinstance(target, functools.partial):
        with contextlib.suppress(AttributeError, TypeError):  # what cannot be given one does not change
            target.version = "an instrument"
    return operator


class Stopping:
    """Passes rows on; stops the run at the row with a number.

    Args:
        at: its number, in the column `n`; None: no row stops it.
    """

    version = "1"  # it may be another one after a stop

    def __init__(self, at: int | None = None) -> None:
        self.at = at

    def process_item(self, item: Any, ctx: Any) -> Any:
        """Return the row."""
        if item["n"] == self.at:
            raise StopRun("enough")
        return item


class Bench:
    """A folder to run pipelines in.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.input = folder / "in.jsonl"
        self.output = folder / "out.jsonl"
        self.log = folder / "platform.log"
        self.results = folder / "results"

    def give(self, rows: Iterable[Any]) -> None:
        """Write the input."""
        write_jsonl(self.input, rows)

    def pipeline(self, operators: list[Any], **settings: Any) -> UnifiedPipeline:
        """Return a pipeline from the input to the output, all of it in the folder."""
        given: dict[str, Any] = {
            "input_uri": f"jsonl://{self.input}",
            "output_uri": f"jsonl://{self.output}",
            "base_path": self.folder / "between",
            "results_dir": self.results,
            "log_file": self.log,
            **settings,
        }
        given["writer_config"] = {**QUICK, **given.get("writer_config", {})}
        return UnifiedPipeline([instrument(operator) for operator in operators], **given)

    def run_state(self, pipeline_id: str) -> dict[str, Any]:
        """Return runtime.json."""
        run_state: dict[str, Any] = json.loads((self.results / pipeline_id / "runtime.json").read_bytes())
        return run_state

    def put_run_state(self, pipeline_id: str, run_state: dict[str, Any]) -> None:
        """Put another runtime.json in its place, as if the engine had written it."""
        RunFolder(self.results, pipeline_id).save(run_state)

    def between(self, pipeline_id: str, number: int = 0, extension: str = "jsonl") -> Path:
        """Return the path of the stream between two nodes."""
        return self.folder / "between" / pipeline_id / f"node_{number}.{extension}"

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the platform log."""
        return lines(self.log)

    def is_sealed(self) -> bool:
        """Return whether the output is sealed."""
        return Path(f"{self.output}.done").exists()

    def files(self) -> set[str]:
        """Return the paths of all files and folders there are."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}


class Calls:
    """Counts calls durably: one short write to a file opened for appending, which survives any kind of death.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def note(self, what: Any) -> None:
        """Count a call."""
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, f"{what}\n".encode())
        finally:
            os.close(fd)

    def all(self) -> Counter[str]:
        """Return how often each was called."""
        return Counter(self.path.read_text().split())


def eventually(is_so: Callable[[], Any], what: str = "", seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until `is_so` returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or is_so}"
        time.sleep(0.002)
    return found


def until_cancelled(ctx: INodeContext) -> None:
    """Hold a call until its run is cancelled: a run whose row does this cannot be over before."""
    eventually(ctx.is_cancelled, "the run is cancelled")


def until_paused(ctx: INodeContext) -> None:
    """Hold a call until its run is paused: a run whose row does this cannot be over before."""
    eventually(ctx.is_paused, "the run is paused")


def _open_files() -> dict[str, str]:
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that the listing itself had open
            target = str(link.readlink())
            if not target.startswith("/proc/"):
                found[link.name] = target
    return found


def _handlers() -> Mapping[int, Any]:
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def worker_processes(pid: int | str = "self") -> list[int]:
    """Return the ids of the worker processes of a process, this one unless said; none of one that has ended."""
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - Path looks at each, and threads may end meanwhile
            with contextlib.suppress(OSError):
                children += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return [child for child in children if is_worker(child)]


def is_worker(pid: int) -> bool:
    """Return whether there is such a process, and it is a worker."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"executors.process.worker" in command or b"shards.worker" in command
    return False


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Make sure that no actor, thread, process, open file or signal handler of ours is left (F2)."""
    before = set(pykka.ActorRegistry.get_all()), set(threading.enumerate())
    files, handlers = _open_files(), _handlers()
    yield
    actors = [str(ref) for ref in pykka.ActorRegistry.get_all() if ref not in before[0]]
    threads = [
        thread.name
        for thread in threading.enumerate()
        if thread not in before[1] and thread.name.startswith("datagen-")
    ]

    def leaked() -> dict[str, str]:
        return {fd: target for fd, target in _open_files().items() if files.get(fd) != target}

    assert not worker_processes(), "worker processes are left"
    assert not actors, f"actors are left: {actors}"
    assert not threads, f"threads are left: {threads}"
    with contextlib.suppress(AssertionError):  # a thread of a library may be about to close a connection
        eventually(lambda: not leaked(), seconds=2)
    assert not leaked(), f"files are left open: {leaked()}"
    assert _handlers() == handlers, "signal handlers are left"


def pairwise(*choices: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return cases, one value of each of `choices` in each, so that every two values of two choices meet in one.

    Most faults of combined settings need two of them. A few cases more than the product of the two longest choices:
    each is the best of those that hold the first pair that is missing.
    """
    missing = {
        ((one, first), (other, second))
        for (one, firsts), (other, seconds) in itertools.combinations(enumerate(choices), 2)
        for first in range(len(firsts))
        for second in range(len(seconds))
    }
    every = list(itertools.product(*(range(len(values)) for values in choices)))
    cases = []
    while missing:
        (one, first), (other, second) = min(missing)
        case = max(
            (case for case in every if case[one] == first and case[other] == second),
            key=lambda case: len(missing.intersection(itertools.combinations(enumerate(case), 2))),
        )
        missing.difference_update(itertools.combinations(enumerate(case), 2))
        cases.append(tuple(values[at] for values, at in zip(choices, case, strict=True)))
    return cases
