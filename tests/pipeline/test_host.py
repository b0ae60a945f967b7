"""Several pipelines beside a program's own actors: nobody's actors are touched but ours (M30, F2)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pykka

from llm_datagen import Status
from llm_datagen.messages import Cancel, Pause, Unpause

from ..support import PATIENCE_SECONDS, Bench, eventually, lines, nothing_left, numbered


class Host(pykka.ThreadingActor):
    """An actor of the program around us."""

    def on_receive(self, message: Any) -> Any:
        return message


def slow(row: Any) -> Any:
    time.sleep(0.002)
    return row


def test_of_three_runs_one_is_cancelled_one_paused_and_the_program_goes_on(tmp_path: Path) -> None:
    """M30, F2: two go on to their end, and nothing of any of them is left."""
    host = Host.start()
    benches = [Bench(tmp_path / name) for name in ("a", "b", "c")]
    with nothing_left():
        pipelines = []
        for bench in benches:
            bench.folder.mkdir()
            bench.give(numbered(300))
            pipelines.append(bench.pipeline([slow, slow], streaming=True, parallel_size=2).create("p"))
        refs = [pipeline.start() for pipeline in pipelines]
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
