"""The backlog: every row is handed out once, and batches lie on a grid, whatever blocks rows came in (M14, R2)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.actors.backlog import Backlog
from llm_datagen.streams import Block

from ..kit.actors import block_of


def rows(start: int, end: int) -> Block:
    """Return rows as a block; between blocks lie blank lines."""
    return block_of(range(start, end), start, offset=1000 * start)


def span(block: Block | None) -> tuple[int, int] | None:
    """Return which rows a block holds."""
    return None if block is None else (block.start, block.end)


def cut(segments: list[tuple[int, int]], step: int) -> set[tuple[int, int]]:
    """Return the batches that there must be: the segments, cut at multiples of `step`."""
    batches = set()
    for start, end in segments:
        at = start
        while at < end:
            next_cut = min(end, (at // step + 1) * step)
            batches.add((at, next_cut))
            at = next_cut
    return batches


@st.composite
def segments(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Rows to be done, with gaps that an earlier run has done already."""
    found: list[tuple[int, int]] = []
    at = 0
    for _ in range(draw(st.integers(1, 4))):
        start = at + draw(st.integers(0 if not found else 1, 7))
        at = start + draw(st.integers(1, 25))
        found.append((start, at))
    return found


def blocks_of(segments: list[tuple[int, int]], data: st.DataObject) -> list[Block]:
    """Return the segments in blocks as a reader sends them: none crosses a gap."""
    found = []
    for start, end in segments:
        at = start
        while at < end:
            upto = data.draw(st.integers(at + 1, end), label="end of block")
            found.append(rows(at, upto))
            at = upto
    return found


class Bench:
    """A node's loop around a backlog: blocks come, pieces go out, some of each piece comes back."""

    def __init__(self, step: int, blocks: list[Block], data: st.DataObject) -> None:
        self.backlog = Backlog(step)
        self.step = step or 1
        self.to_come = blocks
        self.running: list[Block] = []
        self.batches: list[tuple[int, int]] = []
        self._data = data

    def one_step(self) -> None:
        """Do one of the things that can happen."""
        choices = []
        if self.to_come:
            choices.append("come")
        if self.running:
            choices.append("finish")
        choices.append("take")
        match self._data.draw(st.sampled_from(choices), label="what happens"):
            case "come":
                self.backlog.add(self.to_come.pop(0))
                if not self.to_come:
                    self.backlog.close()
            case "take":
                self.take()
            case "finish":
                self.finish()

    def take(self) -> bool:
        """Take a piece, if there is one."""
        block = self.backlog.take(self._data.draw(st.integers(1, 30), label="rows"))
        if block is None:
            return False
        assert block.records
        self.running.append(block)
        return True

    def finish(self) -> None:
        """Let a worker come back, with some of its batches not done."""
        block = self.running.pop(self._data.draw(st.integers(0, len(self.running) - 1), label="which"))
        starts = list(range(0, len(block.records), self.step))
        done = self._data.draw(st.integers(0, len(starts)), label="batches done")
        for start in starts[:done]:
            self.batches.append((block.start + start, min(block.start + start + self.step, block.end)))
        if done < len(starts):
            _, rest = block.split_at(starts[done])
            self.backlog.put_back(rest)

    def check_sums(self) -> None:
        """What the backlog says that it holds is what it holds."""
        held = list(self.backlog._blocks)
        assert self.backlog.rows == sum(len(block.records) for block in held)
        assert self.backlog.bytes == sum(block.size for block in held)
        assert [block.start for block in held] == sorted(block.start for block in held)
        assert self.backlog.start == (held[0].start if held else 0)

    def run_out(self) -> None:
        """Let everything come to its end, without giving rows back."""
        while self.to_come:
            self.backlog.add(self.to_come.pop(0))
        self.backlog.close()
        for _ in range(1000):
            while (block := self.backlog.take(5)) is not None:
                self.running.append(block)
            if not self.running:
                break
            block = self.running.pop()
            for start in range(0, len(block.records), self.step):
                self.batches.append((block.start + start, min(block.start + start + self.step, block.end)))


