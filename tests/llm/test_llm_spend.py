"""The spend of a budget: calls wait for room, and the file tells what was spent whatever happened to it."""

from __future__ import annotations

import asyncio
import errno
import json
import sqlite3
import threading
from contextlib import closing
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.llm import BudgetError
from llm_datagen.llm.batch.job_log import JobLog
from llm_datagen.llm.batch.records import Arrived, NewRow
from llm_datagen.llm.cost.budget import Amount, Budget, spent_on
from llm_datagen.llm.cost.spend import Spend
from llm_datagen.llm.limits.token_estimate import answer_limit, least_tokens, used_tokens
from llm_datagen.llm.types import ChatRequest
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import job_log_path
from llm_datagen.shards.spending import spending_of
from llm_datagen.streams.storage.local import LocalStorage

TEN = Budget(tokens=10)


def tokens(count: int) -> Amount:
    return Amount(count * 10**12, count)


async def reserved(spend: Spend, count: int) -> int:
    call = await spend.reserve(tokens(count), TEN)
    assert call is not None
    return call


def test_calls_wait_for_room_in_their_order_and_give_up_when_there_will_be_none() -> None:
    async def main() -> None:
        spend = Spend(None)
        first, second = await reserved(spend, 4), await reserved(spend, 4)
        waiting = [asyncio.create_task(spend.reserve(tokens(count), TEN)) for count in (6, 1, 9, 1)]
        await asyncio.sleep(0)
        assert await spend.reserve(tokens(11), TEN) is None, "it could never fit"
        spend.settle(first, tokens(1))
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting), "a small one does not overtake"
        waiting[1].cancel()
        spend.settle(second, tokens(2))
        third = await waiting[0]
        assert third is not None
        spend.lose(third)
        assert await waiting[2] is None
        assert await waiting[3] is not None
        assert (spend.spent, spend.lost) == (tokens(9), tokens(6))

    asyncio.run(main())


def test_a_call_that_is_cancelled_after_it_got_room_gives_it_back() -> None:
    async def main() -> None:
        spend = Spend(None)
        first = await reserved(spend, 10)
        cancelled = asyncio.create_task(spend.reserve(tokens(10), TEN))
        await asyncio.sleep(0)
        spend.settle(first, Amount())  # decided, but the task has not run yet
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await reserved(spend, 10)

    asyncio.run(main())


def test_what_was_in_flight_counts_in_full_and_a_line_without_its_end_for_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "job")
    path = run.files_path / "budget.jsonl"
    assert spending_of([run]) is None

    async def main() -> None:
        spend = Spend.join("key", path.parent)
        spend.settle(await reserved(spend, 4), tokens(1))
        spend.lose(await reserved(spend, 2))
        await reserved(spend, 3)  # its process dies here
        assert str(spending_of([run])) == (
            "$3.00 and 3 tokens spent, $2.00 and 2 tokens of it for calls whose answer never came, "
            "up to $3.00 and 3 tokens for calls in flight"
        )
        spend.leave()

    asyncio.run(main())
    with path.open("ab") as file:
        file.write(b'["reserve",3,9')
    for _ in range(2):
        again = Spend.join("key", path.parent)
        assert (again.spent, again.lost) == (tokens(6), tokens(5))
        again.leave()
    path.write_bytes(path.read_bytes() + b'["settle",77,0,0]\n')
    with pytest.raises(BudgetError, match="damaged: TornLineError"):
        Spend(path.parent)


