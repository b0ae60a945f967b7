"""Spans and metrics of runs, by the real SDK in memory: exact, private, and never a reason that a row fails."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from llm_datagen import (
    CompositePipelineHooks,
    ConfigError,
    DefaultPipelineHooks,
    NodeFailedError,
    ShardedPipeline,
    StopRun,
    UnifiedPipeline,
)
from llm_datagen.llm import Embed
from llm_datagen.runs import model_calls
from llm_datagen.telemetry import OpenTelemetry
from llm_datagen.testing import FakeLLMServer

from ..kit.shards import InThreads
from ..kit.support import Bench, lines, numbered
from ..llm.chat_server import ChatServer, Reply, Seen, completion
from .in_memory import InMemory, by

RUN, NODE, CALL = "llm_datagen.run", "llm_datagen.node", "chat tiny"
RUN_ID, NODE_ID = "llm_datagen.run.id", "llm_datagen.node.id"


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def own(span: ReadableSpan) -> int:
    found = span.get_span_context()
    assert found is not None
    return found.span_id


def keep(item: Any) -> Any:
    return item


def ask(bench: Bench, server: ChatServer, hooks: Any, *, rows: int = 3, **options: Any) -> UnifiedPipeline:
    """Return a pipeline of two nodes, the second of which asks a model about each row."""
    bench.give({"q": f"question {number}"} for number in range(rows))
    return bench.pipeline([keep, server.operator(**options)], hooks=hooks, on_error="dead_letter").create("a")


def test_a_run_its_nodes_and_its_calls_are_a_tree_of_spans(bench: Bench, server: ChatServer, memory: InMemory) -> None:
    server.reply = lambda seen: Reply({**completion("yes"), "model": "tiny-2026"})
    pipeline = ask(bench, server, memory.hooks(), params={"temperature": 0, "max_tokens": 50, "seed": 7})
    with memory.tracers.get_tracer("app").start_as_current_span("around") as around:
        pipeline.run()
    run = memory.span(RUN)
    first, second = memory.span(NODE, node_id="node_0"), memory.span(NODE, node_id="node_1")
    assert parent(run) == around.get_span_context().span_id
    assert [parent(first), parent(second)] == [own(run), own(run)]
    assert dict(run.attributes or {}) == {RUN_ID: "a", "llm_datagen.run.completed": True}
    assert dict(second.attributes or {}) == {
        RUN_ID: "a",
        NODE_ID: "node_1",
        "llm_datagen.operator": "LLMOperator",
        "llm_datagen.rows_in": 3,
        "llm_datagen.rows_out": 3,
        "llm_datagen.rows_failed": 0,
        "llm_datagen.node.status": "completed",
    }
    calls = memory.spans(CALL)
    assert {parent(call) for call in calls} == {own(second)}
    assert {call.kind for call in calls} == {SpanKind.CLIENT}
    port = int(server.base_url.split(":")[2].split("/")[0])
    assert sorted(({**(call.attributes or {})} for call in calls), key=lambda each: str(each["llm_datagen.row"])) == [
        {
            RUN_ID: "a",
            NODE_ID: "node_1",
            "llm_datagen.row": str(number),
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "127.0.0.1",
            "gen_ai.request.model": "tiny",
            "gen_ai.request.temperature": 0.0,
            "gen_ai.request.max_tokens": 50,
            "gen_ai.request.seed": 7,
            "gen_ai.response.model": "tiny-2026",
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 3,
            "server.address": "127.0.0.1",
            "server.port": port,
        }
        for number in range(3)
    ]
    for child, whole in [(call, second) for call in calls] + [(first, run), (second, run)]:
        assert (whole.start_time or 0) <= (child.start_time or 0) <= (child.end_time or 0) <= (whole.end_time or 0)
    assert len(memory.spans()) == 7
    assert all(span.status.status_code is StatusCode.UNSET for span in memory.spans())


@pytest.mark.slow
def test_a_request_for_vectors_is_a_span_of_its_own_kind(bench: Bench, memory: InMemory) -> None:
    bench.give({"t": f"text {number}"} for number in range(4))
    with FakeLLMServer() as server:
        embed = Embed("{{ t }}", model="m", base_url=server.base_url, dimensions=4, texts_per_request=4)
        bench.pipeline([embed], hooks=memory.hooks(), parallel_size=4).create("a").run()
        calls = server.calls
    spans = memory.spans("embeddings m")
    assert len(spans) == calls
    for span in spans:
        found = span.attributes or {}
        assert (found["gen_ai.operation.name"], found["gen_ai.embeddings.dimension.count"]) == ("embeddings", 4)
    assert sum(int(str((span.attributes or {})["gen_ai.usage.input_tokens"])) for span in spans) == server.tokens


def test_metrics_count_rows_tokens_cost_and_calls(bench: Bench, server: ChatServer, memory: InMemory) -> None:
    def reply(seen: Seen) -> Reply:
        is_wrong = seen.body["messages"][0]["content"] == "question 1"
        return Reply({"error": {"message": "no"}}, 400) if is_wrong else Reply(completion("yes"))

    server.reply = reply
    ask(bench, server, memory.hooks(), rows=4, prices={"input": 1, "output": 2}).run()
    found = memory.metrics()
    assert by(found["llm_datagen.rows"], NODE_ID, "llm_datagen.outcome") == {
        ("node_0", "kept"): 4,
        ("node_1", "kept"): 3,
        ("node_1", "dead_letter"): 1,
    }
    assert by(found["llm_datagen.output_rows"], RUN_ID, NODE_ID) == {("a", "node_0"): 4, ("a", "node_1"): 3}
    assert by(found["llm_datagen.tokens"], NODE_ID, "gen_ai.request.model", "gen_ai.token.type") == {
        ("node_1", "tiny", "input"): 21,
        ("node_1", "tiny", "output"): 9,
    }
    assert by(found["llm_datagen.requests"], NODE_ID, "gen_ai.provider.name") == {("node_1", "127.0.0.1"): 3}
    assert by(found["llm_datagen.cost"], NODE_ID) == {("node_1",): pytest.approx(3 * 13e-6)}
    used = {dict(key)["gen_ai.token.type"]: point for key, point in found["gen_ai.client.token.usage"].items()}
    assert {kind: (point.count, point.sum) for kind, point in used.items()} == {"input": (3, 21), "output": (3, 9)}
    lasted = found["gen_ai.client.operation.duration"]
    assert {dict(key).get("error.type"): point.count for key, point in lasted.items()} == {None: 3, "400": 1}
    assert next(iter(lasted.values())).explicit_bounds[:2] == (0.01, 0.02)
    assert set(found) == {
        "llm_datagen.rows", "llm_datagen.output_rows", "llm_datagen.tokens", "llm_datagen.requests",
        "llm_datagen.cost", "gen_ai.client.token.usage", "gen_ai.client.operation.duration",
    }  # fmt: skip


def test_parts_of_the_tokens_are_attributes_of_the_span(bench: Bench, server: ChatServer, memory: InMemory) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}}
    server.always(completion("yes", usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, **details}))
    ask(bench, server, memory.hooks(), rows=1).run()
    found = {name: value for name, value in (memory.span(CALL).attributes or {}).items() if "usage" in name}
    assert found == {
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
    }


def test_each_try_has_a_span_that_says_what_it_failed_of(bench: Bench, server: ChatServer, memory: InMemory) -> None:
    """A refusal, an answer that breaks off, something that is no HTTP, a body that is no answer; then an answer."""
    replies = [
        Reply({"error": {"message": "busy"}}, 503),
        Reply(completion("half"), missing=9),
        Reply("", raw=b"no HTTP at all"),
        Reply("no JSON"),
        Reply(completion("yes")),
    ]
    server.reply = lambda seen: replies.pop(0)
    ask(bench, server, memory.hooks(), rows=1, max_retries=4, retry_wait=0.001).run()
    calls = memory.spans(CALL)
    kinds = [(call.attributes or {}).get("error.type") for call in calls]
    assert kinds == ["503", "DisconnectError", "NoHttpError", "LLMRequestError", None]
    assert [call.status.status_code for call in calls] == [StatusCode.ERROR] * 4 + [StatusCode.UNSET]
    assert {call.status.description for call in calls} == {None}


def test_what_ends_a_run_is_told_by_its_kind(bench: Bench, memory: InMemory) -> None:
    def fail(item: Any) -> Any:
        raise LookupError(f"secret of row {item['n']}")

    bench.give(numbered(2))
    with pytest.raises(NodeFailedError):
        bench.pipeline([keep, fail], hooks=memory.hooks()).create("a").run()
    for span in (memory.span(RUN), memory.span(NODE, node_id="node_1")):
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "LookupError"
    assert (memory.span(RUN).attributes or {})["llm_datagen.run.completed"] is False
    assert (memory.span(NODE, node_id="node_1").attributes or {})["llm_datagen.node.status"] == "failed"
    assert "secret of row" not in memory.everything()


KEY, PROMPT, ANSWER, FAULT = "sk-Pr48/Wd+Ke7cZ3vL", "canary-prompt-62", "canary-answer-93", "canary-fault-17"


@pytest.mark.parametrize("content", [False, True])
def test_keys_are_never_told_and_prompts_and_answers_only_when_asked(
    bench: Bench, server: ChatServer, memory: InMemory, content: bool
) -> None:
    def reply(seen: Seen) -> Reply:
        if "bad" in seen.body["messages"][-1]["content"]:
            return Reply({"error": {"message": f"{FAULT} {seen.headers['authorization']}"}}, 400)
        return Reply(completion(ANSWER))

    server.reply = reply
    bench.give([{"q": PROMPT}, {"q": f"bad {PROMPT}"}])
    operator = server.operator(system="You are canary-system-31.", api_key=KEY)
    hooks = memory.hooks(content=content)
    bench.pipeline([operator], hooks=hooks, on_error="dead_letter").create("a").run()
    told = memory.everything()
    assert KEY not in told
    assert KEY[3:] not in told
    canaries = (PROMPT, ANSWER, FAULT, "canary-system-31")
    assert [canary in told for canary in canaries] == [content] * 4
    if content:
        call = next(call for call in memory.spans(CALL) if call.status.status_code is StatusCode.UNSET)
        attributes = dict(call.attributes or {})
        assert json.loads(str(attributes["gen_ai.input.messages"])) == [
            {"role": "system", "parts": [{"type": "text", "content": "You are canary-system-31."}]},
            {"role": "user", "parts": [{"type": "text", "content": PROMPT}]},
        ]
        assert json.loads(str(attributes["gen_ai.output.messages"])) == [
            {"role": "assistant", "parts": [{"type": "text", "content": ANSWER}], "finish_reason": "stop"}
        ]


def test_the_environment_may_ask_for_content(
    bench: Bench, server: ChatServer, memory: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    ask(bench, server, memory.hooks(), rows=1).run()
    assert "gen_ai.input.messages" in (memory.span(CALL).attributes or {})


@pytest.mark.slow
def test_a_share_of_the_rows_gets_spans_and_metrics_count_all(
    bench: Bench, server: ChatServer, memory: InMemory
) -> None:
    bench.give({"q": f"question {number}"} for number in range(40))

    def rows_with_spans(memory: InMemory, share: float) -> set[str]:
        pipeline = bench.pipeline([server.operator()], hooks=memory.hooks(calls=share), parallel_size=20)
        pipeline.create("a", if_exists="overwrite").run()
        return {str((span.attributes or {})["llm_datagen.row"]) for span in memory.spans(CALL)}

    chosen = rows_with_spans(memory, 0.5)
    assert 5 < len(chosen) < 35
    assert next(iter(memory.metrics()["gen_ai.client.operation.duration"].values())).count == 40
    assert rows_with_spans(InMemory(), 0.5) == chosen
    none = InMemory()
    assert rows_with_spans(none, 0) == set()
    assert [span.name for span in none.spans()] == [NODE, RUN]


def test_the_sampler_of_the_sdk_decides(bench: Bench, server: ChatServer) -> None:
    memory = InMemory(ALWAYS_OFF)
    ask(bench, server, memory.hooks(), rows=2).run()
    assert memory.spans() == []
    assert next(iter(memory.metrics()["gen_ai.client.operation.duration"].values())).count == 2


def test_answers_from_the_cache_are_no_calls(bench: Bench, server: ChatServer, memory: InMemory) -> None:
    ask(bench, server, None, cache=str(bench.folder / "cache.db")).run()
    again = bench.pipeline([keep, server.operator(cache=str(bench.folder / "cache.db"))], hooks=memory.hooks())
    again.create("a", if_exists="overwrite").run()
    assert memory.spans(CALL) == []
    assert len(server.seen) == 3


class _Nested(SpanProcessor):
    """Notes which span is current where others begin: that is what instrumented HTTP clients see."""

    def __init__(self) -> None:
        self.current: list[int] = []

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        self.current.append(trace.get_current_span().get_span_context().span_id)


def test_the_span_of_a_call_is_current_while_it_is_made_and_no_longer(
    bench: Bench, server: ChatServer, memory: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_datagen.llm.http.client import HttpTransport

    seen: list[int] = []
    complete = HttpTransport.complete

    async def looking(self: HttpTransport, request: Any) -> Any:
        seen.append(trace.get_current_span().get_span_context().span_id)
        return await complete(self, request)

    monkeypatch.setattr(HttpTransport, "complete", looking)
    ask(bench, server, memory.hooks(), rows=5).run()
    assert sorted(seen) == sorted(own(call) for call in memory.spans(CALL))
    assert not trace.get_current_span().get_span_context().is_valid


def test_the_parent_may_come_from_the_environment(
    bench: Bench, memory: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    bench.give(numbered(1))
    bench.pipeline([keep], hooks=memory.hooks()).create("a").run()
    run = memory.span(RUN)
    assert run.parent is not None
    assert run.parent.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert parent(run) == 0xB7AD6B7169203331


def test_a_resumed_run_counts_only_its_own_rows(bench: Bench, memory: InMemory) -> None:
    class Stops:
        version = "1"

        def __init__(self, at: int | None) -> None:
            self.at = at

        def process_item(self, item: Any, ctx: Any) -> Any:
            if item["n"] == self.at:
                raise StopRun("enough")
            return item if item["n"] % 3 else None

    bench.give(numbered(9))
    bench.pipeline([keep, Stops(4)], hooks=memory.hooks()).create("a").run()
    first = by(memory.metrics()["llm_datagen.rows"], NODE_ID, "llm_datagen.outcome")
    assert first == {("node_0", "kept"): 9, ("node_1", "kept"): 2, ("node_1", "filtered"): 2}
    later = InMemory()
    bench.pipeline([keep, Stops(None)], hooks=later.hooks()).resume("a").run()
    assert by(later.metrics()["llm_datagen.rows"], NODE_ID, "llm_datagen.outcome") == {
        ("node_1", "kept"): 4,
        ("node_1", "filtered"): 1,
    }
    assert [span.name for span in later.spans()] == [NODE, RUN]
    assert (later.span(NODE).attributes or {})["llm_datagen.rows_in"] == 9


class _Hostile(SpanProcessor):
    """Raises wherever it can."""

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        raise RuntimeError("on_start")

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("on_end")


def test_telemetry_that_fails_fails_no_row(bench: Bench, server: ChatServer, memory: InMemory) -> None:
    memory.tracers.add_span_processor(_Hostile())
    report = ask(bench, server, memory.hooks(), rows=5).run()
    assert (report.rows_out, report.failed) == (5, 0)
    assert len(lines(bench.output)) == 5
    assert len(server.seen) == 5


def test_nobody_listens_after_the_run_and_one_object_may_watch_several(
    bench: Bench, server: ChatServer, memory: InMemory
) -> None:
    hooks = memory.hooks()
    ask(bench, server, CompositePipelineHooks([DefaultPipelineHooks(), hooks]), rows=1).run()
    bench.pipeline([keep, server.operator()], hooks=hooks).create("a", if_exists="overwrite").run()
    assert len(memory.spans(CALL)) == len(memory.spans(RUN)) == 2
    assert model_calls.listener_of("a") is None
    assert hooks._runs == {}
    assert hooks._counts == {}
    assert hooks._told == {}
    assert hooks._used == {}


def test_worker_processes_and_shards_are_counted_and_their_calls_have_no_spans(
    bench: Bench, server: ChatServer, memory: InMemory
) -> None:
    bench.give({"q": f"question {number}"} for number in range(6))
    pipeline = bench.pipeline([server.operator(prices={"input": 1, "output": 2})], hooks=memory.hooks())
    ShardedPipeline(pipeline, shards=2, executor=InThreads()).create("a").run()
    found = memory.metrics()
    assert by(found["llm_datagen.rows"], NODE_ID, "llm_datagen.outcome") == {("node_0", "kept"): 6}
    assert by(found["llm_datagen.tokens"], NODE_ID, "gen_ai.token.type") == {
        ("node_0", "input"): 42,
        ("node_0", "output"): 18,
    }
    assert memory.spans(CALL) == []
    assert [parent(span) for span in memory.spans(NODE)] == [own(memory.span(RUN))]


@pytest.mark.parametrize("calls", [-0.1, 1.1, True, "children", float("nan")])
def test_a_wrong_share_is_refused(memory: InMemory, calls: Any) -> None:
    with pytest.raises(ConfigError, match="calls must be a share from 0 to 1, not "):
        memory.hooks(calls=calls)


def test_an_exporter_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(ConfigError, match="OTEL_TRACES_EXPORTER=zipkin: no package that is installed has this"):
        OpenTelemetry()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ConfigError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL=grpc: .*'otlp'"):
        OpenTelemetry()


def test_a_hook_that_cannot_be_prepared_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(DefaultPipelineHooks):
        def prepare_run(self, cid: str, results_dir: str, run_state: Any) -> None:
            raise RuntimeError("no")

    bench.give(numbered(1))
    for hooks in (Wrong(), CompositePipelineHooks([Wrong()])):
        with caplog.at_level(logging.ERROR):
            bench.pipeline([keep], hooks=hooks).create("a", if_exists="overwrite").run()
    failed = [line for line in bench.log_lines() if line["event"] == "[Hook Failed]"]
    assert [(line["event_kind"], line["error"]) for line in failed] == [("prepare_run", "RuntimeError('no')")] * 2
