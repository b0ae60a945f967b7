"""A model in the body of a `Loop`: each round is a call, which is paid for once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline, ops
from llm_datagen.cli.budget import BudgetOverride, budget_options
from llm_datagen.llm import LLMOperator
from llm_datagen.llm.cache.scope import CacheBy
from llm_datagen.testing import FakeLLMServer

from ..kit.support import lines, write_jsonl


def longer(messages: Sequence[Any]) -> str:
    return str(messages[-1]["content"]) + "!"


def loop(server: FakeLLMServer, **options: Any) -> ops.Loop:
    writer = LLMOperator(
        "{{ text }}",
        model="m",
        base_url=server.base_url,
        api_key="k",
        output="text",
        overwrite_columns=True,
        params={"max_tokens": 20},
        **options,
    )
    return ops.Loop([writer], until="len(text) >= 8", max_rounds=5)


ROWS = [{"text": "a" * length} for length in (7, 5, 1)]


def test_calls_are_made_until_the_answer_is_good_and_counted_for_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", ROWS)
    with FakeLLMServer(answer=longer) as server:
        report = UnifiedPipeline([loop(server)], "in.jsonl", "out.jsonl", ordered=True).run()
        assert [(row["text"], row["_round"]) for row in lines(tmp_path / "out.jsonl")] == [
            ("aaaaaaa!", 1),
            ("aaaaa!!!", 3),
            ("a!!!!!", 5),
        ]
        assert server.calls == 9
        assert [entry["requests"] for entry in report.nodes[0].usage] == [9]


def test_a_cached_round_is_not_paid_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", ROWS)
    with FakeLLMServer(answer=longer) as server:
        for name in ("a", "b"):
            operator = loop(server, cache="answers.sqlite")
            assert list(operator.kept_files()) == ["cache"]
            UnifiedPipeline([operator], "in.jsonl", f"{name}.jsonl").create(name).run()
        assert server.calls == 9
    assert lines(tmp_path / "a.jsonl") == lines(tmp_path / "b.jsonl")


def test_a_budget_holds_and_is_raised_for_a_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", ROWS * 10)
    with FakeLLMServer(answer=longer) as server:
        operator = loop(server, budget={"tokens": 400})
        report = UnifiedPipeline([operator], "in.jsonl", "out.jsonl").create("a").run()
        assert report.status == "stopped"
        assert 0 < server.calls < 90
        assert budget_options([operator]) == ["--budget-tokens", "TOKENS"]
        raised = loop(server, budget={"tokens": 400})
        BudgetOverride(tokens=100_000).give([raised])
        assert UnifiedPipeline([raised]).resume("a").run().status == "completed"
    assert len(lines(tmp_path / "out.jsonl")) == 30


@pytest.mark.parametrize(
    ("prompt", "cache_by", "calls"),
    [
        ("a draft of {{ k }}", "request", 2),  # every round gets the first answer
        ("a draft of {{ k }}", "row", 6),
        ("draft {{ _round }} of {{ k }}", "request", 6),
    ],
)
def test_rounds_are_new_tries_where_the_prompt_or_the_row_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str, cache_by: CacheBy, calls: int
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", [{"k": 1}, {"k": 2}])
    numbers = count()
    with FakeLLMServer(answer=lambda _: f"draft {next(numbers)}") as server:
        for name in ("a", "b"):  # the second run pays for nothing
            draft = LLMOperator(
                prompt,
                model="m",
                base_url=server.base_url,
                api_key="k",
                output="draft",
                overwrite_columns=True,
                cache="answers.sqlite",
                cache_by=cache_by,
            )
            UnifiedPipeline([ops.Loop([draft], max_rounds=3)], "in.jsonl", f"{name}.jsonl").run()
        assert server.calls == calls