def test_every_line_of_the_file_that_is_changed_removed_doubled_or_moved_is_refused(tmp_path: Path) -> None:
    """What was spent is never less than it was, unless the end of the file is gone."""

    async def main() -> None:
        spend, budget = Spend.join("key", tmp_path), Budget(tokens=1000)
        for _ in range(5):
            call = await spend.reserve(tokens(7), budget)
            assert call is not None
            spend.settle(call, tokens(3))
        spend.leave()

    asyncio.run(main())
    path = tmp_path / "budget.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) > 8
    for at in range(len(lines) - 1):
        for changed in (
            lines[:at] + lines[at + 1 :],
            [*lines[: at + 1], *lines[at:]],
            [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
            [*lines[:at], lines[at].replace(b"7", b"1").replace(b"3", b"1")[:-2] + b"x\n", *lines[at + 1 :]],
        ):
            path.write_bytes(b"".join(changed))
            with pytest.raises(BudgetError, match=r"budget\.jsonl is damaged"):
                Spend(tmp_path)


def test_what_was_answered_is_kept_apart_in_the_file_and_in_job_logs(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "job")
    said = (
        "$3.00 and 3 tokens spent, $1.00 and 1 tokens of it for calls whose answer never came, "
        "$2.00 and 2 tokens of it for answers that could not be used, or do not say what they cost"
    )

    async def main() -> None:
        spend = Spend.join("key", run.files_path)
        spend.lose(await reserved(spend, 1))
        spend.lose(await reserved(spend, 2), is_answered=True)
        spend.leave()

    asyncio.run(main())
    assert str(spending_of([run])) == said
    for _ in range(2):  # each rewrites the file
        again = Spend.join("key", run.files_path)
        assert (again.spent, again.lost, again.untold) == (tokens(3), tokens(3), tokens(2))
        again.leave()
        assert str(spending_of([run])) == said
    job_log = JobLog(job_log_path(run.files_path, "node"))
    job_log.open()
    with closing(sqlite3.connect(job_log.path)) as file:
        assert sorted(what for (what,) in file.execute("SELECT what FROM money")) == ["lost", "spent"]
    job = job_log.intend("key-0001", "http://e", "m", [NewRow(b"s", b"b", tokens(4))], 100)
    job_log.answered(job.number, [Arrived(0, "answered", 200, b"{", tokens(4), tokens(4))])
    job_log.close()
    again = Spend.join("key", run.files_path)
    assert (again.spent, again.lost, again.untold) == (tokens(7), tokens(7), tokens(6))
    again.leave()
    assert "$1.00 and 1 tokens of it for calls whose answer never came, $6.00 and 6 tokens" in str(spending_of([run]))


def test_a_file_of_the_version_before_is_read(tmp_path: Path) -> None:
    lines = [{"format": 1, "spent": tokens(40), "lost": tokens(5)}, ["reserve", 1, *tokens(9)]]
    lines += [["settle", 1, *tokens(2)], ["reserve", 2, *tokens(8)]]
    (tmp_path / "budget.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    spend = Spend.join("key", tmp_path)
    assert (spend.spent, spend.lost) == (tokens(50), tokens(13))
    spend.leave()


def test_the_file_stays_small_and_a_disk_that_refuses_ends_no_call_unwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_datagen.llm.cost.spend_file._LARGEST_BYTES", 2000)
    largest = 0

    def torn(storage: LocalStorage, file: FileIO, data: bytes) -> None:
        file.write(data[:3])
        raise OSError(errno.ENOSPC, "the disk is full")

    async def main() -> None:
        nonlocal largest
        spend, budget = Spend.join("key", tmp_path), Budget(tokens=10**6)
        assert Spend.join("key", tmp_path) is spend
        await spend.reserve(tokens(5), budget)
        for _ in range(300):
            call = await spend.reserve(tokens(2), budget)
            assert call is not None
            spend.settle(call, tokens(1))
            largest = max(largest, (tmp_path / "budget.jsonl").stat().st_size)
        with monkeypatch.context() as patch:
            patch.setattr(LocalStorage, "write", torn)
            with pytest.raises(BudgetError, match="the disk is full"):
                await spend.reserve(tokens(1), budget)
        assert await spend.reserve(tokens(1), budget) is not None
        for _ in range(2):
            spend.leave()

    asyncio.run(main())
    assert 1900 < largest < 2100
    again = Spend.join("key", tmp_path)
    assert again.spent == tokens(306)
    again.leave()


@pytest.mark.integration
def test_event_loops_of_several_threads_share_it(tmp_path: Path) -> None:
    spend, budget = Spend.join("key", tmp_path), Budget(tokens=1000)
    granted: list[int] = []

    async def use() -> None:
        async def one() -> None:
            while (call := await spend.reserve(tokens(100), budget)) is not None:
                await asyncio.sleep(0)
                granted.append(call)
                spend.settle(call, tokens(10))

        await asyncio.gather(*(one() for _ in range(10)))

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(granted)) == len(granted) == 91, "until a hundred more would be too many"
    spend.leave()
    again = Spend.join("key", tmp_path)
    assert again.spent == tokens(910)
    again.leave()


def test_a_spend_file_that_was_removed_lets_no_call_go(tmp_path: Path) -> None:
    async def main() -> None:
        spend, budget = Spend.join("key", tmp_path), Budget(tokens=1000)
        await spend.reserve(tokens(1), budget)
        (tmp_path / "budget.jsonl").unlink()
        with pytest.raises(BudgetError, match="The file was removed while it was being written"):
            await spend.reserve(tokens(1), budget)
        spend.leave()

    asyncio.run(main())


def test_the_most_that_a_call_can_cost_is_above_what_any_tokenizer_makes_of_it() -> None:
    def most(content: Any, **params: Any) -> int:
        request = ChatRequest(messages=[{"role": "user", "content": content}], params=params, model="m")
        return Budget(tokens=1, image_tokens=1000).most(request, None).tokens

    assert most("漢" * 100, max_tokens=50) > 350
    assert most("x", max_tokens=50, response_format={"schema": "y" * 500}) > 550
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    assert 2000 < most([{"type": "text", "text": "x" * 100}, image, image], max_tokens=50) < 3000
    assert 11_000 < most([{"type": "input_audio", "data": "A" * 10_000}], max_tokens=50) < 12_000


def test_of_two_limits_of_an_answer_the_higher_one_counts_for_budgets_and_limits_alike() -> None:
    params = {"max_tokens": 9, "max_completion_tokens": 7}
    assert answer_limit(params) == 9
    assert answer_limit({"max_tokens": True, "max_completion_tokens": 7}) == 7
    assert answer_limit({"max_tokens": True}) is None
    assert least_tokens(ChatRequest(messages=[], params=params, model="m")) == 9


def test_what_a_call_has_used_is_the_same_for_budgets_and_limits() -> None:
    thoughts = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40}
    assert used_tokens(thoughts) == 40
    assert spent_on(thoughts, None) == Amount(0, 40)
    assert used_tokens({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 10}) == 15
    assert used_tokens({}) is None
