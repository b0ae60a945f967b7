"""`kill -9`, and processes that are stopped and wake up again, of runs from object to object."""

from __future__ import annotations

import os
import random
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import StreamFactory
from llm_datagen.streams.recovery import position_of
from llm_datagen.streams.scan import rows_of

from ..kit.jobs import Jobs
from ..kit.s3 import S3Bucket
from ..kit.support import eventually
from . import store_job

pytestmark = pytest.mark.stores("s3", "gs")


@pytest.fixture
def jobs() -> Jobs:
    """Runs `store_job.py`."""
    return Jobs(Path(store_job.__file__))


def done(s3: S3Bucket, name: str) -> int:
    """Return how many source rows are committed in a stream, or sealed."""
    found = position_of(StreamFactory.create(s3.uri(name)))
    return 0 if found is None else found[1].coverage.rows


def give(s3: S3Bucket, ending: str, rows: int) -> None:
    with StreamFactory.create(s3.uri(f"in.{ending}")).get_writer() as writer:
        writer.write([{"n": n} for n in range(rows)])


def check(s3: S3Bucket, ending: str, rows: int) -> None:
    """Check that the output is exactly what it must be, and that nothing else is left."""
    output = StreamFactory.create(s3.uri(f"out.{ending}"))
    output.verify()
    assert sorted((int(row["n"]), int(row["k"])) for _, row, _ in rows_of(output)) == store_job.expected(rows)


def check_keys(s3: S3Bucket, ending: str, *, but: str = "\0") -> None:
    """Check that there are the objects, and their seals."""
    names = {f"{name}.{ending}" for name in ("in", "middle", "out")}
    assert {key for key in s3.all_keys() if but not in key} == names | {f"{name}.done" for name in names}


def job_of(s3: S3Bucket, folder: Path, ending: str, **more: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return {"folder": str(folder), "place": s3.place, "ending": ending, "nap": 0.01, **more}


@pytest.mark.parametrize(
    ("ending", "seed"),
    [
        pytest.param("jsonl.zst", 1, marks=pytest.mark.slow),
        pytest.param("jsonl", 1, marks=pytest.mark.torture),
        pytest.param("csv.gz", 1, marks=pytest.mark.torture),
    ],
)
def test_a_run_from_object_to_object_is_killed_again_and_again(
    s3: S3Bucket, tmp_path: Path, jobs: Jobs, ending: str, seed: int
) -> None:
    chance, rows = random.Random(seed), 60
    give(s3, ending, rows)
    for _ in range(3):
        reached = done(s3, f"middle.{ending}") + done(s3, f"out.{ending}")
        pid = jobs.start(job_of(s3, tmp_path, ending, seed=chance.random()))
        wanted = min(reached + 1 + chance.randrange(40), 2 * rows)

        def has_come(wanted: int) -> bool:
            return done(s3, f"middle.{ending}") + done(s3, f"out.{ending}") >= wanted

        eventually(partial(has_come, wanted), f"{wanted} rows")
        jobs.kill(pid)
    assert jobs.run(job_of(s3, tmp_path, ending, nap=0)) == 0
    assert (tmp_path / "said").read_text().splitlines()[-1] == "ended"
    check(s3, ending, rows)
    check_keys(s3, ending)


@pytest.mark.slow
def test_a_writer_that_wakes_up_after_another_one_has_ended_its_stream_is_refused(
    s3: S3Bucket, tmp_path: Path, jobs: Jobs
) -> None:
    """The first is stopped, as a machine is that hangs; another machine goes on with what the first one had saved."""
    rows = 400
    give(s3, "jsonl", rows)
    first = job_of(s3, tmp_path / "first", "jsonl")
    pid = jobs.start(first)
    eventually(lambda: done(s3, "middle.jsonl") > 0, "the first rows")
    os.kill(pid, signal.SIGSTOP)
    try:
        shutil.copytree(tmp_path / "first" / "results", tmp_path / "second" / "results", ignore=_sockets_and_locks)
        assert 0 < done(s3, "middle.jsonl") < rows
        assert jobs.run(job_of(s3, tmp_path / "second", "jsonl", nap=0)) == 0
        assert (tmp_path / "second" / "said").read_text() == "ended\n"
        check(s3, "jsonl", rows)
        check_keys(s3, "jsonl")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert jobs.wait(pid) == 0
    assert "another writer has taken the stream over" in (tmp_path / "first" / "said").read_text()
    check(s3, "jsonl", rows)
    check_keys(s3, "jsonl", but=".parts/0")  # the piece that it put before it was refused


def _sockets_and_locks(folder: str, names: list[str]) -> set[str]:
    """Return what does not come to another machine."""
    return {name for name in names if not (Path(folder, name).is_dir() or name.endswith(".json"))}
