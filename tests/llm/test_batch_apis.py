"""The batch APIs of the providers, each at a server on this machine that speaks it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.http.adapters import ChatAdapter, adapter_of
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.api_client import ApiClient
from llm_datagen.llm.http.batch import reading
from llm_datagen.llm.http.batch.base import (
    BatchAdapter,
    BatchItem,
    BatchResult,
    JobState,
    SoughtJob,
    checked_key,
    custom_id,
    key_of,
)
from llm_datagen.llm.secret import Secret
from llm_datagen.llm.types import ChatRequest
from llm_datagen.testing import BatchFaults, FakeLLMServer, LLMBatches
from llm_datagen.testing.fake_llm.batch.openai import OpenAIBatches
from llm_datagen.testing.fake_llm.batch.store import Job

from .providers import BATCHES

APIS = tuple(BATCHES)
KEYED = tuple(api for api in APIS if api != "anthropic")
KEY = "job-0a1b2c3d"
SECRET = "sk-never-to-be-seen-1234"

pytestmark = pytest.mark.integration


class Client:
    """What an engine has in its hands: an adapter, a client, and the rows of a job."""

    def __init__(self, server: FakeLLMServer, api: str) -> None:
        self.chat: ChatAdapter = adapter_of(api)
        batch = self.chat.batch()
        assert batch is not None
        self.batch: BatchAdapter = batch
        address = Address(server.url(api), self.chat, "model-1")
        self.http = ApiClient(address, Secret(SECRET), timeout=5.0)

    def items(self, count: int, key: str = KEY) -> list[BatchItem]:
        return [
            BatchItem(custom_id=custom_id(key, number), body=self.chat.body(self.request(number)))
            for number in range(count)
        ]

    def request(self, number: int) -> ChatRequest:
        messages = [{"role": "user", "content": f"say {number}"}]
        return ChatRequest(messages=messages, params={"max_tokens": 50}, model="model-1")

    async def submit(self, count: int = 4, key: str = KEY) -> str:
        return await self.batch.submit(self.http, self.items(count, key), key=key, model="model-1")

    async def results(self, job_id: str) -> list[BatchResult]:
        return [each async for each in self.batch.results(self.http, job_id)]

    async def found(self, key: str = KEY, rows: int = 4, others: Sequence[str] = ()) -> list[tuple[str, str | None]]:
        sought = SoughtJob(key=key, rows=rows, since=time.time(), others=frozenset(others))
        return [(job.job_id, job.key) for job in await self.batch.find(self.http, sought)]


def run(server: FakeLLMServer, api: str, body: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        client = Client(server, api)
        await client.http.open()
        try:
            await body(client)
        finally:
            await client.http.close()

    with server:
        asyncio.run(main())


def shouting(**options: Any) -> FakeLLMServer:
    return FakeLLMServer(
        answer=lambda messages: messages[-1]["content"].upper(), api_key=SECRET, batches=LLMBatches(**options)
    )


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1 / 3])
def test_a_job_that_is_completed_has_all_of_its_rows(seconds: float) -> None:
    """Whatever the fractions of a second come to."""
    server = shouting(seconds=seconds)

    async def body(client: Client) -> None:
        for number in range(20):
            job_id = await client.submit(10, key=f"job-number-{number}")
            server.advance(seconds)
            assert {each.kind for each in await client.results(job_id)} == {"answered"}

    run(server, "anthropic", body)


@pytest.mark.parametrize("api", APIS)
def test_a_job_is_registered_worked_on_read_and_deleted(api: str) -> None:
    """The answers are those that the adapter of plain calls reads; nothing is left but what cannot be deleted."""
    server = shouting(seconds=100, waits=10, price=(2.0, 8.0))

    async def body(client: Client) -> None:
        job_id = await client.submit()
        states = {JobState.RUNNING} if api == "anthropic" else {JobState.WAITING}
        status = await client.batch.status(client.http, job_id)
        assert (status.state, status.job_id, status.why) == (*states, job_id, "")
        assert abs(status.created_at - time.time()) < 60
        server.advance(60)
        status = await client.batch.status(client.http, job_id)
        assert (status.state, status.total) == (JobState.RUNNING, 4)
        server.advance(60)
        status = await client.batch.status(client.http, job_id)
        assert (status.state, status.total, status.succeeded, status.failed) == (JobState.ENDED, 4, 4, 0)

        results = await client.results(job_id)
        assert {each.kind for each in results} == {"answered"}
        assert {each.status for each in results} == {200}
        replies = {each.custom_id: client.chat.read(each.body) for each in results}
        assert {name: reply.text for name, reply in replies.items()} == {
            f"{KEY}-{number}": f"SAY {number}" for number in range(4)
        }
        account = server.account()
        assert account["jobs"] == {KEY: [job_id]}
        assert account["rows"] == {f"say {number}": 1 for number in range(4)}
        prompt = sum(reply.usage["prompt_tokens"] for reply in replies.values())
        completion = sum(reply.usage["completion_tokens"] for reply in replies.values())
        assert account["tokens"] == {"prompt": prompt, "completion": completion}
        assert account["dollars"] == pytest.approx((2 * prompt + 8 * completion) / 1e6 * client.batch.price_factor)

        for _ in range(2):  # the second time finds nothing
            await client.batch.delete(client.http, job_id)
            await client.batch.withdraw(client.http, KEY)
        account = server.account()
        assert account["files"] == []
        assert account["undeleted"] == ([] if "job" in BATCHES[api].deleted.split() else [job_id])

    run(server, api, body)


@pytest.mark.parametrize("api", KEYED)
def test_a_job_is_found_by_its_key_on_whatever_page_it_stands(api: str) -> None:
    """Also one of many with as many rows; what is known to be another is left out."""
    server = shouting(seconds=100, per_page=2)

    async def body(client: Client) -> None:
        before = await client.submit(key="job-before-it")
        job_id = await client.submit()
        for number in range(5):
            await client.submit(key=f"job-after-it-{number}")
        assert await client.found() == [(job_id, KEY)]
        assert await client.found(others=[job_id]) == []
        assert await client.found("job-before-it") == [(before, "job-before-it")]
        assert await client.found("job-that-is-not") == []
        twin = await client.submit()
        assert await client.found() == [(job_id, KEY), (twin, KEY)], "the oldest first"

    run(server, api, body)


def test_a_job_without_a_key_at_the_provider_is_told_by_its_rows_until_it_has_ended() -> None:
    """Anthropic keeps none: a job that runs may be it, one that has ended shows its custom ids."""
    server = shouting(seconds=100, per_page=2)

    async def body(client: Client) -> None:
        job_id = await client.submit()
        other = await client.submit(key="job-of-another")
        await client.submit(5, key="job-of-five-rows")
        assert await client.found() == [(job_id, None), (other, None)]
        assert await client.found(others=[other]) == [(job_id, None)]
        server.advance(100)
        assert await client.found() == [(job_id, KEY)]
        assert await client.found("job-of-another") == [(other, "job-of-another")]
        sought = SoughtJob(key=KEY, rows=4, since=time.time() + 2 * 3600)
        assert await client.batch.find(client.http, sought) == [], "it is too old"

    run(server, "anthropic", body)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "register_late", "error_after"])
def test_a_submit_without_an_acknowledgement_may_have_registered_a_job(api: str, fault: str) -> None:
    """It is never called free; the job is found when it is there, at once or later, and never when it is not."""
    server = shouting(faults=BatchFaults(**{fault: 1.0}, late_s=120))

    async def body(client: Client) -> None:
        with pytest.raises(LLMRequestError) as caught:
            await client.submit()
        assert (caught.value.is_free, caught.value.may_pass) == (False, True)
        assert SECRET not in str(caught.value)
        there = {"drop_after": 1, "error_after": 1}.get(fault, 0)
        assert len(await client.found()) == there
        server.advance(121)
        there = max(there, fault == "register_late")
        found = await client.found()
        assert [key for _, key in found] == [KEY] * there
        assert [len(ids) for ids in server.account()["jobs"].values()] == [1] * there
        for job_id, _ in found:
            assert len(await client.results(job_id)) == 4
            await client.batch.delete(client.http, job_id)
        await client.batch.withdraw(client.http, KEY)
        assert server.account()["files"] == []

    run(server, api, body)


@pytest.mark.parametrize("api", [api for api in KEYED if api != "azure"])
def test_a_late_job_that_was_withdrawn_has_nothing_to_work_on(api: str) -> None:
    server = shouting(faults=BatchFaults(register_late=1.0, late_s=120))

    async def body(client: Client) -> None:
        with pytest.raises(LLMRequestError):
            await client.submit()
        await client.batch.withdraw(client.http, KEY)
        server.advance(121)
        ((job_id, _),) = await client.found()
        status = await client.batch.status(client.http, job_id)
        assert (status.state, status.succeeded, status.may_pass) == (JobState.ENDED, 0, False)
        assert status.why
        assert server.account()["rows"] == {}

    run(server, api, body)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("ending", ["job_expired", "job_cancelled", "cancel"])
def test_a_job_that_ends_early_has_the_results_that_there_are(api: str, ending: str) -> None:
    """By expiry, by somebody else, or by the client; Gemini has none then."""
    faults = BatchFaults(**{ending: 1.0}) if ending != "cancel" else BatchFaults()
    server = shouting(seconds=100, cancelling=30, faults=faults)

    async def body(client: Client) -> None:
        job_id = await client.submit()
        server.advance(50)
        if ending == "cancel":
            for _ in range(2):
                await client.batch.cancel(client.http, job_id)
            state = (await client.batch.status(client.http, job_id)).state
            assert state is (JobState.RUNNING if api == "gemini" else JobState.CANCELLING)
        server.advance(50)
        status = await client.batch.status(client.http, job_id)
        assert (status.state, status.why) == (JobState.ENDED, "")
        kinds = Counter(each.kind for each in await client.results(job_id))
        kind = "expired" if ending == "job_expired" else "cancelled"
        assert kinds == ({"answered": 2, kind: 2} if BATCHES[api].partial else {})
        assert server.account()["rows"].keys().__len__() == kinds["answered"]
        await client.batch.cancel(client.http, job_id)  # too late, and no error

    run(server, api, body)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("fault", "expected"),
    [("row_failed", ("failed", 400)), ("row_overloaded", ("failed", 503)), ("row_lost", (None, 0))],
)
def test_a_row_fails_by_itself(api: str, fault: str, expected: tuple[str | None, int]) -> None:
    server = shouting(faults=BatchFaults(**{fault: 1.0}))

    async def body(client: Client) -> None:
        job_id = await client.submit()
        results = await client.results(job_id)
        lost = "cancelled" if api == "gemini" else "expired"
        assert {(each.kind, each.status) for each in results} == {(expected[0] or lost, expected[1])}
        assert {each.custom_id for each in results} == {f"{KEY}-{number}" for number in range(4)}
        assert all((each.body is not None) == (fault != "row_lost") for each in results)
        assert server.account()["rows"] == {}

    run(server, api, body)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", ["truncated", "short"])
def test_results_that_end_too_early_are_an_error_and_what_came_is_whole(api: str, fault: str) -> None:
    server = shouting(faults=BatchFaults(**{fault: 1.0}))

    async def body(client: Client) -> None:
        job_id = await client.submit(40)
        results: list[BatchResult] = []

        async def collect() -> None:
            async for each in client.batch.results(client.http, job_id):
                results.append(each)  # noqa: PERF401 - a comprehension would lose them

        with pytest.raises(LLMRequestError) as caught:
            await collect()
        assert caught.value.may_pass
        assert 1 < len(results) < 40
        texts = {each.custom_id: client.chat.read(each.body).text for each in results}
        assert all(text == f"SAY {name.rpartition('-')[2]}" for name, text in texts.items())

    run(server, api, body)


@pytest.mark.parametrize("api", ["openai", "gemini"])
def test_a_file_that_is_not_ready_is_waited_for(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job is registered when it is; one that never will be is no job, and free."""
    server = shouting(file_waits=1.0)
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        server.advance(seconds)

    async def body(client: Client) -> None:
        monkeypatch.setattr(asyncio, "sleep", wait)
        assert len(await client.results(await client.submit())) == 4
        assert waits == [0.25, 0.5, 1.0][: len(waits)]
        assert len(waits) >= 2, "the second is not over after less"
        monkeypatch.setattr(reading, "_READY_WITHIN", 0.0)
        with pytest.raises(LLMRequestError, match="cannot use the file") as caught:
            await client.submit(key="job-without-file")
        assert (caught.value.is_free, caught.value.may_pass) == (True, True)
        assert list(server.account()["jobs"]) == [KEY]

    run(server, api, body)


