"""What calls cost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import genai_prices
import pytest
from genai_prices import data_snapshot

from llm_datagen.errors import ConfigError
from llm_datagen.llm.cost.known_prices import known_prices, prices_of
from llm_datagen.llm.cost.prices import given_prices, prices_by_length
from llm_datagen.runs.usage import PICO

OPENAI = "https://api.openai.com/v1/chat/completions"


def test_given_prices_are_dollars_a_million_tokens() -> None:
    prices = given_prices({"input": 0.15, "output": 0.6, "cached_input": 0.075})
    assert prices is not None
    assert prices.cost({"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}) == 0.75
    assert prices.cost({"prompt_tokens": 100, "cached_tokens": 60, "completion_tokens": 10}) == 16.5e-6
    assert prices.cost({"prompt_tokens": 10, "total_tokens": 110}) == 61.5e-6, "thoughts are paid for, too"
    assert prices.cost({}) is None, "the endpoint did not say what was used"
    assert prices.most(10, 20) == 13_500_000
    assert given_prices({"input": 0, "output": 0}).cost({"prompt_tokens": 5}) == 0  # type: ignore[union-attr]
    assert given_prices(None) is None


@pytest.mark.parametrize(
    "wrong",
    [1, {}, {"input": 1}, {"input": 1, "output": -1}, {"input": 1, "output": "1"}, {"input": 1, "output": True}],
)
def test_prices_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="US dollars per million tokens"):
        given_prices(wrong)


def test_prices_of_a_model_are_known_by_its_endpoint() -> None:
    assert known_prices("gpt-4o-mini", "http://127.0.0.1:8000/v1") is None
    assert known_prices("no-such-model", OPENAI) is None
    mini = known_prices("gpt-4o-mini", OPENAI)
    assert mini is not None
    assert mini.cost({"prompt_tokens": 1_000_000, "completion_tokens": 0}) == 0.15


@pytest.mark.slow
def test_every_known_price_is_the_one_that_the_package_computes() -> None:
    """Ours is arithmetic of whole numbers, at a fiftieth of the time; the package's calculation is the judge."""
    now = datetime(2026, 11, 1, 12, tzinfo=UTC)
    checked = 0
    for provider in data_snapshot.get_snapshot().providers:
        for model in provider.models:
            prices = prices_of(model.get_prices(now))
            if prices is None:
                continue
            for prompt, cached, output in ((100, 0, 50), (100, 40, 50), (150_001, 10, 3), (300_000, 0, 7)):
                used = {"prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": output}
                usage = genai_prices.Usage(input_tokens=prompt, cache_read_tokens=cached, output_tokens=output)
                theirs = model.calc_price(usage, provider, genai_request_timestamp=now).total_price
                mine = prices.picodollars(used)
                assert mine is not None
                assert abs(mine - theirs * PICO) <= prompt + output, (provider.id, model.id)
                assert mine <= prices.most(prompt, output)
            checked += 1
    assert checked > 1000


def test_prices_of_another_library_are_by_the_length_of_the_prompt() -> None:
    short = {"input": 1e-6, "cached_input": 1e-7, "cache_write": 2e-6, "output": 4e-6}
    prices = prices_by_length({-1: short, 1000: {name: 2 * price for name, price in short.items()}})
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "cached_tokens": 100, "cache_write_tokens": 200}
    cost = (700 * 1 + 100 * 0.1 + 200 * 2 + 10 * 4) / 1e6
    assert prices.cost(usage) == pytest.approx(cost)
    assert prices.cost({**usage, "cache_write_5m_tokens": 200}) == pytest.approx(cost)
    assert prices.cost({**usage, "prompt_tokens": 1001}) == pytest.approx(2 * (cost + 1e-6))
