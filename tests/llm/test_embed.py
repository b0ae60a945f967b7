"""`Embed`: rows share requests, and each gets the vector of its own text, or fails alone."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import signal
import struct
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from llm_datagen import ConfigError, NodeFailedError, RunReport, UnifiedPipeline
from llm_datagen.llm import Embed, LLMAnswerError, LLMOperator, LLMRequestError, OpenAIAdapter
from llm_datagen.llm.embeddings.length import SameLength
from llm_datagen.runs.browse.calls import calls_of
from llm_datagen.testing import FakeLLMServer, LLMFaults, cassette
from llm_datagen.testing.fake_llm.bodies import vectors_of

from ..kit.programs import Program
from ..kit.support import eventually, lines, write_jsonl
from .chat_server import ChatServer, Reply, Seen, run_rows

WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove")
JOB = Path(__file__).with_name("embed_job.py")
ROWS = [{"t": f"{WORDS[n % 7]} {WORDS[n % 5]} {n}"} for n in range(60)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an input, and an environment without anybody's key."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    write_jsonl(tmp_path / "in.jsonl", ROWS)
    return tmp_path


def embed(base_url: str, text: str = "{{ t }}", **options: Any) -> Embed:
    return Embed(text, **{"model": "m", "base_url": base_url, "max_retries": 0, "outage_after": 0, **options})


def run(operator: Any, *, output: str = "jsonl://out.jsonl", **settings: Any) -> RunReport:
    given: dict[str, Any] = {"parallel_size": 32, "on_error": "dead_letter", **settings}
    pipeline = UnifiedPipeline([operator], "jsonl://in.jsonl", output, **given)
    return pipeline.create("job", if_exists="overwrite").run()


def right(text: str, length: int = 8) -> list[float]:
    """Return the vector that the fake endpoint has for a text."""
    answer, _ = vectors_of({"input": [text]}, length, None)
    found: list[float] = answer["data"][0]["embedding"]
    return found


def vectors(*given: Any, **more: Any) -> dict[str, Any]:
    """Return the body of an answer with these vectors."""
    data = [{"index": index, "embedding": each} for index, each in enumerate(given)]
    return {"data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}, **more}


def test_rows_share_requests_and_what_they_use_is_told_to_the_token_and_the_cent() -> None:
    with FakeLLMServer() as server:
        operator = embed(server.base_url, texts_per_request=8, meta=True, prices={"input": 0.5})
        report = run(operator)
        assert server.calls < 20, "60 rows"
        assert server.answered == {row["t"]: 1 for row in ROWS}
        tokens = server.tokens
    rows = lines(Path("out.jsonl"))
    assert {row["t"]: row["embedding"] for row in rows} == {row["t"]: right(row["t"]) for row in ROWS}
    (used,) = report.usage
    cost = pytest.approx(tokens * 5e-7)
    assert (used["prompt_tokens"], used["requests"], used["cost"]) == (
        tokens,
        server.calls,
        cost,
    )
    metas = [row["_meta"]["node_0"] for row in rows]
    assert sum(meta["prompt_tokens"] for meta in metas) == tokens
    assert sum(meta["cost"] for meta in metas) == pytest.approx(tokens * 5e-7)


def test_rows_share_requests_where_nobody_says_how_many_are_in_flight() -> None:
    with FakeLLMServer() as server:
        run(embed(server.base_url), parallel_size=1)
        assert server.calls <= 3, "60 rows"
    assert len(lines(Path("out.jsonl"))) == 60


def test_what_is_in_the_cache_is_not_asked_for_again_whatever_request_it_came_with(folder: Path) -> None:
    with FakeLLMServer() as server:
        run(embed(server.base_url, texts_per_request=8, cache="kept"))
        write_jsonl(folder / "in.jsonl", [*ROWS[::-1], {"t": "new"}, {"t": "new"}])
        report = run(embed(server.base_url, texts_per_request=3, cache="kept"))
        assert server.answered == {row["t"]: 1 for row in [*ROWS, {"t": "new"}]}
    assert [row["embedding"] == right(row["t"]) for row in lines(Path("out.jsonl"))] == [True] * 62
    assert sum(used.get("cached", 0) for used in report.usage) == 61


def test_a_request_that_is_refused_for_one_text_fails_the_row_of_that_one(server: ChatServer) -> None:
    def reply(seen: Seen) -> Reply:
        texts = seen.body["input"]
        if any("13" in text or "44" in text for text in texts):
            return Reply({"error": {"message": "this is too long"}}, 400)
        return Reply(vectors(*map(right, texts)))

    server.reply = reply
    report = run(embed(server.base_url, texts_per_request=16))
    assert (report.rows_out, report.failed) == (58, 2)
    assert all(row["embedding"] == right(row["t"]) for row in lines(Path("out.jsonl")))
    failed = lines(Path("out.jsonl.errors.jsonl"))
    assert sorted(row["_i"] for row in failed) == [13, 44]
    assert all(f"row {row['_i']}: " in row["error"]["text"] for row in failed), "by its own name"


@pytest.mark.parametrize("fault", ["too_few", "too_many", "twice", "not_a_number", "wrong_length"])
def test_an_endpoint_that_lies_is_not_believed_and_no_row_gets_the_vector_of_another(fault: str) -> None:
    with FakeLLMServer(faults=LLMFaults(**{fault: 0.5}), seed=3) as server:
        run(embed(server.base_url, texts_per_request=3, max_retries=20, retry_wait=0.001))
        assert server.faults_met[fault]
    rows = lines(Path("out.jsonl"))
    if fault == "wrong_length":  # the first vector says how long they are
        length = len(rows[0]["embedding"])
        failed = lines(Path("out.jsonl.errors.jsonl"))
        assert all("numbers, and those before had" in row["error"]["text"] for row in failed)
        assert len(rows) + len(failed) == 60
    else:
        length = 8
        assert len(rows) == 60
    assert [row["embedding"] for row in rows] == [right(row["t"], length) for row in rows]


def test_vectors_in_another_order_are_put_in_order_by_their_index() -> None:
    with FakeLLMServer(faults=LLMFaults(reordered=1.0)) as server:
        run(embed(server.base_url, texts_per_request=8))
        assert server.faults_met["reordered"] == server.calls
    rows = lines(Path("out.jsonl"))
    assert [row["embedding"] for row in rows] == [right(row["t"]) for row in rows]
    assert len(rows) == 60


def test_one_bad_vector_is_asked_for_again_by_itself_and_costs_the_others_nothing(server: ChatServer) -> None:
    asked: list[int] = []

    def reply(seen: Seen) -> Reply:
        texts = seen.body["input"]
        asked.append(len(texts))
        zeros = [[0.0] * 8 if "44" in text else right(text) for text in texts]
        return Reply(vectors(*zeros))

    server.reply = reply
    report = run(embed(server.base_url, texts_per_request=60), parallel_size=60)
    assert (report.rows_out, report.failed) == (59, 1)
    assert asked[-1] == 1
    assert sum(asked) == 61
    assert "nothing but zeros" in lines(Path("out.jsonl.errors.jsonl"))[0]["error"]["text"]


def test_another_dimension_than_the_one_asked_for_ends_the_run_with_no_row() -> None:
    with FakeLLMServer() as server:
        run(embed(server.base_url, dimensions=5))
        assert {len(row["embedding"]) for row in lines(Path("out.jsonl"))} == {5}
    with FakeLLMServer(faults=LLMFaults(wrong_length=1.0)) as server:
        with pytest.raises(NodeFailedError, match="sent vectors of 6 numbers where dimensions=5 is asked for"):
            run(embed(server.base_url, dimensions=5))
        assert not lines(Path("out.jsonl"))
        assert server.calls <= 2, "no other text is asked for"


def test_base64_is_read_and_vectors_can_be_scaled_to_the_length_one(server: ChatServer) -> None:
    server.always(vectors(base64.b64encode(struct.pack("<3f", 3.0, 0.0, -4.0)).decode()))
    plain, scaled = embed(server.base_url, params={"encoding_format": "base64"}), embed(server.base_url, normalize=True)
    assert asyncio.run(run_rows(plain, [{"t": "a"}]))[0]["embedding"] == [3.0, 0.0, -4.0]
    (row,) = asyncio.run(run_rows(scaled, [{"t": "a"}]))
    assert row["embedding"] == pytest.approx([0.6, 0.0, -0.8])
    assert math.hypot(*row["embedding"]) == pytest.approx(1.0)
    assert server.seen[0].body == {"encoding_format": "base64", "model": "m", "input": ["a"]}


@pytest.mark.parametrize("broken", ["AAAA", "?", [1.0, "2"], [True], None, {"a": 1}, []])
def test_what_is_no_vector_is_refused(server: ChatServer, broken: Any) -> None:
    server.always(vectors(broken))
    with pytest.raises(LLMRequestError, match=r"did not send embeddings but|sent a vector without numbers"):
        asyncio.run(run_rows(embed(server.base_url), [{"t": "a"}]))


def test_vectors_of_two_lengths_are_never_mixed(server: ChatServer) -> None:
    server.reply = lambda seen: Reply(vectors([1.0] * len(seen.body["input"][0])))
    with pytest.raises(LLMAnswerError, match="the vector of row 1 has 3 numbers, and those before had 2"):
        asyncio.run(run_rows(embed(server.base_url), [{"t": "ab", "_i": 0}, {"t": "abc", "_i": 1}]))


def test_a_resume_knows_how_long_the_vectors_were(folder: Path) -> None:
    with FakeLLMServer(dimensions=8) as server:
        first = embed(server.base_url, texts_per_request=1, budget={"tokens": 250})
        assert run(first, parallel_size=1).status == "stopped"
        done = len(lines(Path("out.jsonl")))
        assert 0 < done < 60
    with FakeLLMServer(dimensions=9) as server:
        again = embed(server.base_url, texts_per_request=1, budget={"tokens": 90_000})
        again_line = UnifiedPipeline([again], "jsonl://in.jsonl", "jsonl://out.jsonl", on_error="dead_letter")
        report = again_line.resume("job").run()
    assert (report.rows_out, report.failed) == (done, 60 - done)
    assert {len(row["embedding"]) for row in lines(Path("out.jsonl"))} == {8}
    (kept,) = folder.rglob("vectors.node_0.json")
    assert json.loads(kept.read_bytes())["length"] == 8


def test_the_length_is_kept_in_the_folder_whatever_the_node_is_called(folder: Path) -> None:
    """A node's id may be any text."""
    ctx: Any = SimpleNamespace(folder=folder / "run" / "files", node_id="../../a b")
    answer: Any = None
    asyncio.run(SameLength().check(8, "row 1", answer, ctx, {}))
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("vectors.*")] == [
        "run/files/vectors...%2F..%2Fa%20b.json"
    ]