def test_a_server_that_counts_failures_as_answers_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row has a result, so nothing is missing, whatever the count says."""
    server = shouting(faults=BatchFaults(row_failed=0.5))
    shown = OpenAIBatches._batch

    def counted(self: OpenAIBatches, job: Job) -> dict[str, Any]:
        batch = shown(self, job)
        return batch | {"request_counts": {"total": job.rows, "completed": job.rows, "failed": 0}}

    monkeypatch.setattr(OpenAIBatches, "_batch", counted)

    async def body(client: Client) -> None:
        kinds = Counter(each.kind for each in await client.results(await client.submit(20)))
        assert kinds.total() == 20
        assert set(kinds) == {"answered", "failed"}

    run(server, "openai", body)


@pytest.mark.parametrize("api", APIS)
def test_too_many_tokens_in_line_refuse_a_job_for_now(api: str) -> None:
    """OpenAI takes it, and fails it as a whole; the others refuse it."""
    server = shouting(seconds=100, enqueued_tokens=60)

    async def body(client: Client) -> None:
        first = await client.submit()
        if api in ("openai", "openai-responses", "azure"):
            job_id = await client.submit(key="job-one-too-many")
            status = await client.batch.status(client.http, job_id)
            assert (status.state, status.may_pass) == (JobState.ENDED, True)
            assert status.why.startswith("token_limit_exceeded: Enqueued token limit reached")
            assert await client.results(job_id) == []
        else:
            with pytest.raises(LLMRequestError) as caught:
                await client.submit(key="job-one-too-many")
            error = caught.value
            assert (error.amounts_to, error.is_free, error.may_pass) == (429, True, True)
        server.advance(100)
        await client.submit(key="job-in-its-time")
        assert len(await client.results(first)) == 4

    run(server, api, body)


@pytest.mark.parametrize("api", APIS)
def test_a_job_fails_as_a_whole(api: str) -> None:
    """At Anthropic each of its rows does."""
    server = shouting(faults=BatchFaults(job_failed=1.0))

    async def body(client: Client) -> None:
        job_id = await client.submit()
        status = await client.batch.status(client.http, job_id)
        assert (status.state, status.succeeded) == (JobState.ENDED, 0)
        results = await client.results(job_id)
        if api == "anthropic":
            assert {(each.kind, each.status) for each in results} == {("failed", 500)}
        else:
            assert results == []
            assert status.why
            assert status.may_pass == (api != "mistral"), "which does not say what it failed of"

    run(server, api, body)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("fault", "status"), [("server_error", 500), ("rate_limit", 429)])
def test_a_provider_that_fails_is_asked_again(api: str, fault: str, status: int) -> None:
    """What failed before a job could be registered is free."""
    server = shouting(faults=BatchFaults(**{fault: 1.0}))

    async def body(client: Client) -> None:
        for call in (client.submit(), client.batch.status(client.http, "some-job"), client.found()):
            with pytest.raises(LLMRequestError) as caught:
                await call
            assert (caught.value.status, caught.value.may_pass) == (status, True)
        with pytest.raises(LLMRequestError) as caught:
            await client.submit()
        has_files = api != "anthropic"
        assert caught.value.is_free == (has_files or status == 429)

    run(server, api, body)


@pytest.mark.parametrize("api", APIS)
def test_what_is_not_there_is_said_and_a_wrong_key_is_not_shown(api: str) -> None:
    server = FakeLLMServer(api_key="another")

    async def body(client: Client) -> None:
        with pytest.raises(LLMRequestError) as caught:
            await client.submit()
        assert (caught.value.status, caught.value.is_free, caught.value.may_pass) == (401, True, False)
        assert SECRET not in str(caught.value)
        server._api_key = None
        with pytest.raises(LLMRequestError) as caught:
            await client.batch.status(client.http, "batches/no-job" if api == "gemini" else "no-job")
        assert (caught.value.status, caught.value.may_pass) == (404, False)
        assert "GET /" in str(caught.value)
        await client.batch.delete(client.http, "batches/no-job" if api == "gemini" else "no-job")

    run(server, api, body)


@pytest.mark.parametrize("api", APIS)
def test_a_server_that_lists_no_jobs_is_named_and_says_nothing_of_any_job(api: str) -> None:
    """A 404 would say that a job is not there, and its rows would be sent again."""
    server = FakeLLMServer()

    async def body(client: Client) -> None:
        server.handle = lambda request, connection: connection.respond(404, b"{}")  # type: ignore[method-assign]
        with pytest.raises(LLMRequestError, match=r"has no listing /.*a job is found again") as caught:
            await client.found()
        assert (caught.value.status, caught.value.may_pass) == (501, False)
        await client.batch.withdraw(client.http, KEY)  # what is not listed cannot be deleted

    run(server, api, body)


@pytest.mark.parametrize("api", [api for api in APIS if api not in ("azure", "openai-responses")])
def test_results_that_are_gone_are_not_the_end_of_an_empty_job(api: str) -> None:
    server = shouting()

    async def body(client: Client) -> None:
        job_id = await client.submit()
        assert (await client.batch.status(client.http, job_id)).succeeded == 4
        answer = server.handle

        def without(request: Any, connection: Any) -> None:
            if any(word in request.path for word in ("/content", ":download", "/results")):
                connection.respond(404, b"{}")
            else:
                answer(request, connection)

        server.handle = without  # type: ignore[method-assign]
        with pytest.raises(LLMRequestError) as caught:
            await client.results(job_id)
        assert (caught.value.status, caught.value.may_pass) == (404, False)

    run(server, api, body)


@pytest.mark.parametrize("api", APIS)
def test_a_server_without_a_batch_api_is_named(api: str) -> None:
    """Something else answers there, with an empty object."""
    server = FakeLLMServer()

    async def body(client: Client) -> None:
        server.handle = lambda request, connection: connection.respond(200, b"{}")  # type: ignore[method-assign]
        with pytest.raises(LLMRequestError, match=r"does not speak this batch API: '.*' is missing .*check base_url"):
            await client.submit()
        with pytest.raises(LLMRequestError, match="does not speak this batch API"):
            await client.batch.status(client.http, "some-job")

    run(server, api, body)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("said", [b'{"error": {"message": "overloaded"}}', b'{"listed": []}', b"[]", b"7", b""])
def test_what_is_no_listing_is_not_an_empty_one(api: str, said: bytes) -> None:
    """An empty one would say that a job is not there, and its rows would be sent, and paid for, again."""
    server = FakeLLMServer()

    async def body(client: Client) -> None:
        server.handle = lambda request, connection: connection.respond(200, said)  # type: ignore[method-assign]
        if api == "gemini" and said == b'{"listed": []}':
            assert await client.found() == []  # it leaves out what is empty
            return
        with pytest.raises(LLMRequestError, match=r"has no listing /.*is missing in what it sent") as caught:
            await client.found()
        assert (caught.value.may_pass, caught.value.status) == (True, 200)

    run(server, api, body)


@pytest.mark.parametrize(
    ("api", "job"),
    [
        ("openai", {"id": "j", "status": "COMPLETED"}),
        ("mistral", {"id": "j", "status": "success"}),
        ("anthropic", {"id": "j", "processing_status": "ENDED"}),
        ("gemini", {"name": "batches/j", "metadata": {"state": "batch_state_succeeded"}}),
    ],
)
def test_states_are_known_in_any_case(api: str, job: dict[str, Any]) -> None:
    """Servers that speak another's API write its words as they like."""

    class Http:
        label = "there"

        async def request(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(data=job, headers={}, status=200)

    batch = adapter_of(api).batch()
    assert batch is not None
    assert asyncio.run(batch.status(cast("Any", Http()), "j")).state is JobState.ENDED


def test_a_time_in_milliseconds_is_told_from_one_in_seconds() -> None:
    assert reading.unix_time(1_796_000_000) == reading.unix_time(1_796_000_000_000) == 1_796_000_000.0


def test_a_custom_id_with_an_endless_number_is_of_no_job() -> None:
    assert (key_of(f"{KEY}-12"), key_of(f"{KEY}-{'9' * 5000}")) == (KEY, "")


def test_the_key_is_sent_to_no_other_host() -> None:
    """Neither to where results are said to be, nor to where a file is to be sent."""
    elsewhere = "http://localhost:1/take"
    seen: list[str] = []

    async def results(client: Client) -> None:
        job = {"id": "b", "processing_status": "ended", "results_url": elsewhere, "request_counts": {"succeeded": 0}}
        bodies = {"/v1/messages/batches/b": (200, job), "/v1/messages/batches/b/results": (200, None)}
        server.handle = lambda request, connection: answer(request, connection, bodies)  # type: ignore[method-assign]
        assert await client.results("b") == []

    async def upload(client: Client) -> None:
        server.handle = lambda request, connection: connection.respond(  # type: ignore[method-assign]
            200, b"{}", f"X-Goog-Upload-URL: {elsewhere}\r\n"
        )
        with pytest.raises(LLMRequestError, match="another host"):
            await client.submit()

    def answer(request: Any, connection: Any, bodies: Any) -> None:
        seen.append(request.path)
        status, data = bodies[request.path]
        connection.respond(status, b"" if data is None else orjson.dumps(data))

    server = FakeLLMServer()
    run(server, "anthropic", results)
    assert seen == ["/v1/messages/batches/b", "/v1/messages/batches/b/results"]
    server = FakeLLMServer()
    run(server, "gemini", upload)


def test_a_large_job_is_sent_in_pieces() -> None:
    """5,000 rows of half a kilobyte, with what JSON escapes."""
    server = shouting()

    async def body(client: Client) -> None:
        text = '"\u2028\n\\' * 60
        row = {"model": "m", "messages": [{"role": "user", "content": text}]}
        items = [BatchItem(custom_id=custom_id(KEY, number), body=row) for number in range(5_000)]
        job_id = await client.batch.submit(client.http, items, key=KEY, model="m")
        results = await client.results(job_id)
        assert len({each.custom_id for each in results}) == 5_000
        assert {client.chat.read(each.body).text for each in results} == {text}

    run(server, "openai", body)


def test_keys_and_custom_ids() -> None:
    assert checked_key("a" * 40) == "a" * 40
    for wrong in ("short", "a" * 41, "with a blank", "with/slash", "ümlaut-key"):
        with pytest.raises(ValueError, match="a key of a job has 8 to 40"):
            checked_key(wrong)
    assert key_of(custom_id(KEY, 12)) == KEY
    assert key_of("request-of-somebody") == ""
    assert len(custom_id("a" * 40, 10**9)) <= 64


def test_custom_ids_must_carry_the_key_where_nothing_else_does() -> None:
    server = FakeLLMServer()

    async def body(client: Client) -> None:
        with pytest.raises(ValueError, match="do not carry its key"):
            await client.batch.submit(client.http, client.items(2, "job-of-another"), key=KEY, model="m")

    run(server, "anthropic", body)


def test_adapters_without_a_batch_api_say_so() -> None:
    for name in ("azure-deployments", "bedrock", "ollama", "vllm"):
        assert adapter_of(name).batch() is None
