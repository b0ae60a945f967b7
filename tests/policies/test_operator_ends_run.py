"""An operator ends the run itself: as failed (FatalError), or in good order (StopRun). No row pays for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import BaseOperator, DatagenError, FatalError, INodeContext, NodeFailedError, StopRun

from ..kit.support import Bench, Calls, bag, lines, nothing_left, numbered
from ..pipeline.chains import STYLES, operator
from .helpers import check_counts, dead_letters_of, modelled

ROWS = 60
POLICIES: list[dict[str, Any]] = [
    {},
    {"on_error": "skip"},
    {"on_error": "dead_letter", "retries": 3, "retry_wait": 0.01},
]
CASES = [*((style, policy) for style in STYLES for policy in POLICIES), ("process", POLICIES[2])]
"""Operators, and what becomes of rows that fail; with worker processes, whose start takes long, one policy only."""


def ending(path: Path, error: DatagenError, at: int = 20) -> Callable[[Any], Any]:
    """Return a fate that raises `error` at a row, unless the file `path` is there."""

    def act(row: Any) -> Any:
        if row["n"] == at and not path.exists():
            raise error
        return {"n": row["n"]}

    return act


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("style", "policy"), CASES)
def test_fatal(bench: Bench, style: str, policy: dict[str, Any]) -> None:
    """Whatever the policy says: the run fails at once, of that error, and a resume loses nothing."""
    bench.give(numbered(ROWS))
    mended, calls = bench.folder / "mended", Calls(bench.folder / "calls")
    fate = ending(mended, FatalError("the endpoint is gone"))

    def counted(row: Any) -> Any:
        calls.note(row["n"])
        return fate(row)

    kind = {"executor": "process"} if style == "process" else {}
    op = operator("item" if style == "process" else style, counted)
    pipeline = bench.pipeline([op], parallel_size=2, batch_size=4, **kind, **policy).create("a")
    with pytest.raises(NodeFailedError, match="the endpoint is gone") as caught:
        pipeline.run()
    assert type(caught.value.__cause__) is FatalError
    assert calls.all()["20"] == 1  # neither retries nor halves
    assert dead_letters_of(bench.output) == []
    assert not bench.is_sealed()
    mended.touch()
    report = pipeline.resume("a").run()
    assert bag(lines(bench.output)) == bag(modelled(numbered(ROWS), [dict])[0])
    check_counts(bench, report)
    assert report.nodes[0].failed == 0


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("style", "policy"), CASES)
def test_stop(bench: Bench, style: str, policy: dict[str, Any]) -> None:
    """The run is cancelled with the operator's reason, in all nodes; nothing has failed, and a resume goes on."""
    bench.give(numbered(ROWS))
    mended = bench.folder / "mended"
    kind = {"executor": "process"} if style == "process" else {}
    first, second = (operator("item", fate) for fate in (lambda row: row, ending(mended, StopRun("the cap of $5"))))
    if style != "process":
        second = operator(style, ending(mended, StopRun("the cap of $5")))
    settings = {"streaming": True, "parallel_size": 2, "batch_size": 4}
    pipeline = bench.pipeline([first, second], **settings, **kind, **policy).create("a")
    report = pipeline.run()
    assert (report.status, report.reason, report.error) == ("stopped", "the cap of $5", None)
    assert dead_letters_of(bench.output) == []
    assert not bench.is_sealed()
    assert "20" not in {str(row["n"]) for row in lines(bench.output)}
    mended.touch()
    report = pipeline.resume("a").run()
    assert report.status == "completed"
    assert bag(lines(bench.output)) == bag(modelled(numbered(ROWS), [dict])[0])
    check_counts(bench, report)


class Reluctant(BaseOperator):
    """Ends the run in its setup, unless it is the first to be set up, or the folder of the run holds `mended`."""

    name = "reluctant"

    def __init__(self, folder: Path, *, willing: int = 0) -> None:
        self.folder, self.willing = folder, willing

    def setup(self) -> None:
        (self.folder / f"setup-{os.getpid()}-{time.monotonic_ns()}").touch()
        is_late = len(list(self.folder.glob("setup-*"))) > self.willing
        if is_late and not (self.folder / "mended").exists():
            raise StopRun("not today")

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        time.sleep(0.01)
        return {"n": item["n"]}


class ReluctantAsync(Reluctant):
    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return {"n": item["n"]}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("kind", "executor", "willing"),
    [
        (Reluctant, "thread", 0),
        (ReluctantAsync, "thread", 0),
        (Reluctant, "process", 0),
        (Reluctant, "process", 1),
    ],
    ids=["thread", "async", "process", "second process"],
)
def test_stop_in_setup(bench: Bench, kind: type[Reluctant], executor: str, willing: int) -> None:
    """Before the first row, too, the run ends as cancelled, with the reason."""
    bench.give(numbered(ROWS))
    settings = {"executor": executor, "parallel_size": 2}
    pipeline = bench.pipeline([kind(bench.folder, willing=willing)], **settings).create("a")
    with nothing_left():
        report = pipeline.run()
    assert (report.status, report.reason, report.error) == ("stopped", "not today", None)
    (bench.folder / "mended").touch()
    assert pipeline.resume("a").run().status == "completed"
    assert bag(lines(bench.output)) == bag(modelled(numbered(ROWS), [dict])[0])


class Keeper(BaseOperator):
    """Keeps a file of its own beside the run state."""

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        assert ctx.folder is not None
        ctx.folder.mkdir(exist_ok=True)
        with (ctx.folder / "mine").open("a") as file:
            file.write(".")
        return dict(item)


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_files_of_an_operator(bench: Bench, executor: str) -> None:
    """They lie in the run's folder, for every resume; and go when the run is overwritten."""
    bench.give(numbered(3))
    bench.pipeline([Keeper()], executor=executor).create("a").run()
    mine = bench.results / "a" / "files" / "mine"
    assert mine.read_text() == "..."
    bench.pipeline([Keeper()], executor=executor).create("a", if_exists="overwrite")
    assert not mine.exists()