def test_a_text_that_is_too_long_is_refused_before_a_call_and_cut_only_when_that_is_said(server: ChatServer) -> None:
    server.reply = lambda seen: Reply(vectors([1.0]))
    rows = [{"t": "äbcdef", "_i": 5}]
    with pytest.raises(Exception, match="the text of row 5 has 6 characters, and may have 4: raise max_chars"):
        asyncio.run(run_rows(embed(server.base_url, max_chars=4), rows))
    assert not server.seen
    asyncio.run(run_rows(embed(server.base_url, max_chars=4, too_long="cut"), rows))
    assert server.seen[0].body["input"] == ["äbcd"]


def test_tokens_that_are_told_as_a_total_only_are_those_of_the_texts(server: ChatServer) -> None:
    server.always({**vectors([1.0]), "usage": {"total_tokens": 5}})
    (row,) = asyncio.run(run_rows(embed(server.base_url, meta=True, prices={"input": 1.0}), [{"t": "a"}]))
    assert (row["_meta"]["node_0"]["prompt_tokens"], row["_meta"]["node_0"]["cost"]) == (5, 5e-6)


SHAPES: dict[str, tuple[str, dict[str, Any], Any, str]] = {
    "openai": ("/v1/embeddings", {"model": "m", "input": ["a"], "dimensions": 2}, vectors([0.5, -1]), "authorization"),
    "azure": (
        "/openai/v1/embeddings",
        {"model": "m", "input": ["a"], "dimensions": 2},
        vectors([0.5, -1]),
        "api-key",
    ),
    "azure-deployments": (
        "/openai/deployments/m/embeddings?api-version=2024-10-21",
        {"model": "m", "input": ["a"], "dimensions": 2},
        vectors([0.5, -1]),
        "api-key",
    ),
    "mistral": (
        "/v1/embeddings",
        {"model": "m", "input": ["a"], "output_dimension": 2},
        vectors([0.5, -1]),
        "authorization",
    ),
    "vllm": ("/v1/embeddings", {"model": "m", "input": ["a"], "dimensions": 2}, vectors([0.5, -1]), "authorization"),
    "ollama": (
        "/api/embed",
        {"model": "m", "input": ["a"], "truncate": False, "dimensions": 2},
        {"model": "m", "embeddings": [[0.5, -1]], "prompt_eval_count": 7},
        "authorization",
    ),
    "gemini": (
        "/models/m:batchEmbedContents",
        {"requests": [{"model": "models/m", "outputDimensionality": 2, "content": {"parts": [{"text": "a"}]}}]},
        {"embeddings": [{"values": [0.5, -1]}], "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7}},
        "x-goog-api-key",
    ),
    "cohere": (
        "/v2/embed",
        {"model": "m", "texts": ["a"], "truncate": "NONE", "embedding_types": ["float"], "output_dimension": 2},
        {"id": "1", "embeddings": {"float": [[0.5, -1]]}, "meta": {"billed_units": {"input_tokens": 7}}},
        "authorization",
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_each_api_is_spoken_in_its_own_words(server: ChatServer, name: str) -> None:
    path, body, answer, header = SHAPES[name]
    server.always(answer)
    base_url = server.base_url if path.startswith("/v1/") else server.base_url.removesuffix("/v1")
    operator = embed(base_url, adapter=name, api_key="canary", dimensions=2, meta=True)
    (row,) = asyncio.run(run_rows(operator, [{"t": "a"}]))
    assert row["embedding"] == [0.5, -1.0]
    assert row["_meta"]["node_0"]["prompt_tokens"] == 7
    assert (server.seen[0].path, server.seen[0].body) == (path, body)
    assert server.seen[0].headers[header].removeprefix("Bearer ") == "canary"


@pytest.mark.slow
def test_an_endpoint_that_is_down_is_pinged_with_a_text_and_the_run_goes_on_when_it_is_back() -> None:
    with FakeLLMServer() as server:
        server.outage = True
        with pytest.raises(NodeFailedError, match="OutageError: nothing but errors"):
            run(embed(server.base_url), on_error="fail")
        assert server.prompts["ping"]
        server.outage = False
        again = UnifiedPipeline([embed(server.base_url)], "jsonl://in.jsonl", "jsonl://out.jsonl", on_error="fail")
        assert again.resume("job").run().rows_out == 60


def test_a_budget_needs_no_limit_of_answers_and_is_kept() -> None:
    with FakeLLMServer() as server:
        report = run(embed(server.base_url, texts_per_request=4, budget={"tokens": 350}), parallel_size=4)
        assert report.status == "stopped"
        assert 0 < server.tokens <= 350


def test_calls_are_played_from_a_cassette_whatever_comes_together() -> None:
    with FakeLLMServer() as server:
        with cassette("tape.jsonl", record_mode="once"):
            run(embed(server.base_url, texts_per_request=8))
        made = server.calls
    with cassette("tape.jsonl"):
        run(embed(server.base_url, texts_per_request=5), parallel_size=7)
    rows = lines(Path("out.jsonl"))
    assert [row["embedding"] for row in rows] == [right(row["t"]) for row in rows]
    assert made == len(rows) == 60
    assert '"operation":"embeddings"' in Path("tape.jsonl").read_text().splitlines()[0]


@pytest.mark.slow
def test_vectors_become_lists_of_numbers_in_parquet() -> None:
    with FakeLLMServer() as server:
        run(embed(server.base_url), output="parquet://out.parquet")
    table = pq.read_table("out.parquet")
    assert str(table.schema.field("embedding").type) == "list<element: double>"
    assert table["embedding"].to_pylist() == [right(text) for text in table["t"].to_pylist()]


def test_the_log_of_calls_has_the_text_and_how_long_its_vector_is(folder: Path) -> None:
    with FakeLLMServer() as server:
        run(embed(server.base_url))
    (where,) = folder.rglob("files")
    (call,) = calls_of(where, "node_0", [3])[3]
    assert call["messages"] == [{"role": "user", "content": ROWS[3]["t"]}]
    assert call["answer"] == "1 vector of 8 numbers"
    assert "extras" not in call or "embeddings" not in call["extras"]


def test_a_resume_with_another_model_or_text_is_refused_and_with_another_size_of_requests_it_is_not() -> None:
    one = Embed("{{ t }}", model="m", texts_per_request=3, max_wait=1.0, timeout=3).fingerprint()
    assert one == Embed("{{ t }}", model="m").fingerprint()
    for other in (
        Embed("{{ t }}", model="n"),
        Embed("{{ t }}!", model="m"),
        Embed("{{ t }}", model="m", dimensions=3),
        Embed("{{ t }}", model="m", normalize=True),
        Embed("{{ t }}", model="m", adapter="vllm"),
    ):
        assert other.fingerprint() != one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapter": "anthropic"}, "adapter must be 'openai', 'azure', .* not 'anthropic'"),
        ({"adapter": OpenAIAdapter}, "OpenAIAdapter is an adapter for chat, and here one for embeddings is needed"),
        ({"dimensions": 0}, "dimensions"),
        ({"params": {"dimensions": 3}}, "params may not hold 'dimensions'"),
        ({"params": {"input": "x"}}, "params may not hold 'input'"),
        ({"model": None, "endpoints": [{"model": "a.gguf", "engine": "llama"}]}, "an engine on this machine answers"),
        ({"too_long": "cut"}, "too_long='cut' needs max_chars"),
        ({"adapter": "gemini", "texts_per_request": 101}, "texts_per_request must be at most 100"),
        ({"model": None, "endpoints": [{"model": "a"}, {"model": "b"}]}, "vectors cannot be compared"),
        ({"output": "_v"}, "must have a name that does not start with '_'"),
        ({"text": " "}, "text must be a text that is not empty"),
        ({"n": 2}, "n"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, TypeError), match=message):
        Embed(**{"text": "{{ t }}", "model": "m", **options})


def test_a_chat_is_not_asked_of_an_adapter_for_vectors() -> None:
    with pytest.raises(ConfigError, match="OpenAIEmbeddings is an adapter for embeddings, and here one for chat"):
        LLMOperator("{{ q }}", model="m", adapter="llm_datagen.llm.embeddings.adapters:OpenAIEmbeddings")


def test_a_pool_gets_its_prices_without_any_for_answers(server: ChatServer) -> None:
    server.always(vectors([1.0]))
    pool = [{"model": "m", "base_url": server.base_url, "prices": {"input": 2.0}}]
    operator = Embed("{{ t }}", endpoints=pool, meta=True)
    (row,) = asyncio.run(run_rows(operator, [{"t": "a"}]))
    assert row["_meta"]["node_0"]["cost"] == pytest.approx(7 * 2e-6)
    assert json.dumps(row["embedding"]) == "[1.0]"


@pytest.mark.slow
@pytest.mark.process
def test_three_kills_lose_no_row_and_pay_twice_for_no_more_than_was_in_flight(folder: Path) -> None:
    write_jsonl(folder / "in.jsonl", [{"t": f"text {n}"} for n in range(400)])
    with FakeLLMServer(latency=0.02) as server:
        for share in (0.2, 0.5, 0.8):
            with Program([JOB, server.base_url], cwd=folder, stderr=subprocess.DEVNULL) as process:
                wanted = share * 400
                eventually(lambda wanted=wanted: server.answered.total() >= wanted, "it is under way")  # type: ignore[misc]
                process.kill()
            assert process.returncode == -signal.SIGKILL
        with Program([JOB, server.base_url], cwd=folder) as process:
            assert process.wait(60) == 0
        twice = sum(times - 1 for times in server.answered.values())
        assert set(server.answered) == {f"text {n}" for n in range(400)}
        assert twice <= 3 * 32, "what was in flight"
    rows = lines(folder / "out.jsonl")
    assert sorted(row["_i"] for row in rows) == list(range(400))
    assert all(row["embedding"] == right(row["t"]) for row in rows)
