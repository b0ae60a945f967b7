"""litellm makes the calls: what it gives and raises means the same as with an adapter of our own, and no key is shown.

The library is large, so it is not in the tests' own environment: who changes this runs them in one with
``pip install '.[test,litellm]'``. A real HTTP server stands for the provider.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import pytest

from llm_datagen import ConfigError
from llm_datagen.llm import EndpointRefusedError, LLMAnswerError, LLMOperator, LLMRequestError, OutageError
from llm_datagen.llm.http.adapters import adapter_of
from llm_datagen.llm.litellm.library import litellm

from .chat_server import ChatServer, Context, Reply, Seen, completion, run_rows
from .providers.anthropic import ANTHROPIC

KEY = "sk-canary-0123456789abcdef"
needs_litellm = pytest.mark.skipif(find_spec("litellm") is None, reason="litellm is large: see the head of the file")


def operator(server: ChatServer | None = None, **given: Any) -> LLMOperator:
    where = {} if server is None else {"base_url": server.base_url, "api_key": KEY}
    given = {"model": "openai/gpt-4o-mini", "max_retries": 0, "outage_after": 0, "max_repairs": 0, **where, **given}
    return LLMOperator("{{ q }}", adapter="litellm", **given)


def only_row(reply: Callable[[], Reply]) -> Callable[[Seen], Reply]:
    """Return what answers the row so, and pings well."""
    return lambda seen: reply() if seen.body["messages"][0]["content"] == "?" else Reply(completion("pong"))


def late_reply() -> Reply:
    time.sleep(3)
    return Reply(completion("late"))


def asked(made: LLMOperator, ctx: Context | None = None) -> Any:
    (row,) = asyncio.run(run_rows(made, [{"_i": 3, "q": "?"}], ctx))
    return row


def test_what_the_library_is_asked_has_an_address_of_its_own_and_cannot_be_streamed() -> None:
    address = operator(model="groq/llama-3.3-70b").endpoints[0].address
    assert (address.label, address.host) == ("litellm://groq/llama-3.3-70b", "groq")
    assert operator(model="gpt-4o").endpoints[0].address.label == "litellm://litellm/gpt-4o"
    assert operator(base_url="http://localhost:1/v1").endpoints[0].address.label == "http://localhost:1/v1"
    with pytest.raises(ConfigError, match="LiteLLMAdapter does not say how its API streams"):
        operator(stream=True)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    litellm.cache_clear()
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(ConfigError, match=r"needs the extra 'litellm' .*pip install 'llm-datagen\[litellm\]'"):
        asked(operator())


@needs_litellm
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
class TestWithTheLibrary:
    def test_answers_counts_and_cost_are_read(self, server: ChatServer) -> None:
        usage = {
            "prompt_tokens": 1000,
            "completion_tokens": 100,
            "total_tokens": 1100,
            "prompt_tokens_details": {"cached_tokens": 400},
            "completion_tokens_details": {"reasoning_tokens": 60},
        }
        server.always(completion("fine", usage=usage))
        ctx = Context()
        made = operator(server, params={"temperature": 0, "max_tokens": 200}, budget={"usd": 1.0}, meta=True)
        row = asked(made, ctx)
        assert row["answer"] == "fine"
        (used,) = ctx.usage
        dollars = (600 * 0.15 + 400 * 0.075 + 100 * 0.6) / 1_000_000  # by litellm's own table
        assert used == {
            "provider": "127.0.0.1",
            "model": "openai/gpt-4o-mini",
            "requests": 1,
            **{name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
            "cached_tokens": 400,
            "reasoning_tokens": 60,
            "cost": pytest.approx(dollars, abs=1e-15),
        }
        (seen,) = server.seen
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert seen.body["messages"] == [{"role": "user", "content": "?"}]
        assert (seen.body["temperature"], seen.body["max_tokens"], seen.body["model"]) == (0, 200, "gpt-4o-mini")

    def test_schemas_and_tools_are_passed_on_and_a_refused_schema_is_asked_for_in_another_way(
        self, server: ChatServer
    ) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        server.always(completion('{"n": 3}'))
        assert asked(operator(server, output=schema))["n"] == 3
        assert server.seen[0].body["response_format"]["json_schema"]["schema"]["properties"] == schema["properties"]

        def refusing(seen: Any) -> Reply:
            if "json_schema" in str(seen.body.get("response_format")):
                return Reply({"error": {"message": "response_format json_schema is not supported"}}, 400)
            return Reply(completion('{"n": 4}'))

        server.reply = refusing
        assert asked(operator(server, output=schema))["n"] == 4
        call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
        body = completion(None, finish_reason="tool_calls")
        body["choices"][0]["message"]["tool_calls"] = [call]
        server.always(body)
        tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
        row = asked(operator(server, params={"tools": [tool]}, extra_columns={"tool_calls": "calls"}))
        assert row["calls"][0]["function"] == {"name": "look_up", "arguments": "{}"}

    def test_calls_of_tools_are_executed_and_signed_thoughts_are_sent_back(self, server: ChatServer) -> None:
        """Anthropic's API, as litellm speaks it."""
        left = [ANTHROPIC.thoughtful_call, ANTHROPIC.answer]
        server.reply = lambda seen: Reply(left.pop(0).body)

        def look_up(q: str) -> str:
            return f"found {q}"

        thinking = {"type": "enabled", "budget_tokens": 1024}
        made = operator(
            server,
            model="anthropic/claude-sonnet-4-5",
            base_url=server.base_url.removesuffix("/v1"),
            tools=[look_up],
            params={"max_tokens": 2000, "thinking": thinking},
        )
        assert asked(made)["answer"] == "yes"
        assert server.seen[1].body["messages"][1:] == ANTHROPIC.round

    def test_an_answer_that_is_cut_off_fails_the_row(self, server: ChatServer) -> None:
        server.always(completion("half an", finish_reason="length"))
        with pytest.raises(LLMAnswerError, match="was cut off at the token limit"):
            asked(operator(server))

    @pytest.mark.parametrize(
        ("status", "error", "expected"),
        [
            (429, {"message": "slow down"}, (429, True, 7.0)),
            (500, {"message": "oops"}, (500, True, None)),
            (503, {"message": "overloaded"}, (503, True, None)),
            (400, {"message": "no such param: x"}, (400, False, None)),
            (
                400,
                {"message": "maximum context length is 9 tokens", "code": "context_length_exceeded"},
                (413, False, None),
            ),
        ],
    )
    def test_failures_mean_the_same_as_of_an_endpoint_and_are_tried_once(
        self, server: ChatServer, status: int, error: Mapping[str, Any], expected: tuple[int, bool, float | None]
    ) -> None:
        headers = {"Retry-After": "7"} if status == 429 else {}
        server.reply = only_row(lambda: Reply({"error": error}, status, headers))
        with pytest.raises(LLMRequestError) as caught:
            asked(operator(server))
        found = caught.value
        assert (found.amounts_to, found.may_pass, found.retry_after) == expected
        assert error["message"] in str(found)
        assert "row 3" in str(found)
        rows = [seen for seen in server.seen if seen.body["messages"][0]["content"] == "?"]
        assert len(rows) == 1, "the library repeats nothing by itself"

    def test_a_call_that_takes_too_long_and_a_server_that_is_not_there_may_pass(self, server: ChatServer) -> None:
        server.reply = only_row(late_reply)
        with pytest.raises(LLMRequestError, match=r"no answer within 0.5 s") as late:
            asked(operator(server, timeout=0.5))
        assert late.value.may_pass
        with pytest.raises(OutageError, match=r"row 3.*Connection error"):
            asked(operator(base_url="http://127.0.0.1:9/v1", api_key=KEY))

    def test_a_wrong_key_ends_the_run_and_no_key_is_shown_of_whatever_place(
        self, server: ChatServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = "sk-of-the-environment-0123456789"
        monkeypatch.setenv("GROQ_API_KEY", other)
        said = f"Incorrect API key provided: {KEY}, and {other}"
        server.reply = lambda seen: Reply({"error": {"message": said, "code": "invalid_api_key"}}, 401)
        with pytest.raises(EndpointRefusedError) as refused:
            asked(operator(server))
        shown = "".join(traceback.format_exception(refused.value))
        assert "Incorrect API key provided: ***" in shown
        assert KEY not in shown
        assert other not in shown

    def test_a_budget_in_dollars_needs_a_price_that_somebody_knows(self) -> None:
        given: dict[str, Any] = {"budget": {"usd": 1.0}, "params": {"max_tokens": 9}}
        assert operator(model="groq/openai/gpt-oss-20b", **given).budget is not None
        long, short = {"prompt_tokens": 300_000, "completion_tokens": 0}, {"prompt_tokens": 200_000}
        prices = adapter_of("litellm").known_prices("gemini/gemini-2.5-pro")
        assert (prices.cost(short), prices.cost(long)) == (0.25, 0.75)
        assert adapter_of("litellm").known_prices("groq/gpt-4o-mini") is None  # another provider's
        with pytest.raises(ConfigError, match="no price is known of model 'openai/of-nobody'"):
            operator(model="openai/of-nobody", **given)
