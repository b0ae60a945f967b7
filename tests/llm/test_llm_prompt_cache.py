"""Hints for the caches of providers: what all rows begin with, and what cached tokens cost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMOperator, Prices
from llm_datagen.llm.cost.known_prices import known_prices
from llm_datagen.llm.http.adapters import BUILT_IN, adapter_of
from llm_datagen.llm.types import ChatRequest, Prefix

from .chat_server import ChatServer, Context, Reply, run_rows

ROW = {"_i": 5, "q": "hi", "held": [{"role": "user", "content": "x"}]}
EXAMPLES = [{"item": {"q": "a"}, "answer": "b"}]
MARK = {"cache_control": {"type": "ephemeral"}}
URL = "https://example.org"
POINT = {"cachePoint": {"type": "default"}}


def prefix(prompt: Any = "{{ q }}", **options: Any) -> tuple[int, int]:
    """Return how many messages, and characters of the next one, all rows begin with."""
    found = LLMOperator(prompt, model="m", prompt_cache=True, **options)._requests._prefix
    assert found is not None
    return found.messages, found.chars


def sent(adapter: str, prompt: Any = "{{ q }}", row: Any = ROW, **options: Any) -> dict[str, Any]:
    """Return the body that an adapter makes of a row."""
    operator = LLMOperator(prompt, model="m", base_url=URL, adapter=adapter, prompt_cache=True, **options)
    (request,) = asyncio.run(operator._requests.of(row, None))
    return dict(adapter_of(adapter).body(request))


def test_the_beginning_ends_where_the_first_row_says_something() -> None:
    user = {"role": "user", "content": "{{ q }}"}
    assert prefix("Say: {{ q }}") == (0, 5)
    assert prefix("Say{# no #}: {{ q }}") == (0, 5)
    assert prefix("A {% if q %}b{% endif %}") == (0, 2)
    assert prefix("All the same") == (1, 0)
    assert prefix(system="Be kind.") == (1, 0)
    assert prefix(system="Be kind.", examples=EXAMPLES) == (3, 0)
    assert prefix("Say: {{ q }}", system="Be kind.", examples=EXAMPLES * 2) == (5, 5)
    assert prefix(system="Be {{ q }}.", examples=EXAMPLES) == (0, 3)
    assert prefix(examples=EXAMPLES) == (2, 0)
    held = [{"item": {"held": ROW["held"]}, "answer": "b"}]
    system = {"role": "system", "content": "S"}
    assert prefix([system, {"placeholder": "held"}], examples=held) == (1, 0)
    assert prefix([system, user, {**system, "content": "Then"}], examples=EXAMPLES) == (3, 0)
    assert prefix([{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"}, user]) == (2, 0)
    assert prefix([{"role": "user", "content": "Look", "images": ["{{ q }}"]}]) == (0, 4)
    for options in ({}, {"system": "{{ q }}"}):
        with pytest.raises(ConfigError, match="prompt_cache: the prompts of the rows have no beginning in common"):
            prefix(**options)
    with pytest.raises(ConfigError, match="prompt_cache: the prompts of the rows have no beginning in common"):
        prefix([{"placeholder": "held"}, user])


def test_anthropic_is_told_where_the_beginning_ends() -> None:
    system = sent("anthropic", system="Be kind.")
    assert system["system"] == [{"type": "text", "text": "Be kind.", **MARK}]
    assert system["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    both = sent("anthropic", "Say: {{ q }}", system="Be kind.", examples=EXAMPLES)
    assert both["system"] == [{"type": "text", "text": "Be kind."}]
    assert both["messages"][0]["content"] == [{"type": "text", "text": "Say: a"}]
    assert both["messages"][-1]["content"] == [
        {"type": "text", "text": "Say: ", **MARK},
        {"type": "text", "text": "hi"},
    ]
    assert str(both).count("cache_control") == 1
    blank = sent("anthropic", "Say: {{ q }}", examples=EXAMPLES, row={**ROW, "q": " "})
    assert blank["messages"][-1]["content"] == [{"type": "text", "text": "Say:  "}]
    assert blank["messages"][-2]["content"] == [{"type": "text", "text": "b", **MARK}]
    image = sent("anthropic", [{"role": "user", "content": "Look at {{ q }}", "images": ["https://example.org/c.png"]}])
    kinds = [(part["type"], "cache_control" in part) for part in image["messages"][0]["content"]]
    assert kinds == [("text", True), ("text", False), ("image", False)]
    alone = sent("anthropic", "Say: {{ q }}", row={**ROW, "q": ""})
    assert "cache_control" not in str(alone)


def test_bedrock_is_told_by_a_part_of_its_own() -> None:
    assert sent("bedrock", system="Be kind.")["system"] == [{"text": "Be kind."}, POINT]
    (message,) = sent("bedrock", "Say: {{ q }}")["messages"]
    assert message["content"] == [{"text": "Say: "}, POINT, {"text": "hi"}]


def test_others_get_a_key_that_stands_for_the_beginning_or_find_out_by_themselves() -> None:
    told = {name: adapter_of(name).prompt_cache for name in BUILT_IN}
    assert told == {
        **dict.fromkeys(("openai", "openai-responses", "azure", "mistral"), "key"),
        **dict.fromkeys(("anthropic", "bedrock"), "marks"),
        **dict.fromkeys(("azure-deployments", "gemini", "ollama", "vllm"), "itself"),
        "litellm": "",
    }
    with pytest.raises(ConfigError, match="LiteLLMAdapter knows no way to have prompts cached: leave prompt_cache out"):
        LLMOperator("Say: {{ q }}", model="m", adapter="litellm", prompt_cache=True)
    keys = {sent(name, system="Be kind.")["prompt_cache_key"] for name, how in told.items() if how == "key"}
    (key,) = keys
    assert (key.startswith("llm-datagen-"), len(key) <= 64) == (True, True)
    assert sent("openai", system="Be kind.", row={**ROW, "q": "other"})["prompt_cache_key"] == key
    assert sent("openai", system="Be rude.")["prompt_cache_key"] != key
    assert sent("openai", system="Be kind.", examples=EXAMPLES)["prompt_cache_key"] != key
    assert sent("openai", system="x", params={"prompt_cache_key": "mine"})["prompt_cache_key"] == "mine"
    for name, how in told.items():
        if how == "itself":
            plain = LLMOperator("{{ q }}", model="m", base_url=URL, adapter=name, system="Be kind.")
            (request,) = asyncio.run(plain._requests.of(ROW, None))
            assert sent(name, system="Be kind.") == adapter_of(name).body(request)


def test_it_is_a_hint_and_changes_neither_fingerprint_nor_cache(server: ChatServer, tmp_path: Any) -> None:
    options: dict[str, Any] = {"system": "Be kind.", "cache": str(tmp_path / "c.db")}
    plain, hinted = server.operator(**options), server.operator(**options, prompt_cache=True)
    assert plain.fingerprint() == hinted.fingerprint()
    for operator in (plain, hinted):
        asyncio.run(run_rows(operator, [dict(ROW)]))
    assert len(server.seen) == 1
    with pytest.raises(ConfigError, match="prompt_cache must be"):
        server.operator(prompt_cache="yes")


def test_a_probe_is_one_answer_without_a_hint(server: ChatServer) -> None:
    answer = {"choices": [{"message": {"content": "x"}}]}
    server.reply = lambda seen: Reply("no", 401) if "n" in seen.body else Reply(answer)
    options: dict[str, Any] = {"system": "S", "n": 2, "prompt_cache": True, "outage_after": 60}
    asyncio.run(run_rows(server.operator(**options, retry_wait=0.001), [dict(ROW)]))
    probes = [seen.body for seen in server.seen if seen.body.get("max_tokens") == 1]
    assert probes
    for body in probes:
        assert not {"n", "prompt_cache_key"} & set(body)


SONNET = known_prices("claude-sonnet-4-5", "https://api.anthropic.com/v1/messages")


def anthropic_usage(**fields: Any) -> Any:
    return adapter_of("anthropic").usage({"usage": {"input_tokens": 100, "output_tokens": 50, **fields}})


@pytest.mark.parametrize(
    ("written", "dollars"),
    [
        ({"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 0}, 3.75),
        ({"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1000}, 6.0),
        ({"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600}, 0.4 * 3.75 + 0.6 * 6),
        (None, 6.0),
    ],
)
def test_tokens_that_anthropic_wrote_and_read_cost_what_they_cost(written: Any, dollars: float) -> None:
    usage = anthropic_usage(cache_read_input_tokens=2000, cache_creation_input_tokens=1000, cache_creation=written)
    assert (usage["prompt_tokens"], usage["cached_tokens"], usage["cache_write_tokens"]) == (3100, 2000, 1000)
    assert SONNET is not None
    picodollars = 100 * 3_000_000 + 2000 * 300_000 + round(1000 * dollars * 1_000_000) + 50 * 15_000_000
    assert SONNET.picodollars(usage) == picodollars
    assert SONNET.cost(usage) == picodollars / 1e12


def test_tokens_that_openai_wrote_and_read_cost_what_they_cost() -> None:
    prices = known_prices("gpt-5.6-sol", "https://api.openai.com/v1/chat/completions")
    assert prices is not None
    (band, *_) = prices.bands
    assert (band.cache_write * 4, band.cached_input * 10) == (band.input * 5, band.input)
    counts = {"cached_tokens": 2000, "cache_write_tokens": 1000}
    chat = {"prompt_tokens": 3100, "completion_tokens": 50, "total_tokens": 3150, "prompt_tokens_details": counts}
    responses = {"input_tokens": 3100, "output_tokens": 50, "input_tokens_details": counts}
    for adapter, usage in (("openai", chat), ("openai-responses", responses)):
        found = adapter_of(adapter).usage({"usage": usage})
        whole = 100 * band.input + 2000 * band.cached_input + 1000 * band.cache_write + 50 * band.output
        assert prices.picodollars(found) == whole


def test_tokens_that_bedrock_wrote_for_five_minutes_are_the_cheaper_ones() -> None:
    usage = {"inputTokens": 100, "outputTokens": 50, "totalTokens": 1150, "cacheWriteInputTokens": 1000}
    details = [{"ttl": "5m", "inputTokens": 700}, {"ttl": "1h", "inputTokens": 300}]
    found = adapter_of("bedrock").usage({"usage": {**usage, "cacheDetails": details}})
    assert (found["cache_write_tokens"], found["cache_write_5m_tokens"]) == (1000, 700)
    assert "cache_write_5m_tokens" not in adapter_of("bedrock").usage({"usage": usage})


def test_prices_of_ones_own_may_say_what_a_write_costs(server: ChatServer) -> None:
    counts = {"cached_tokens": 2000, "cache_write_tokens": 1000}
    usage = {"prompt_tokens": 3100, "completion_tokens": 50, "total_tokens": 3150, "prompt_tokens_details": counts}
    server.always({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": usage})
    for write, cost in ((2.5, 100 * 2 + 2000 * 0.2 + 1000 * 2.5 + 50 * 8), (None, 1100 * 2 + 2000 * 0.2 + 50 * 8)):
        ctx = Context()
        prices = Prices(input=2, output=8, cached_input=0.2, cache_write=write)
        asyncio.run(run_rows(server.operator(prices=prices), [dict(ROW)], ctx))
        assert ctx.usage[0]["cost"] == cost / 1e6
    with pytest.raises(ConfigError, match=r"prices\['cache_write'\] must be US dollars per million tokens"):
        Prices(input=2, output=8, cache_write=-1)


def test_a_beginning_that_is_longer_than_the_messages_is_no_fault() -> None:
    request = ChatRequest(messages=[{"role": "user", "content": "x"}], params={}, model="m")
    hinted = replace(request, prefix=Prefix(messages=1, chars=5, key="k"))
    (message,) = adapter_of("anthropic").body(hinted)["messages"]
    assert message["content"] == [{"type": "text", "text": "x", **MARK}]
