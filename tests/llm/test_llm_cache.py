"""The cache: what was answered is never asked again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.llm import CacheError, LLMAnswerError, LLMRequestError
from llm_datagen.llm.answers.ask import Asker
from llm_datagen.llm.answers.formats import answer_format
from llm_datagen.llm.cache.response_cache import CacheLayer, key_of
from llm_datagen.llm.cache.sqlite import CacheFile
from llm_datagen.llm.types import ChatAnswer, ChatRequest, Quota, RateLimits

REQUEST = ChatRequest(
    model="m", params={"temperature": 0, "seed": 1}, messages=[{"role": "user", "content": "Grüße"}], row="row 1"
)
ANSWER = ChatAnswer(
    text="ja", finish_reason="stop", usage={"total_tokens": 9}, model="m", endpoint="http://e", seconds=0.5, cost=0.1
)


@pytest.mark.parametrize("edit", ["a bit", "another's", "cut"])
def test_an_answer_that_was_changed_in_the_file_is_not_given_but_asked_for_again(tmp_path: Path, edit: str) -> None:
    path, other = tmp_path / "cache", replace(REQUEST, messages=[{"role": "user", "content": "?"}])

    async def both(layer: CacheLayer) -> list[str | None]:
        return [(await layer.complete(request)).text for request in (REQUEST, other)]

    assert run(path, ScriptedTransport(ANSWER, replace(ANSWER, text="nein")), both) == ["ja", "nein"]
    with closing(sqlite3.connect(path)) as file, file:
        kept = dict(file.execute("SELECT key, answer FROM answers"))
        mine, others = kept[key_of(REQUEST)], kept[key_of(other)]
        changed = {"a bit": mine.replace(b"ja", b"na"), "another's": others, "cut": mine[:-9]}[edit]
        file.execute("UPDATE answers SET answer = ? WHERE key = ?", (changed, key_of(REQUEST)))
    asked = ScriptedTransport(ANSWER)
    assert run(path, asked, both) == ["ja", "nein"]
    assert run(path, asked, both) == ["ja", "nein"]
    assert asked.count == 1, "it is kept again"


def test_what_an_answer_says_is_left_of_limits_is_of_that_moment_and_not_kept(tmp_path: Path) -> None:
    left = RateLimits(requests=Quota(remaining=3, limit=9, reset=1.0))

    async def once(layer: CacheLayer) -> ChatAnswer:
        return await layer.complete(REQUEST)

    asked = ScriptedTransport(replace(ANSWER, left=left))
    assert run(tmp_path / "cache", asked, once).left == left
    kept = run(tmp_path / "cache", asked, once)
    assert (kept.is_cached, kept.left, asked.count) == (True, None, 1)
    with closing(sqlite3.connect(tmp_path / "cache")) as file:
        ((stored,),) = file.execute("SELECT answer FROM answers")
    assert b'"left":null' in stored


FULL = "CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT RAISE(ABORT, 'disk is full'); END"


class ScriptedTransport:
    """Gives the answers that it was made with, one after the other; the last one for ever."""

    def __init__(self, *answers: ChatAnswer | Exception) -> None:
        self.answers = list(answers or [ANSWER])
        self.count = 0
        self.go = asyncio.Event()
        self.go.set()

    async def open(self) -> None:
        pass

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        self.count += 1
        answer = self.answers[min(self.count, len(self.answers)) - 1]
        await self.go.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        pass


def run(path: Path, asked: ScriptedTransport, body: Callable[[CacheLayer], Awaitable[Any]]) -> Any:
    """Run `body` with a cache that was opened, and close it."""

    async def main() -> Any:
        cache = CacheLayer(asked, path)
        await cache.open()
        try:
            return await body(cache)
        finally:
            await cache.close()
            await cache.close()

    return asyncio.run(main())


def complete(path: Path, asked: ScriptedTransport, *requests: ChatRequest) -> list[ChatAnswer]:
    async def body(cache: CacheLayer) -> list[ChatAnswer]:
        return [await cache.complete(request) for request in requests or [REQUEST]]

    answers: list[ChatAnswer] = run(path, asked, body)
    return answers


def execute(path: Path, statement: str) -> None:
    """Have another program execute a statement."""
    with closing(sqlite3.connect(path)) as other:
        other.execute(statement)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to the file, and takes its time."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_an_answer_outlives_its_process_and_costs_nothing_the_second_time(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "answers.sqlite"
    asked = ScriptedTransport()
    assert complete(path, asked) == [ANSWER]
    same = replace(REQUEST, params={"seed": 1, "temperature": 0}, row="row 2")
    assert complete(path, asked, REQUEST, same) == [replace(ANSWER, is_cached=True, cost=0.0, saved=ANSWER.cost)] * 2
    assert asked.count == 1
    others = [
        replace(REQUEST, model="n"),
        replace(REQUEST, params={}),
        replace(REQUEST, messages=[]),
        replace(REQUEST, sample=1),
    ]
    assert not any(answer.is_cached for answer in complete(path, asked, *others))
    # Who changes the keys makes everybody pay again: raise the format's number then.
    assert key_of(REQUEST).hex()[:16] == "505fd6466722961d"


@pytest.mark.parametrize(
    "failure",
    [
        replace(ANSWER, finish_reason="length"),
        replace(ANSWER, finish_reason="content_filter"),
        replace(ANSWER, text=None),
        LLMRequestError("HTTP 500"),
    ],
)
def test_a_failure_is_not_kept(tmp_path: Path, failure: ChatAnswer | Exception) -> None:
    asked = ScriptedTransport(failure, ANSWER)
    if isinstance(failure, Exception):
        with pytest.raises(LLMRequestError):
            complete(tmp_path / "answers", asked)
    else:
        assert complete(tmp_path / "answers", asked) == [failure]
    assert complete(tmp_path / "answers", asked) == [ANSWER]


def test_equal_requests_in_flight_are_asked_once_and_a_failed_one_is_passed_on(tmp_path: Path) -> None:
    asked = ScriptedTransport(LLMRequestError("HTTP 500"), ANSWER)

    async def body(cache: CacheLayer) -> list[Any]:
        asked.go = asyncio.Event()
        calls = [asyncio.ensure_future(cache.complete(REQUEST)) for _ in range(5)]
        await asyncio.sleep(0)
        asked.go.set()
        return await asyncio.gather(*calls, return_exceptions=True)

    failed, first, *others = run(tmp_path / "answers", asked, body)
    assert isinstance(failed, LLMRequestError)
    assert sorted([first.is_cached, *(other.is_cached for other in others)]) == [False, True, True, True]
    assert asked.count == 2


def test_the_answer_of_a_row_that_is_cancelled_is_kept_and_the_loop_goes_on(tmp_path: Path) -> None:
    asked = ScriptedTransport()

    async def body(cache: CacheLayer) -> ChatAnswer:
        with locked(tmp_path / "answers"):
            call = asyncio.ensure_future(cache.complete(REQUEST))
            while not asked.count:
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)  # the loop turns, though the file is locked
            assert not call.done(), "seen before it was stored"
            call.cancel()
            again = asyncio.ensure_future(cache.complete(REQUEST))
            await asyncio.sleep(0.01)
        return await again

    assert run(tmp_path / "answers", asked, body).is_cached
    assert asked.count == 1


def test_an_answer_that_nobody_can_use_is_discarded(tmp_path: Path) -> None:
    asked = ScriptedTransport(replace(ANSWER, text="no JSON"), ANSWER)

    async def body(cache: CacheLayer) -> ChatAnswer:
        bad = await cache.complete(REQUEST)
        again = await cache.complete(REQUEST)
        await cache.discard([(REQUEST, again)])
        await cache.discard([(REQUEST, bad)])
        return await cache.complete(REQUEST)

    assert run(tmp_path / "answers", asked, body) == ANSWER


def test_a_row_that_fails_takes_no_answer_away_from_another_row_with_the_same_prompt(tmp_path: Path) -> None:
    broken, repaired = replace(ANSWER, text="no JSON"), replace(ANSWER, text='{"a": "b"}')
    asked = ScriptedTransport(broken, replace(ANSWER, finish_reason="length"), repaired)
    schema = answer_format({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})

    async def body(cache: CacheLayer) -> list[Any]:
        await cache.complete(REQUEST)
        asked.go.clear()
        asker = Asker(cache, schema, max_repairs=1, cache=cache)
        both = [asyncio.create_task(asker.ask(REQUEST)) for _ in range(2)]
        await asyncio.sleep(0.02)  # both have the first answer; one asks for the repair, the other one waits for that
        asked.go.set()
        return [*await asyncio.gather(*both, return_exceptions=True), await asker.ask(REQUEST)]

    failed, *others = run(tmp_path / "answers", asked, body)
    assert isinstance(failed, LLMAnswerError)
    assert [other.parsed.rows for other in others] == [[{"a": "b"}]] * 2
    assert asked.count == 3


def test_no_call_is_made_while_answers_cannot_be_kept_and_the_one_that_was_made_is_not_lost(tmp_path: Path) -> None:
    path, asked = tmp_path / "answers", ScriptedTransport()

    async def body(cache: CacheLayer) -> ChatAnswer:
        execute(path, FULL)
        for _ in range(2):
            with pytest.raises(CacheError, match="disk is full"):
                await cache.complete(REQUEST)
        assert asked.count == 1
        execute(path, "DROP TRIGGER full")
        return await cache.complete(REQUEST)

    assert run(path, asked, body).is_cached
    assert asked.count == 1


def test_an_answer_that_could_not_be_kept_is_kept_in_the_end_when_it_can_be(tmp_path: Path) -> None:
    path, asked = tmp_path / "answers", ScriptedTransport()

    async def body(cache: CacheLayer) -> None:
        execute(path, FULL)
        with pytest.raises(CacheError, match="disk is full"):
            await cache.complete(REQUEST)
        execute(path, "DROP TRIGGER full")

    run(path, asked, body)
    assert complete(path, asked)[0].is_cached
    assert asked.count == 1


def test_a_file_that_is_no_cache_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    text, foreign, newer, damaged = (tmp_path / name for name in ("text", "foreign", "newer", "damaged"))
    text.write_text("not a database, but long enough to be looked at" * 20)
    with closing(sqlite3.connect(foreign)) as other:
        other.execute("CREATE TABLE mine (x)")
    complete(newer, ScriptedTransport())
    with closing(sqlite3.connect(newer)) as other:
        other.execute("PRAGMA user_version = 7")
    complete(damaged, ScriptedTransport())
    with damaged.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    for path, message in (
        (text, "is no cache, or damaged.*move it away"),
        (foreign, "the database of another program: give cache another path"),
        (newer, "a cache of format 7"),
        (damaged, "is no cache, or damaged.*paid for again"),
        (tmp_path, "cannot be opened: unable to open"),
    ):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(CacheError, match=message):
            complete(path, ScriptedTransport())
        assert not path.is_file() or path.read_bytes() == before


def test_many_open_a_new_file_at_once_and_write_to_it(tmp_path: Path) -> None:
    def use(number: int) -> None:
        file = CacheFile(tmp_path / "answers")
        file.open()
        for k in range(10):
            file.put({b"%d" % k: b"%d" % number})
        assert file.get(b"9") is not None
        file.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))


def test_a_new_file_that_many_open_at_once_is_open_for_all(tmp_path: Path) -> None:
    """SQLite does not wait by itself where the mode of the file is set."""

    def use(path: Path) -> bytes | None:
        file = CacheFile(path)
        file.open()
        file.put({b"key": b"answer"})
        found = file.get(b"key")
        file.close()
        return found

    with ThreadPoolExecutor(16) as pool:
        for attempt in range(4):
            assert set(pool.map(use, [tmp_path / str(attempt)] * 16)) == {b"answer"}
