"""Files that were changed between a run and its resume: refused, and none the worse for it (M6, M22)."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    FunctionOperator,
    NodeFailedError,
    ResumeWarning,
    Status,
    StreamChangedError,
    StreamError,
    UnifiedPipeline,
)

from ..kit.support import PATIENCE_SECONDS, Bench, bag, lines, numbered, write_jsonl

ROWS = 150
EXPECTED = [{"n": n, "_i": n} for n in range(ROWS)]


class Scene:
    """A run of two nodes that stopped half-way.

    Args:
        bench: where.
        first_is_done: whether the first node has finished, or is half-way too.
    """

    def __init__(self, bench: Bench, *, first_is_done: bool, ordered: bool = False) -> None:
        self.bench = bench
        self.called = 0
        self.is_mended = False
        self.first_is_done = first_is_done
        self.second_came_far = threading.Event()
        bench.give({"n": n} for n in range(ROWS))
        with pytest.raises(NodeFailedError):
            self.pipeline(
                streaming=not first_is_done,
                ordered=ordered,
                parallel_size=2,
                writer_config={"flush_batch_size": 10, "queue_size": 10},
            ).create("a").run()
        self.between = bench.between("a")
        self.is_mended = True
        self.called = 0
        assert 0 < len(lines(bench.output)) < ROWS
        assert Path(f"{self.between}.done").exists() is first_is_done

    def _first(self, item: Any) -> Any:
        self.called += 1
        if not self.is_mended and not self.first_is_done and item["n"] == 120:
            assert self.second_came_far.wait(PATIENCE_SECONDS)
            raise RuntimeError("the first node stops")
        return item

    def _second(self, item: Any) -> Any:
        self.called += 1
        if not self.is_mended and item["n"] == 80:
            self.second_came_far.set()
            if self.first_is_done:
                raise RuntimeError("the second node stops")
        return item

    def pipeline(self, **settings: Any) -> UnifiedPipeline:
        return self.bench.pipeline(
            [FunctionOperator(self._first, name="first"), FunctionOperator(self._second, name="second")], **settings
        )

    def resume(self) -> Any:
        return self.pipeline().resume("a").run()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def cut_one_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def edit_end(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-4] = ord("7") if data[-4] != ord("7") else ord("8")
    path.write_bytes(data)


def edit_begin(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"n":3', b'"n":4', 1).replace(b'"n": 3', b'"n": 4', 1))
    assert path.read_bytes() != data


def delete_row(path: Path) -> None:
    _, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rest))


def swap_rows(path: Path) -> None:
    first, second, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([second, first, *rest]))


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for suffix in ("", ".commits", ".done"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def delete_log(path: Path) -> None:
    for suffix in (".commits", ".done"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def edit_log(path: Path) -> None:
    """Change the account of an unfinished stream, not its last line (which may be torn)."""
    log = Path(f"{path}.commits")
    first, second, *rest = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([first, second.replace(b"rows", b"cows"), *rest]))


DAMAGES = [cut, cut_one_byte, edit_end, edit_begin, delete_row, swap_rows, delete, delete_all, delete_log]


def check_refused_then_restored(scene: Scene, path: Path, damage: Callable[[Path], None]) -> None:
    """A resume of damaged files names the file and calls nothing; when they are restored, it goes on."""
    kept = {file: file.read_bytes() for file in scene.bench.folder.rglob("*") if file.is_file()}
    damage(path)
    with pytest.raises(StreamError) as caught:
        scene.resume()
    message = str(caught.value)
    assert str(path) in message
    assert any(word in message for word in ("byte", "line", "gone", "does not exist")), message
    assert scene.called == 0
    with pytest.raises(StreamError):  # and it stays refused
        scene.resume()
    for file, data in kept.items():
        if file.parent.name != "a" or file.suffix in (".jsonl", ".commits", ".done"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    assert scene.resume().status == Status.COMPLETED
    assert bag(lines(scene.bench.output)) == bag(EXPECTED)


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("damage", "first_is_done"), list(zip([*DAMAGES, edit_log], itertools.cycle([True, False]), strict=False))
)
def test_a_changed_output_is_refused(bench: Bench, damage: Callable[[Path], None], first_is_done: bool) -> None:
    """M22, S3: rows deleted or edited, file gone, file shortened; the error names the file and the position."""
    scene = Scene(bench, first_is_done=first_is_done)
    check_refused_then_restored(scene, bench.output, damage)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("first_is_done", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_changed_stream_between_is_refused(bench: Bench, damage: Callable[[Path], None], first_is_done: bool) -> None:
    """M22 (13.2 of the manual): what was changed by hand between the nodes is found, finished or not."""
    scene = Scene(bench, first_is_done=first_is_done)
    check_refused_then_restored(scene, scene.between, damage)


@pytest.mark.parametrize(
    ("damage", "ordered"),
    list(zip([cut, edit_begin, delete_row, swap_rows, delete], itertools.cycle([True, False]), strict=False)),
)
def test_a_changed_input_is_refused(bench: Bench, damage: Callable[[Path], None], ordered: bool) -> None:
    """M22: input shortened, gone, or edited where it was read already."""
    scene = Scene(bench, first_is_done=False, ordered=ordered)
    check_refused_then_restored(scene, bench.input, damage)


def test_an_input_that_was_moved_by_a_few_bytes_is_refused(bench: Bench) -> None:
    """M22: no row begins where reading is to go on, though the file is long enough."""
    scene = Scene(bench, first_is_done=False)

    def widen(path: Path) -> None:
        path.write_bytes(path.read_bytes().replace(b'{"n": 0}', b'{"n":    0}', 1))

    check_refused_then_restored(scene, bench.input, widen)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("tail", [b'{"n": 17, "_i"', b'{"n":1,"_i":1}\n', b"\n", b"\0" * 5000, b'{"n":1}\n' * 50])
@pytest.mark.parametrize("which", ["between", "output"])
def test_a_torn_tail_is_cut_and_regenerated(bench: Bench, tail: bytes, which: str) -> None:
    """M22: what lies behind the last commit was never promised; it is no change."""
    scene = Scene(bench, first_is_done=False)
    path = bench.output if which == "output" else scene.between
    with path.open("ab") as file:
        file.write(tail)
    assert scene.resume().status == Status.COMPLETED
    assert bag(lines(bench.output)) == bag(EXPECTED)
    assert bag(lines(scene.between)) == bag(EXPECTED)


@pytest.mark.parametrize("which", ["between", "output"])
def test_a_torn_commit_is_passed_over(bench: Bench, which: str) -> None:
    """S1: the last line of a commit log may be torn; the flush that it speaks of is done again."""
    scene = Scene(bench, first_is_done=False)
    log = Path(f"{bench.output if which == 'output' else scene.between}.commits")
    log.write_bytes(log.read_bytes() + b'1234abcd {"rows":')
    assert scene.resume().status == Status.COMPLETED
    assert bag(lines(bench.output)) == bag(EXPECTED)


def test_an_input_that_has_grown_is_no_change(bench: Bench) -> None:
    """M22: rows that were appended are rows of the input like others."""
    scene = Scene(bench, first_is_done=False)
    with bench.input.open("a") as file:
        file.writelines(json.dumps({"n": n}) + "\n" for n in range(ROWS, ROWS + 20))
    assert scene.resume().status == Status.COMPLETED
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(ROWS + 20))


@pytest.mark.parametrize("first_is_done", [True, False])
def test_a_seal_that_somebody_else_made_does_not_finish_a_node(bench: Bench, first_is_done: bool) -> None:
    """M6, S2: `.done` of unfinished nodes is removed by resume()."""
    scene = Scene(bench, first_is_done=first_is_done)
    Path(f"{bench.output}.done").touch()
    Path(f"{scene.between}.done").touch()
    if first_is_done:  # its own seal is overwritten by an empty one: nobody knows any more that it is finished
        Path(f"{scene.between}.done").write_bytes(b"")
        with pytest.raises(StreamError, match=str(scene.between)):
            scene.resume()
        return
    assert scene.resume().status == Status.COMPLETED
    assert bag(lines(bench.output)) == bag(EXPECTED)


# --- resumes of what has ended, and of what has moved --------------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False])
def test_a_finished_run_resumes_to_completed_and_calls_nothing(bench: Bench, streaming: bool) -> None:
    """M6: not even its input is needed any more."""
    bench.give(numbered(50))
    called: list[Any] = []

    def work(item: Any) -> Any:
        called.append(item)
        return item if item["n"] % 2 else None

    first = bench.pipeline([work, work], streaming=streaming).create("a").run()
    before = {file: file.read_bytes() for file in bench.folder.glob("*.jsonl*")}
    called.clear()
    bench.input.unlink()
    pipeline = bench.pipeline([work, work]).resume("a")
    assert pipeline.status == Status.COMPLETED
    report = pipeline.run()
    assert report.status == Status.COMPLETED
    assert not called
    assert [(node.rows_in, node.rows_out, node.filtered) for node in report.nodes] == [
        (node.rows_in, node.rows_out, node.filtered) for node in first.nodes
    ]
    assert bench.run_state("a")["status"] == "completed"
    del before[bench.input]
    assert {file: file.read_bytes() for file in bench.folder.glob("*.jsonl*")} == before


@pytest.mark.sampled(4)
@pytest.mark.parametrize("damage", [cut, edit_end, edit_begin, delete])
@pytest.mark.parametrize("which", ["between", "output"])
def test_a_finished_run_whose_files_were_changed_is_refused(
    bench: Bench, damage: Callable[[Path], None], which: str
) -> None:
    """M22: a resume does not report as completed what is not there any more."""
    bench.give(numbered(50))
    pipeline = bench.pipeline([lambda item: item, lambda item: item]).create("a")
    pipeline.run()
    path = bench.output if which == "output" else bench.between("a")
    damage(path)
    with pytest.raises(StreamError, match=str(path)):
        pipeline.resume("a").run()


def test_the_run_state_wins_over_the_code(bench: Bench) -> None:
    """M6 (8.2, 12.2 of the manual): paths, writer, concurrency, ids and mode come from the run state."""
    scene = Scene(bench, first_is_done=False)
    before = bench.run_state("a")
    wrong = bench.folder / "wrong"
    pipeline = scene.pipeline(
        input_uri=f"jsonl://{wrong / 'in.jsonl'}",
        output_uri=f"csv://{wrong / 'out.csv'}",
        base_path=wrong,
        streaming=False,
        parallel_size=7,
        batch_size=7,
        writer_config={"queue_size": 3},
        id_scheme="numeric",
        default_protocol="csv://",
        protocol_prefix="p",
    )
    with pytest.warns(ResumeWarning) as told:
        pipeline.resume("a")
    assert [str(warning.message).count("wrong") for warning in told] == [1, 1, 1]  # two ends, and base_path
    assert [node.node_id for node in pipeline.nodes] == ["node_0", "node_1"]
    assert {node.settings["parallel_size"] for node in pipeline.nodes} == {2}
    assert pipeline.streaming is True
    pipeline.run()
    assert not wrong.exists()
    assert bag(lines(bench.output)) == bag(EXPECTED)
    after = bench.run_state("a")
    same = ("node_id", "operator", "input_uri", "output_uri", "parallel_size", "batch_size", "writer_config", "ordered")
    for old, new in zip(before["nodes"], after["nodes"], strict=True):
        assert {key: old[key] for key in same} == {key: new[key] for key in same}
    assert after["config"] == before["config"]
    assert after["created_at"] == before["created_at"]


@pytest.mark.parametrize("status", ["running", "failed", "canceled", "pending", "canceling", "resuming"])
def test_whatever_the_status_was_it_becomes_resuming(bench: Bench, status: str) -> None:
    """M6 (3.2 of the manual): a killed run says "running"; resume() makes it "resuming", on disk, too."""
    scene = Scene(bench, first_is_done=False)
    run_state = bench.run_state("a")
    run_state["status"] = status
    bench.put_run_state("a", run_state)
    pipeline = scene.pipeline().resume("a")
    assert pipeline.status == Status.RESUMING
    assert bench.run_state("a")["status"] == "resuming"
    assert pipeline.run().status == Status.COMPLETED
    assert bench.run_state("a")["status"] == "completed"
    assert bench.run_state("a")["error"] is None


def test_what_a_run_state_claims_beyond_the_streams_does_not_count(bench: Bench) -> None:
    """R1: where they differ, the streams win: a run state that says "completed" finishes nothing."""
    scene = Scene(bench, first_is_done=False)
    run_state = bench.run_state("a")
    run_state["status"] = "completed"
    for node in run_state["nodes"]:
        node.update(status="completed", rows_in=ROWS, rows_out=ROWS)
    bench.put_run_state("a", run_state)
    (bench.results / "a" / "checkpoint.json").unlink()
    assert scene.resume().status == Status.COMPLETED
    assert bag(lines(bench.output)) == bag(EXPECTED)


def test_a_run_can_be_resumed_after_its_folder_was_copied_back(bench: Bench, tmp_path: Path) -> None:
    """M6: nothing but the files counts: a backup of all of them resumes like the original."""
    scene = Scene(bench, first_is_done=False)
    backup = tmp_path.parent / f"{tmp_path.name}-backup"
    shutil.copytree(bench.folder, backup)
    scene.resume()
    for path in bench.folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(backup, bench.folder, dirs_exist_ok=True)
    shutil.rmtree(backup)
    assert scene.resume().status == Status.COMPLETED
    assert bag(lines(bench.output)) == bag(EXPECTED)


def test_usage_and_counts_go_on_over_a_resume(bench: Bench) -> None:
    """M27: sums are those of all runs; calls that were repeated are paid, and counted, twice."""
    write_jsonl(bench.input, numbered(100))
    stop = True

    def work(item: Any, ctx: Any) -> Any:
        if stop and item["n"] == 50:
            raise RuntimeError
        ctx.report_usage({"provider": "p", "model": "m", "tokens": 2, "cost": 0.5})
        return item if item["n"] % 10 else None

    pipeline = bench.pipeline([work], writer_config={"async_mode": False}).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    stop = False
    report = pipeline.resume("a").run()
    assert report.usage == [{"provider": "p", "model": "m", "tokens": 200, "cost": 50.0}]
    node = bench.run_state("a")["nodes"][0]
    assert (node["rows_in"], node["rows_out"], node["filtered"]) == (100, 90, 10)
    assert node["usage"] == report.usage


@pytest.mark.parametrize(("row", "is_seen"), [(479, True), (477, True), (3, True), (450, False)])
def test_edits_just_before_the_first_row_that_is_not_done_are_seen(bench: Bench, row: int, is_seen: bool) -> None:
    """Line 17: of 10 MB, the first 8 MiB and the 64 KiB before the frontier are compared; the docs say what is not."""
    given = [{"n": n, "text": "x" * 20_000} for n in range(500)]
    bench.give(given)
    fails = True

    def work(item: Any) -> Any:
        if fails and item["n"] == 480:
            raise RuntimeError("not yet")
        return {"n": item["n"]}

    pipeline = bench.pipeline([work]).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    fails = False
    given[row]["text"] = "y" * 20_000
    bench.give(given)
    if is_seen:
        with pytest.raises(StreamChangedError, match="the input was edited where it had been read already"):
            pipeline.resume("a")
    else:
        assert pipeline.resume("a").run().rows_in == 500
