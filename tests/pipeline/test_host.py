"""Several pipelines beside a program's own actors: nobody's actors are touched but ours (M30, F2)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykka

from llm_datagen import INodeContext, Status
from llm_datagen.messages import Cancel, Pause, Unpause

from ..kit.support import (
    PATIENCE_SECONDS,
    Bench,
    eventually,
    lines,
    nothing_left,
    numbered,
    until_cancelled,
    until_paused,
)


class Host(pykka.ThreadingActor):
    """An actor of the program around us."""

    def on_receive(self, message: Any) -> Any:
        return message


def same(row: Any) -> Any:
    return row


class Held:
    """Holds row 50 until the run is cancelled, or paused: the run is not over before."""

    name = "held"

    def __init__(self, until: Callable[[INodeContext], None]) -> None:
        self.until = until
        self.is_reached = threading.Event()

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        if item["n"] == 50:
            self.is_reached.set()
            self.until(ctx)
        return item


def test_of_three_runs_one_is_cancelled_one_paused_and_the_program_goes_on(tmp_path: Path) -> None:
    """M30, F2: two go on to their end, and nothing of any of them is left."""
    host = Host.start()
    benches = [Bench(tmp_path / name) for name in ("a", "b", "c")]
    with nothing_left():
        pipelines = []
        held = [Held(until_cancelled), Held(until_paused)]
        for bench, first in zip(benches, (*held, same), strict=True):
            bench.folder.mkdir()
            bench.give(numbered(300))
            pipelines.append(bench.pipeline([first, same], streaming=True, parallel_size=2).create("p"))
        refs = [pipeline.start() for pipeline in pipelines]
        assert all(each.is_reached.wait(PATIENCE_SECONDS) for each in held)
        refs[1].ask(Pause(), timeout=PATIENCE_SECONDS)
        refs[0].tell(Cancel("enough"))
        report = pipelines[0].wait(PATIENCE_SECONDS)
        assert report is not None
        assert (report.status, report.reason) == (Status.CANCELED, "enough")
        assert host.ask("are you there?", timeout=PATIENCE_SECONDS) == "are you there?"
        assert refs[1].is_alive()
        refs[1].tell(Unpause())
        for pipeline, bench in zip(pipelines[1:], benches[1:], strict=True):
            report = pipeline.wait(PATIENCE_SECONDS)
            assert report.status is Status.COMPLETED
            assert len(lines(bench.output)) == 300
        eventually(lambda: pykka.ActorRegistry.get_all() == [host])
        assert host.ask("still?", timeout=PATIENCE_SECONDS) == "still?"
    host.stop()
