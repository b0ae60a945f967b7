"""Dead letters are tried again: by the same nodes, under the same ids, once (M24)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import BaseOperator, INodeContext, NodeFailedError, Status
from llm_datagen.errors import PipelineBusyError, PipelineNotFoundError, StreamChangedError, StreamCorruptError

from ..kit.jobs import Jobs
from ..kit.support import Bench, bag, eventually, lines, numbered, pairwise, stored
from ..pipeline.chains import operator
from .helpers import (
    Seen,
    accounts_of,
    check_counts,
    dead_letters_of,
    double,
    failing_when,
    modelled,
    some_children,
)
from .kills import Work


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("style", "protocol", "streaming", "ordered"),
    pairwise(["item", "batch", "async item"], ["jsonl", "csv"], [True, False], [True, False]),
)
def test_mended_rows_come_out_as_if_they_had_never_failed(
    bench: Bench, style: str, protocol: str, streaming: bool, ordered: bool
) -> None:
    """M24, M14: same ids, the dead letters are gone, and the nodes behind get exactly the rows that are new."""
    rows = numbered(60)
    bench.give(rows)
    hurt = [True]
    seen = Seen()
    bad = {0, 1, 13, 30, 59}
    first = seen.of("first", failing_when(lambda: bool(hurt), bad, some_children))
    second = seen.of("second", failing_when(lambda: bool(hurt), {7, 22}))
    output = bench.folder / f"out.{protocol}"
    pipeline = bench.pipeline(
        [operator(style, first, name="first"), operator("item", second, name="second")],
        output_uri=f"{protocol}://{output}",
        default_protocol=f"{protocol}://",
        streaming=streaming,
        ordered=ordered,
        batch_size=4,
        parallel_size=2,
        on_error="dead_letter",
    ).create("a")
    pipeline.run()
    between = bench.between("a", 0, protocol)
    assert sorted(dead_letter["_i"] for dead_letter in dead_letters_of(between)) == sorted(bad)
    dead_lettered_behind = [dead_letter["_i"] for dead_letter in dead_letters_of(output)]
    assert len(dead_lettered_behind) > 0
    already_out = stored(f"{protocol}://{output}")

    hurt.clear()
    seen.calls.clear()
    report = pipeline.replay("a").run()
    assert report.status == Status.COMPLETED
    wanted, _ = modelled(rows, [some_children, double])
    found = stored(f"{protocol}://{output}")
    assert bag({**row, "n": int(row["n"])} for row in found) == bag(wanted)
    assert found[: len(already_out)] == already_out, "what was out stays where it was"
    assert not Path(f"{between}.errors.jsonl").exists()
    assert not Path(f"{output}.errors.jsonl").exists()
    assert seen.by("first") == sorted(bad)
    children = sorted(n + k for n in bad for k in range(n % 4))
    dead_children = [int(row["n"]) for row in stored(f"{protocol}://{between}") if row["_i"] in dead_lettered_behind]
    assert seen.by("second") == sorted(children + dead_children)
    assert report.failed == 0
    check_counts(bench, report)


def test_rows_that_fail_again_are_lettered_again(bench: Bench) -> None:
    """M24: with the new error, once; those that are mended come out."""
    bench.give(numbered(30))
    bad = {2, 3, 20}
    pipeline = bench.pipeline([failing_when(lambda: True, bad), double], on_error="dead_letter").create("a")
    pipeline.run()
    for mended in (3, 20, 2):
        bad.discard(mended)
        before = {dead_letter["_i"]: dead_letter["at"] for dead_letter in dead_letters_of(bench.between("a"))}
        report = pipeline.replay("a").run()
        after = {dead_letter["_i"]: dead_letter["at"] for dead_letter in dead_letters_of(bench.between("a"))}
        assert after.keys() == bad
        assert all(after[row] >= before[row] for row in after)
        assert bag(lines(bench.output)) == bag({"n": 4 * n, "_i": n} for n in range(30) if n not in bad)
        check_counts(bench, report)


def test_nothing_to_replay_calls_nothing(bench: Bench) -> None:
    """M6, M24: a finished run without dead letters is as it was."""
    bench.give(numbered(10))
    seen = Seen()
    pipeline = bench.pipeline([seen.of("work", double)], on_error="dead_letter").create("a")
    pipeline.run()
    seal = Path(f"{bench.output}.done").read_bytes()
    pipeline.replay("a")
    assert pipeline.status == Status.COMPLETED
    assert pipeline.run().status == Status.COMPLETED
    assert seen.by("work") == list(range(10))
    assert Path(f"{bench.output}.done").read_bytes() == seal


def test_skipped_rows_are_not_replayed(bench: Bench) -> None:
    """M24: nobody knows them any more."""
    bench.give(numbered(10))
    bad = {4}
    pipeline = bench.pipeline([failing_when(lambda: bool(bad), {4})], on_error="skip").create("a")
    pipeline.run()
    bad.clear()
    report = pipeline.replay("a").run()
    assert (report.rows_out, report.failed) == (9, 1)
    check_counts(bench, report)


def test_a_run_that_was_cancelled_may_be_replayed(bench: Bench) -> None:
    """M24: then its pending rows are done, too."""
    bench.give(numbered(50))
    bad = {4, 5}

    def work(row: Any, ctx: INodeContext) -> Any:
        if row["n"] == 20 and bad:
            pipeline.cancel()
            eventually(ctx.is_cancelled)
        return failing_when(lambda: bool(bad), {4, 5})(row)

    pipeline = bench.pipeline([work], on_error="dead_letter", writer_config={"async_mode": False}).create("a")
    assert pipeline.run().status == Status.CANCELED
    bad.clear()
    report = pipeline.replay("a").run()
    assert bag(lines(bench.output)) == bag({"n": 2 * n, "_i": n} for n in range(50))
    assert not dead_letters_of(bench.output)
    check_counts(bench, report)


def test_a_run_that_failed_may_be_replayed(bench: Bench) -> None:
    """M24: dead letters of one node, while another one has failed."""
    bench.give(numbered(30))
    hurt = [1]
    pipeline = bench.pipeline(
        [failing_when(lambda: bool(hurt), {4}), failing_when(lambda: bool(hurt), {40})], streaming=True
    ).create("a", node_configs=[{"on_error": "dead_letter"}])
    with pytest.raises(NodeFailedError):
        pipeline.run()
    hurt.clear()
    report = pipeline.replay("a").run()
    assert bag(lines(bench.output)) == bag({"n": 4 * n, "_i": n} for n in range(30))
    check_counts(bench, report)


def test_a_line_that_was_mended_in_place_is_replayed(bench: Bench) -> None:
    """M24: a bad line has a letter like any other; mended, it is a row. It must be as long as it was."""
    texts = [f'{{"n": {n}}}' for n in range(10, 40)]
    texts[7] = "{'n': 17"
    bench.input.write_text("\n".join(texts) + "\n")
    pipeline = bench.pipeline([double], on_error="dead_letter").create("a")
    assert pipeline.run().nodes[0].dead_letters == 1
    text = bench.input.read_text()
    for longer_or_shorter in ('{"n": 17}', '{"n":1}'):
        bench.input.write_text(text.replace("{'n': 17", longer_or_shorter))
        with pytest.raises(StreamChangedError, match="must keep its length in bytes"):
            pipeline.replay("a").run()
    bench.input.write_text(text.replace("{'n': 17", '{"n":17}'))
    report = pipeline.replay("a").run()
    assert bag(lines(bench.output)) == bag({"n": 2 * n, "_i": n - 10} for n in range(10, 40))
    check_counts(bench, report)


def test_dead_letters_of_the_second_replay_are_those_of_the_second_replay(bench: Bench) -> None:
    """M24: which rows fail may change from one time to the other."""
    bench.give(numbered(40))
    bad = {1, 2}
    pipeline = bench.pipeline([failing_when(lambda: True, bad)], on_error="dead_letter").create("a")
    pipeline.run()
    bad.discard(1)
    pipeline.replay("a").run()
    bad.add(1)  # too late: it came out
    report = pipeline.replay("a").run()
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.output)] == [2]
    assert report.rows_out == 39


class Sums(BaseOperator):
    """One row of a whole batch."""

    bisect = False

    def __init__(self) -> None:
        self.bad: set[int] = {25}

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        if any(item["n"] in self.bad for item in items):
            raise ValueError("bad")
        return [{"sum": sum(item["n"] for item in items)}]


def test_a_batch_that_was_lettered_whole_is_replayed_whole(bench: Bench) -> None:
    """M12, M24: it lies on the same grid, so it is the same batch, with the same id."""
    bench.give(numbered(40))
    sums = Sums()
    pipeline = bench.pipeline([sums], batch_size=10, parallel_size=2, on_error="dead_letter").create("a")
    assert pipeline.run().nodes[0].dead_letters == 10
    sums.bad.clear()
    pipeline.replay("a").run()
    wanted = [{"sum": sum(range(at, at + 10)), "_i": f"{at}~{at + 9}_0"} for at in range(0, 40, 10)]
    assert bag(lines(bench.output)) == bag(wanted)
    (account,) = accounts_of(bench)
    assert (account.covered, account.dead) == (40, 0)


def test_a_replay_needs_the_dead_letters(bench: Bench) -> None:
    """S3: dead letters that were edited are an error that names the line; nothing is changed then."""
    bench.give(numbered(20))
    pipeline = bench.pipeline([failing_when(lambda: True, {3, 4})], on_error="dead_letter").create("a")
    pipeline.run()
    path = Path(f"{bench.output}.errors.jsonl")
    whole = path.read_bytes()
    first, second = whole.splitlines(keepends=True)
    for wrong, says in [
        (first + b" " * (len(second) - 1) + b"\n", "line 2: not a dead letter"),
        (first + first[:-1] + b" " * (len(second) - len(first)) + b"\n", "row 3: .* not all covered"),
        (first[:-1] + b" " * len(second) + b"\n", "line 1: not a dead letter .*checksum differs"),
        (first, f"{path} has {len(first)} bytes, but {len(whole)} were committed"),
    ]:
        path.write_bytes(wrong)
        with pytest.raises(StreamCorruptError, match=says):
            pipeline.replay("a")
        assert bench.is_sealed()
    path.write_bytes(whole)
    assert pipeline.replay("a").run().nodes[0].dead_letters == 2


def test_a_replay_of_a_run_that_is_running_is_refused(bench: Bench) -> None:
    """M23: and of one that is not there."""
    bench.give(numbered(5))
    with pytest.raises(PipelineNotFoundError):
        bench.pipeline([double]).replay("a")
    refused: list[BaseException] = []

    def work(row: Any) -> Any:
        if row["n"] == 2:
            with pytest.raises(PipelineBusyError) as caught:
                bench.pipeline([work]).replay("a")
            refused.append(caught.value)
        return row

    bench.pipeline([work]).create("a").run()
    assert len(refused) == 1
    assert len(lines(bench.output)) == 5


@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("kind", ["item", "batch"])
def test_a_replay_that_is_killed_is_resumed(tmp_path: Path, jobs: Jobs, kind: str, streaming: bool) -> None:
    """M21, M24: whether a letter was taken up again or not, its row comes out once."""
    work = Work(jobs, tmp_path, 150, kind=kind, nap=0.001, settings={"streaming": streaming})
    work.finish()
    work.check()
    assert work.kill_after(5, headstart=10, do="replay", mended=True)
    for _ in range(3):
        work.accounts()
        if not work.kill_after(work.chance.randrange(1, 12), headstart=10, mended=True):
            break
    assert work.kills >= 2
    work.accounts()
    work.finish(mended=True)
    work.finish(do="replay", mended=True)  # for dead letters of nodes that the first replay did not get to
    work.check(mended=True)


@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["*out.jsonl.commits", "*node_0.jsonl.commits", "*.done", "*/runtime.json"])
def test_a_kill_at_any_step_of_a_replay_loses_no_dead_letters(tmp_path: Path, jobs: Jobs, step: str, when: str) -> None:
    """M21, M24: of each node, either all dead letters were taken up or none: a second replay makes it whole."""
    work = Work(jobs, tmp_path, 60)
    work.finish()
    operation = "remove" if step == "*.done" else "rename"
    for hit in (1, 2):
        fault = {"operation": operation, "path": step, "hit": hit, "when": when}
        assert jobs.run({**work.job, "do": "replay", "mended": True, "fault": fault}) in {-9, 0}
        work.accounts()
    work.finish(do="replay", mended=True)
    work.check(mended=True)
