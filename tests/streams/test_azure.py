"""`kill -9` of a run from blob to blob, and its run state there, on Azure's emulator."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from llm_datagen import StreamFactory, StreamTakenOverError, UnifiedPipeline
from llm_datagen.streams.recovery import position_of
from llm_datagen.streams.scan import rows_of
from llm_datagen.streams.storage.objects import OBJECT_STORAGE

from ..kit.azure import PROGRAM, azure_server, put_container
from ..kit.jobs import Jobs
from ..kit.support import eventually, numbered
from ..recovery import store_job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="needs Azurite: npm install -g azurite"),
]
ROWS = 40


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment by which a server for these tests is found."""
    with azure_server(tmp_path_factory.mktemp("azurite")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        keys(f"az://{put_container(environment)}")  # the threads of the client's library, which stay, are there
        yield environment


@pytest.fixture
def place(azure: dict[str, str]) -> str:
    """The address of a new container."""
    return f"az://{put_container(azure)}"


def give(uri: str, count: int) -> None:
    with StreamFactory.create(uri).get_writer() as writer:
        writer.write(numbered(count))


def keys(place: str) -> set[str]:
    bucket, _ = OBJECT_STORAGE.bucket_and_key(f"{place}/-")
    return {key for key, _ in bucket.list("")}


@pytest.mark.parametrize("ending", ["jsonl", "csv.gz"])
def test_a_run_from_blob_to_blob_is_killed_and_resumed(place: str, tmp_path: Path, ending: str) -> None:
    give(f"{place}/in.{ending}", ROWS)
    jobs = Jobs(Path(store_job.__file__))
    job = {"folder": str(tmp_path), "place": place, "ending": ending}

    def has_come(rows: int) -> bool:
        found = position_of(StreamFactory.create(f"{place}/middle.{ending}"))
        return found is not None and found[1].coverage.rows >= rows

    for wanted in (1, 15):
        pid = jobs.start({**job, "nap": 0.02})
        eventually(partial(has_come, wanted), f"{wanted} rows")
        jobs.kill(pid)
    assert jobs.run({**job, "nap": 0}) == 0
    assert (tmp_path / "said").read_text().splitlines()[-1] == "ended"
    output = StreamFactory.create(f"{place}/out.{ending}")
    output.verify()
    found = sorted((int(row["n"]), int(row["k"])) for _, row, _ in rows_of(output))
    assert found == store_job.expected(ROWS)
    names = {f"{name}.{ending}" for name in ("in", "middle", "out")}
    assert keys(place) == names | {f"{name}.done" for name in names}


def test_conditions_of_puts_hold_and_a_run_is_kept_there(place: str) -> None:
    give(f"{place}/in.jsonl", ROWS)
    output = StreamFactory.create(f"{place}/taken.jsonl")
    first = output.sink()
    second = output.sink()
    with pytest.raises(StreamTakenOverError):
        first.append(b'{"_i":0}\n', rows=1)
    second.append(b'{"_i":0}\n', rows=1)
    second.seal()
    UnifiedPipeline(
        [lambda row: row],
        f"{place}/in.jsonl",
        f"{place}/out.jsonl",
        results_dir=f"{place}/runs",
        log_file=None,
    ).create("a").run()
    assert len(list(rows_of(StreamFactory.create(f"{place}/out.jsonl")))) == ROWS
    assert {"runs/a/runtime.json", "taken.jsonl", "out.jsonl.done"} <= keys(place)
