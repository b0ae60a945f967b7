"""Workers of one shard are stopped, continued, killed and started at random moments; the rows are exact in the end.

Each case has a seed: what is done, and to whom, follows from it; not when the system does what.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_datagen import StreamFactory
from llm_datagen.shards.claim import latest

from ..kit.clean import clean
from ..kit.programs import Program
from ..kit.s3 import S3Bucket
from ..kit.support import numbered
from .claim_job import NUMBER
from .test_claims import Workers

pytestmark = pytest.mark.stores("s3", "gs")

__all__ = ["clean"]

ACTIONS = 14

TOLD = (
    "completed",
    "PipelineBusyError: ",
    "NodeFailedError: ",  # of a LeaseLostError, or a StreamTakenOverError
    "LeaseLostError: ",
    "PipelineExistsError: the output of slow, ",  # it was stopped while it created the run, which another one did
)
"""What a worker may say in the end."""


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    found = Workers(tmp_path, 80)
    yield found
    found.end()


@pytest.mark.parametrize(
    "seed",
    [pytest.param(1, marks=pytest.mark.slow), *(pytest.param(n, marks=pytest.mark.torture) for n in range(2, 62))],
)
def test_rows_are_exact_whoever_is_stopped_killed_and_continued(workers: Workers, seed: int) -> None:
    torment(workers, seed)


@pytest.mark.parametrize(
    "seed",
    [pytest.param(1, marks=pytest.mark.slow), *(pytest.param(n, marks=pytest.mark.torture) for n in range(2, 22))],
)
def test_rows_in_a_store_are_exact_whoever_is_stopped_killed_and_continued(
    s3: S3Bucket, tmp_path: Path, seed: int
) -> None:
    with StreamFactory.create(s3.uri("in.jsonl")).get_writer() as writer:
        writer.write(numbered(80))
    workers = Workers(tmp_path, 80, s3.uri("results/whole/shards"), s3.uri("in.jsonl"))
    try:
        torment(workers, seed)
    finally:
        workers.end()


def torment(workers: Workers, seed: int) -> None:
    """Do to the workers what a seed says; check the rows in the end."""
    chance = random.Random(seed)
    running: dict[str, Program] = {}

    def start() -> None:
        name = f"w{len(list(workers.folder.glob('errors.*')))}"
        running[name] = workers.start(name, lease=0.3, nap=0.05, seed=chance.random())

    def act() -> None:
        live = sorted(name for name, program in running.items() if program.poll() is None)
        what = chance.choice(["start", "start", "stop", "stop", "continue", "kill"])
        if what == "start" or not live:
            start()
            return
        name = chance.choice(live)
        number = {"stop": signal.SIGSTOP, "continue": signal.SIGCONT, "kill": signal.SIGKILL}[what]
        with contextlib.suppress(ProcessLookupError):  # it ended just now
            running[name].send_signal(number)

    start()
    epochs = []
    for _ in range(ACTIONS):
        time.sleep(chance.random() * 0.5)  # nobody knows what they are about then: that is what is tried
        act()
        epochs.append(latest(workers.shards, NUMBER) or "")
    for program in running.values():
        with contextlib.suppress(ProcessLookupError):
            program.send_signal(signal.SIGCONT)
    for program in running.values():
        program.wait()
    start()
    for name, program in running.items():
        program.wait()
        told = workers.said(name)[-1:]
        assert not told or told[0].startswith(("took ", *TOLD)), told
    assert workers.said(name)[-1] == "completed"
    assert epochs == sorted(epochs, key=lambda run_id: int(run_id.partition(".")[2] or 1))
    workers.check()
