"""A refusal changes nothing on the disk: all is checked before the first file is touched (M22)."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import DatagenError, JsonlStream, NodeFailedError, Status, StreamError, UnifiedNode, UnifiedPipeline
from llm_datagen.runs.lock import RunLock

from ..kit.support import PATIENCE_SECONDS, Bench, bag, lines, numbered

ROWS = 60
TORN = b'{"n": 1, "half a ro'


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files, but for the lock, which holds nothing, and the log."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in {"lock", "platform.log"}
    }


class Scene:
    """A run of two nodes, both of which stopped half-way, with torn tails and dead letters."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.is_mended = False
        self.second_came_far = threading.Event()
        bench.give(numbered(ROWS))
        with pytest.raises(NodeFailedError):
            self.pipeline().create("a").run()
        self.between = bench.between("a")
        self.is_mended = True
        for path in (self.between, Path(f"{self.between}.errors.jsonl"), bench.output):
            with path.open("ab") as file:
                file.write(TORN)

    def first(self, item: Any) -> Any:
        if item["n"] in {3, 5}:
            raise ValueError("bad")
        if not self.is_mended and item["n"] == 40:
            assert self.second_came_far.wait(PATIENCE_SECONDS)
            raise SystemExit
        return item

    def second(self, item: Any) -> Any:
        if item["n"] == 7:
            raise ValueError("bad")
        if not self.is_mended and item["n"] == 20:
            self.second_came_far.set()
            raise SystemExit
        return item

    def pipeline(self) -> UnifiedPipeline:
        return self.bench.pipeline(
            [self.first, self.second],
            streaming=True,
            on_error="dead_letter",
            max_errors=2,
            delivery="at_most_once",
            writer_config={"async_mode": False},
        )


def edit(path: Path) -> None:
    data = path.read_bytes()
    at = data.index(b'"n":') + 4
    path.write_bytes(
        data[:at] + b"9" + data[at + 1 :] if data[at : at + 1] != b"9" else data[:at] + b"8" + data[at + 1 :]
    )


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "the second output was edited": (edit, ""),
    "the second output was cut": (cut, ""),
    "the second output is gone": (Path.unlink, ""),
    "the second commit log was edited": (
        lambda path: path.write_bytes(path.read_bytes().replace(b"1", b"7")),
        ".commits",
    ),
    "the second commit log was cut": (cut, ".commits"),
    "the second commit log is gone": (Path.unlink, ".commits"),
    "the second dead letters were cut": (cut, ".errors.jsonl"),
    "the second dead letters are gone": (Path.unlink, ".errors.jsonl"),
    "the second dispatch log is none": (lambda path: path.write_bytes(b"? what is this\n"), ".dispatched"),
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("damage", "sealed_by_hand"), list(zip(DAMAGE, itertools.cycle([False, True]), strict=False)))
def test_a_resume_that_is_refused_changes_no_file(bench: Bench, damage: str, sealed_by_hand: bool) -> None:
    """M22: neither the torn tails of the nodes before, nor the run state, nor a seal."""
    scene = Scene(bench)
    if sealed_by_hand:
        Path(f"{scene.between}.done").touch()
    do, suffix = DAMAGE[damage]
    do(Path(f"{bench.output}{suffix}"))
    before = contents(bench.folder)
    with pytest.raises(StreamError, match=str(bench.output)):
        scene.pipeline().resume("a", max_errors=99)
    assert contents(bench.folder) == before
    with pytest.raises(StreamError, match=str(bench.output)):
        scene.pipeline().replay("a")
    assert contents(bench.folder) == before


@pytest.mark.sampled(1)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_run_that_is_refused_changes_no_file(bench: Bench, damage: str) -> None:
    """M22: also when the files were changed after `resume()`."""
    scene = Scene(bench)
    pipeline = scene.pipeline().resume("a", max_errors=99)
    do, suffix = DAMAGE[damage]
    do(Path(f"{bench.output}{suffix}"))
    before = contents(bench.folder)
    with pytest.raises(StreamError, match=str(bench.output)):
        pipeline.run()
    assert contents(bench.folder) == before


@pytest.mark.sampled(1)
@pytest.mark.parametrize("change", [edit, cut, Path.unlink], ids=["edited", "cut", "gone"])
def test_an_input_that_was_changed_changes_no_file(bench: Bench, change: Callable[[Path], None]) -> None:
    """M22: nor is it taken for the new one: restored, the run goes on."""
    scene = Scene(bench)
    kept = bench.input.read_bytes()
    change(bench.input)
    before = contents(bench.folder)
    with pytest.raises(StreamError, match=str(bench.input)):
        scene.pipeline().resume("a")
    assert contents(bench.folder) == before
    bench.input.write_bytes(kept)
    assert scene.pipeline().resume("a", max_errors=99).run().status == Status.COMPLETED
    assert bag({"n": row["n"]} for row in lines(bench.output)) <= bag(numbered(ROWS))
    files = (bench.output, Path(f"{bench.output}.errors.jsonl"), Path(f"{scene.between}.errors.jsonl"))
    assert sum(len(lines(path)) for path in files) == ROWS