@given(segments(), st.integers(1, 6), st.data())
@settings(max_examples=75, deadline=None)
@pytest.mark.slow
def test_batches_are_the_same_whatever_the_blocks_and_the_timing(
    given_segments: list[tuple[int, int]], step: int, data: st.DataObject
) -> None:
    """M14, R2: each row in exactly one batch; a batch is cut at multiples of its size, or where the rows end."""
    bench = Bench(step, blocks_of(given_segments, data), data)
    for _ in range(data.draw(st.integers(0, 60), label="steps")):
        bench.one_step()
        bench.check_sums()
    bench.run_out()
    assert len(bench.batches) == len(set(bench.batches))
    assert set(bench.batches) == cut(given_segments, step)
    assert (bench.backlog.rows, bench.backlog.bytes) == (0, 0)


@pytest.mark.slow
@given(segments(), st.data())
@settings(max_examples=80, deadline=None)
def test_items_are_handed_out_once(given_segments: list[tuple[int, int]], data: st.DataObject) -> None:
    """R2: an operator that takes items has no grid, and no row twice."""
    bench = Bench(0, blocks_of(given_segments, data), data)
    for _ in range(data.draw(st.integers(0, 60), label="steps")):
        bench.one_step()
        bench.check_sums()
    bench.run_out()
    assert sorted(bench.batches) == [(n, n + 1) for start, end in given_segments for n in range(start, end)]


@pytest.mark.parametrize("step", [0, 3])
def test_an_empty_backlog_gives_nothing(step: int) -> None:
    """H5: it does not wait; the node goes on with its next message."""
    backlog = Backlog(step)
    assert backlog.take(10) is None
    backlog.close()
    assert backlog.take(10) is None


def test_items_are_given_at_once() -> None:
    """M18: a row that comes slowly does not wait for others."""
    backlog = Backlog(0)
    backlog.add(rows(0, 1))
    assert span(backlog.take(100)) == (0, 1)


def test_a_batch_waits_until_it_is_whole_or_the_source_has_ended() -> None:
    """M14: what an operator makes of a batch must not depend on how fast rows come."""
    backlog = Backlog(4)
    backlog.add(rows(0, 3))
    assert backlog.take(100) is None
    backlog.add(rows(3, 6))
    assert span(backlog.take(100)) == (0, 4)
    assert backlog.take(100) is None
    backlog.close()
    assert span(backlog.take(100)) == (4, 6)


def test_a_task_carries_whole_batches_only() -> None:
    """M14: as many as were asked for, and one at least."""
    backlog = Backlog(4)
    backlog.add(rows(0, 100))
    assert span(backlog.take(1)) == (0, 4)
    assert span(backlog.take(11)) == (4, 12)


def test_after_rows_that_are_done_already_a_batch_is_short_up_to_the_grid() -> None:
    """M14: a resume cuts the same batches as a run that was not interrupted."""
    backlog = Backlog(4)
    backlog.add(rows(6, 7))
    assert backlog.take(100) is None
    backlog.add(rows(7, 20))
    assert span(backlog.take(100)) == (6, 8)
    assert span(backlog.take(8)) == (8, 16)


def test_a_batch_before_rows_that_are_done_already_does_not_wait_for_more() -> None:
    """M14: there will be none: what follows is behind a gap."""
    backlog = Backlog(4)
    backlog.add(rows(4, 6))
    assert backlog.take(100) is None
    backlog.add(rows(9, 10))
    assert span(backlog.take(100)) == (4, 6)
    assert backlog.take(100) is None


def test_rows_that_come_back_are_the_next_to_go_out() -> None:
    """R2: so that an ordered node is never stuck behind a row that nobody works on."""
    backlog = Backlog(0)
    backlog.add(rows(0, 20))
    first, second = backlog.take(5), backlog.take(5)
    assert first is not None
    assert second is not None
    backlog.put_back(second)
    backlog.put_back(first)
    assert backlog.start == 0
    assert span(backlog.take(5)) == (0, 5)
    assert span(backlog.take(5)) == (5, 10)


def test_items_of_several_blocks_are_handed_out_together_but_not_across_a_gap() -> None:
    """M10: how many rows a task has is not decided by how the reader happened to cut them."""
    backlog = Backlog(0)
    for block in (rows(0, 3), rows(3, 6), rows(6, 9), rows(20, 25)):
        backlog.add(block)
    assert [span(backlog.take(7)) for _ in range(4)] == [(0, 7), (7, 9), (20, 25), None]
    assert (backlog.rows, backlog.bytes) == (0, 0)
