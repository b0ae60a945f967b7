"""Does something to a run again and again, and is killed before each change of the disk: one line a kill, as JSON.

A process of its own, without threads, so that it may fork.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog  # noqa: F401 - before any fork: each child would import it

from llm_datagen import PipelineNotFoundError, UnifiedPipeline
from llm_datagen.runs import RunFolder
from llm_datagen.runs.verify import verify
from llm_datagen.testing import Fault, inject
from llm_datagen.testing.faults import Operation

CHANGES: tuple[tuple[Operation, str], ...] = (
    ("write", "*.jsonl"),
    ("write", "*.commits"),
    ("truncate", "*"),
    ("rename", "*"),
    ("remove", "*"),
)
"""A file that is replaced is written beside it before: that changes nothing until it is renamed."""

ROWS = 5


def first(row: dict[str, Any]) -> dict[str, Any]:
    if row["n"] == 3 and not Path("mended").exists():
        raise ValueError("row 3 is bad")
    return row


def second(row: dict[str, Any]) -> dict[str, Any]:
    return row


def pipeline() -> UnifiedPipeline:
    return UnifiedPipeline(
        [first, second],
        "jsonl://in.jsonl",
        "jsonl://out.jsonl",
        results_dir="results",
        on_error="dead_letter",
        log_file=None,
        writer_config={"fsync": "never"},
    )


def give(start: int) -> None:
    with Path("in.jsonl").open("a") as file:
        file.writelines(f'{{"n": {n}}}\n' for n in range(start, start + ROWS))


def completed() -> None:
    give(0)
    pipeline().create("a").run()


def saved_long_before() -> None:
    """A run that was killed when all was sealed, and whose run state is one of the beginning."""
    completed()
    path = Path("results/a/runtime.json")
    run_state = json.loads(path.read_bytes())
    run_state["status"] = "running"
    for entry in run_state["nodes"]:
        entry.update(status="running", rows_in=2, rows_out=2, filtered=0, dead_letters=0, failed=0)
    RunFolder("results", "a").save(run_state)


def mended() -> None:
    completed()
    Path("mended").touch()


def grown_between() -> None:
    """The input grows when the run was found to be completed."""
    resumed = pipeline().resume("a")
    give(ROWS)
    resumed.run()


CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "resume": (saved_long_before, lambda: pipeline().resume("a")),
    "grown between": (completed, grown_between),
    "replay": (mended, lambda: pipeline().replay("a").run()),
    "overwrite": (mended, lambda: pipeline().create("a", if_exists="overwrite").run()),
    "create and run": (lambda: give(0), lambda: pipeline().create("a").run()),
}


def was_killed(act: Callable[[], Any], fault: Fault) -> bool:
    """Act in a child that the fault kills; return whether it came to that."""
    child = os.fork()
    if child == 0:
        try:
            with inject(fault):
                act()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001
            print(json.dumps({"error": repr(error)}), flush=True)
            os._exit(1)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def look() -> dict[str, Any]:
    """Return what the run state says, and what is wrong with it."""
    folder = RunFolder("results", "a")
    try:
        run_state = folder.load()
    except PipelineNotFoundError:
        return {"status": None, "findings": []}
    return {
        "status": run_state["status"],
        "findings": [text for account in verify(run_state) for text in account.findings],
    }


def end() -> dict[str, Any]:
    """Go on to the end, as the words of the refusals say; return what is there then."""
    folder = RunFolder("results", "a")
    again = pipeline()
    (again.resume("a") if folder.exists() else again.create("a", if_exists="overwrite")).run()
    rows = [json.loads(line)["n"] for line in Path("out.jsonl").read_text().splitlines()]
    return {**look(), "rows": sorted(rows)}


def main(case: str, where: str, step: str) -> None:
    prepare, act = CASES[case]
    base, work = Path(where, "base"), Path(where, "work")
    base.mkdir()
    os.chdir(base)
    child = os.fork()  # the run has threads, and who forks must have none
    if child == 0:
        prepare()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for operation, path in CHANGES:
        hit = 1
        while True:
            os.chdir(where)
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(base, work)
            os.chdir(work)
            if not was_killed(act, Fault(operation=operation, path=path, hit=hit)):
                break
            line = {"at": f"{operation} {path} {hit}", **look()}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            if hit % 12 == 1:
                child = os.fork()
                if child == 0:
                    sys.stdout.write(json.dumps({"at": f"{operation} {path} {hit}, to the end", **end()}) + "\n")
                    sys.stdout.flush()
                    os._exit(0)
                os.waitpid(child, 0)
            hit += int(step)


if __name__ == "__main__":
    main(*sys.argv[1:])
