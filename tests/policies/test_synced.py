"""What a resume needs is on the medium when `fsync` says so, and nothing else costs anything (M20)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_datagen import NodeFailedError
from llm_datagen.testing import FaultyStorage, record

from ..kit.support import Bench, numbered
from .helpers import dead_letters_of, poisoned


def steps(storage: FaultyStorage, name: str) -> list[str]:
    """Return what was done to a file, or to the folder that is called so, by the operations' names."""
    return [point.operation for point in storage.hits if Path(point.path).name == name]


def place(storage: FaultyStorage, operation: str, name: str, after: int = -1) -> int:
    """Return when it was done for the first time, after another thing."""
    return next(
        number
        for number, point in enumerate(storage.hits)
        if number > after and (point.operation, Path(point.path).name) == (operation, name)
    )


def job(bench: Bench, fsync: str, **settings: Any) -> Any:
    (bench.folder / "made").mkdir(exist_ok=True)
    return bench.pipeline(
        [poisoned({1, 4})],
        output_uri=f"jsonl://{bench.folder / 'made' / 'out.jsonl'}",
        on_error="dead_letter",
        delivery="at_most_once",
        writer_config={"fsync": fsync, "async_mode": False},
        **settings,
    )


def test_new_files_are_in_their_folder_for_good(bench: Bench) -> None:
    """M20: a file whose entry in the folder is lost is as lost as its content."""
    bench.give(numbered(6))
    with record() as storage:
        job(bench, "flush").create("a").run()
    appended = {"out.jsonl", "out.jsonl.commits", "out.jsonl.errors.jsonl", "out.jsonl.dispatched"}
    replaced = {"out.jsonl.commits", "out.jsonl.done"}
    assert all("fsync" in steps(storage, name) for name in appended)
    assert steps(storage, "made").count("fsync") == len(appended) + len(replaced)
    dead_letters = place(storage, "fsync", "out.jsonl.errors.jsonl")
    entered = place(storage, "fsync", "made", after=dead_letters)
    assert entered < place(storage, "write", "out.jsonl.commits", after=dead_letters), (
        "before the commit that speaks of them"
    )


@pytest.mark.parametrize("fsync", ["close", "flush"])
def test_the_run_state_is_on_the_medium_whenever_it_is_replaced(bench: Bench, fsync: str) -> None:
    """M20, M27: one that was not must not take the place of one that was; a resume needs it."""
    bench.give(numbered(6))
    with record() as storage:
        job(bench, fsync).create("a").run()
    run_state = steps(storage, "runtime.json.tmp")
    assert run_state.count("fsync") == run_state.count("write") >= 3
    assert steps(storage, "a").count("fsync") == run_state.count("fsync"), "and its name, in its folder"
    assert "fsync" not in steps(storage, "checkpoint.json.tmp")


FINISHED = {"out.jsonl", "out.jsonl.done.tmp", "out.jsonl.errors.jsonl", "made"}


@pytest.mark.parametrize(("fsync", "synced"), [("never", set()), ("close", {*FINISHED, "runtime.json.tmp", "a"})])
def test_what_need_not_be_synced_is_not(bench: Bench, fsync: str, synced: set[str]) -> None:
    """M20: neither commits nor what was handed out; "close" waits once a node, and for the run state; "never" never."""
    bench.give(numbered(6))
    with record() as storage:
        job(bench, fsync).create("a").run()
    names = {Path(point.path).name for point in storage.hits if point.operation == "fsync"}
    assert names == synced


@pytest.mark.parametrize("fsync", ["close", "flush"])
def test_dead_letters_of_an_earlier_process_are_on_the_medium_before_the_seal(bench: Bench, fsync: str) -> None:
    """M20, S2: the process that seals the stream has written none itself."""
    bench.give(numbered(6))
    pipeline = job(bench, fsync, max_errors=1).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    bench.give([{"n": n if n != 4 else 9} for n in range(6)])
    pipeline.resume("a", max_errors=9)
    with record() as storage:
        pipeline.run()
    assert len(dead_letters_of(bench.folder / "made" / "out.jsonl")) == 1
    assert "write" not in steps(storage, "out.jsonl.errors.jsonl")
    assert place(storage, "fsync", "out.jsonl.errors.jsonl") < place(storage, "rename", "out.jsonl.done")