@pytest.mark.slow
def test_an_output_that_somebody_else_writes_changes_no_file(bench: Bench) -> None:
    """M23: it is looked for before the nodes before it are recovered."""
    scene = Scene(bench)
    other = bench.output.open("ab")
    import fcntl

    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        before = contents(bench.folder)
        with pytest.raises(StreamError, match="is being written by another writer"):
            scene.pipeline().resume("a")
        assert contents(bench.folder) == before
    finally:
        other.close()


def test_a_replay_whose_dead_letters_cannot_be_read_releases_none(bench: Bench) -> None:
    """M24: those of the first node stay, too."""
    bench.give(numbered(ROWS))
    scene = object.__new__(Scene)
    scene.bench, scene.is_mended = bench, True
    pipeline = scene.pipeline().create("a", max_errors=None)
    pipeline.run()
    dead_letters = Path(f"{bench.output}.errors.jsonl")
    dead_letters.write_bytes(dead_letters.read_bytes().replace(b'"source"', b'"sauce!"'))
    before = contents(bench.folder)
    with pytest.raises(DatagenError, match=str(dead_letters)):
        pipeline.replay("a")
    assert contents(bench.folder) == before


def test_a_node_by_itself_that_is_refused_changes_no_file(bench: Bench) -> None:
    """M9, M22: a seal made by hand stays, and no file is made."""
    bench.give(numbered(5))
    bench.output.write_text("somebody's\n")
    Path(f"{bench.output}.done").touch()
    node = UnifiedNode("n", follow_input=False, log_file=None)
    node.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}").set_operator(lambda item: item)
    before = contents(bench.folder)
    for attempt in (node.run, node.open):
        with pytest.raises(StreamError, match="no commit log accounts for"):
            attempt()
        assert contents(bench.folder) == before


def test_dead_letters_that_nobody_accounts_for_are_neither_deleted_nor_added_to(bench: Bench) -> None:
    """M4, M24: whoever removed the output by hand has not said what is to become of them."""
    bench.give(numbered(5))
    dead_letters = Path(f"{bench.output}.errors.jsonl")
    dead_letters.write_text("kept\n")
    pipeline = bench.pipeline([lambda item: 1 / item["n"]], on_error="dead_letter").create("a")
    with pytest.raises(StreamError, match=f"{dead_letters} has 5 bytes that no commit log accounts for"):
        pipeline.run()
    assert dead_letters.read_text() == "kept\n"
    assert not bench.output.exists()


def test_a_stream_whose_data_is_gone_is_not_made_anew(bench: Bench) -> None:
    """M22: an empty file would look like one that was cut."""
    stream = JsonlStream(f"jsonl://{bench.output}")
    writer = stream.get_writer()
    writer.write([1, 2])
    writer._sink.close()
    bench.output.unlink()
    with pytest.raises(StreamError, match=f"{bench.output} is gone, but .* bytes of it were committed"):
        stream.get_writer()
    assert not bench.output.exists()


# --- the run state as it is when the lock is held --------------------------------------------------------------------


def counted(item: Any, ctx: Any) -> Any:
    ctx.report_usage({"provider": "p", "model": "m", "calls": 1})
    return item


def calls_in(bench: Bench) -> Any:
    (usage,) = [node["usage"] for node in bench.run_state("a")["nodes"]]
    return usage


def test_a_resume_takes_the_run_state_as_it_is_when_nobody_else_has_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M6, M23, M27: another run may end between a look at the run state and the lock; its sums are not lost."""
    bench.give(numbered(10))
    mine, other = bench.pipeline([counted]), bench.pipeline([counted])
    other.create("a")
    acquire = RunLock.acquire

    def late(lock: RunLock) -> None:
        monkeypatch.setattr(RunLock, "acquire", acquire)
        other.run()
        acquire(lock)

    monkeypatch.setattr(RunLock, "acquire", late)
    mine.resume("a")
    known = calls_in(bench)
    assert known
    assert mine.status == Status.COMPLETED
    assert mine.run().rows_out == 10
    assert calls_in(bench) == known


@pytest.mark.parametrize("made_by", ["create", "resume"])
def test_a_run_takes_the_run_state_as_it_is_when_it_begins(bench: Bench, made_by: str) -> None:
    """M6, M27: others may have run it since it was created or resumed."""
    bench.give(numbered(10))
    mine, other = bench.pipeline([counted]).create("a"), bench.pipeline([counted])
    if made_by == "resume":
        mine.resume("a")
    other.resume("a").run()
    known = calls_in(bench)
    assert mine.run().rows_out == 10
    assert calls_in(bench) == known


def test_a_run_that_was_replaced_meanwhile_runs_as_it_is_now(bench: Bench) -> None:
    """M6: the run state says what runs, not what this object read before."""
    bench.give(numbered(10))
    mine = bench.pipeline([counted]).create("a")
    new = bench.folder / "new.jsonl"
    bench.pipeline([counted], output_uri=f"jsonl://{new}").create("a", if_exists="overwrite")
    mine.run()
    assert len(lines(new)) == 10
    assert not bench.output.exists()
    bench.pipeline([lambda item: item]).create("a", if_exists="overwrite")
    again = bench.pipeline([counted])
    with pytest.raises(DatagenError, match="was made with the operators"):
        again.resume("a")
