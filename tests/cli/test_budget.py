"""A budget that is reached, and raised by `llm-datagen resume`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_datagen.testing import FakeLLMServer, LLMFaults

from ..kit.support import lines, write_jsonl
from ..kit.web import serving
from .conftest import Command
from .shell import Shell


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_run_that_reaches_its_budget_says_so_and_goes_on_when_it_is_raised(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    if is_terminal:
        monkeypatch.setattr("llm_datagen.cli.execute.is_terminal", lambda: True)
    with FakeLLMServer(answer="yes") as server:
        ask: dict[str, Any] = {
            "prompt": "{{ n }}",
            "model": "m",
            "base_url": server.base_url,
            "params": {"max_tokens": 5},
            "prices": {"input": 100, "output": 1000},
            "budget": {"usd": 0.05},
        }
        file = shell.yaml([{"use": "llm_datagen.llm:LLMOperator", "with": ask, "name": "ask"}], parallel_size=5)
        said = command("run", file, "--id", "a", code=3).stdout
        assert "run a: stopped" in said
        status = command("status", "a").stdout
        reason = "the budget of $0.0500 is reached: $0.0"
        assert reason in status
        assert f"  reason  {reason}" in said
        assert "raise the budget and resume (budget=, or resume --budget-usd)\n" in said
        assert "  go on   llm-datagen resume a --budget-usd USD\n" in said
        assert "cost $0.0" in said
        assert " tokens spent\n" in said.partition("  budget  $0.0")[2]
        assert "budget: $0.0" in status
        run_state = json.loads((shell.folder / "tmp/results/a/runtime.json").read_text())
        assert f"${run_state['nodes'][0]['usage'][0]['cost']:.4f}" in status
        assert reason in command("resume", "a", code=3).stdout + command("status", "a").stdout
        assert caps_shown(shell, command) == (0.05, None)
        before = server.tokens
        said = command("resume", "a", "--budget-usd", "1.5", "--budget-tokens", "100000").stdout
        assert "run a: completed" in said
        assert before < server.tokens < 100_000
        assert caps_shown(shell, command) == (1.5, 100_000)
    assert len(lines(shell.output)) == 50


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("malformed", "of it for answers that could not be used, or do not say what they cost"),
        ("truncated", "of it for calls whose answer never came"),
        ("reset", "of it for calls whose answer never came"),
    ],
)
def test_what_was_set_aside_is_told_by_whether_an_answer_came(
    shell: Shell, command: Command, fault: str, said: str
) -> None:
    write_jsonl(shell.folder / "in.jsonl", [{"n": 0}])
    with FakeLLMServer(faults=LLMFaults(**{fault: 1.0})) as server:
        ask: dict[str, Any] = {
            "prompt": "{{ n }}",
            "model": "m",
            "base_url": server.base_url,
            "params": {"max_tokens": 5},
            "budget": {"tokens": 400},
            "max_retries": 9,
            "retry_wait": 0.01,
        }
        file = shell.yaml([{"use": "llm_datagen.llm:LLMOperator", "with": ask}], on_error="skip")
        shown = command("run", file, "--id", "a", code=3).stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("  budget  ")]
    spent, *lost = line.removeprefix("  budget  ").split(", ")
    tokens = spent.removesuffix(" spent")
    assert ", ".join(lost) == f"{tokens} {said}"
    assert f"budget: {spent}, {tokens} {said}" in command("status", "a").stdout


def caps_shown(shell: Shell, command: Command) -> tuple[float | None, int | None]:
    """Return the budget that the page of the run, its costs and its report show: the same."""
    (cap,) = json.loads(command("report", "a", "--format", "json").stdout)["budget"]["caps"]
    with serving(shell.folder / "tmp/results") as client:
        shown = [client.get(f"/api/runs/0.a{path}")["budget"] for path in ("", "/cost")]
    assert [(each["cap"], each["cap_tokens"]) for each in shown] == [(cap["usd"], cap["tokens"])] * 2
    return cap["usd"], cap["tokens"]


def test_beside_the_cost_stands_whose_cost_is_not_known(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeLLMServer(answer="yes") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        ask: list[dict[str, Any]] = [
            {"prompt": "{{ n }}", "model": "dear", "prices": {"input": 0, "output": 0, "requests": 1000}},
            {"prompt": "{{ answer }}", "model": "own", "output": "more"},
        ]
        file = shell.yaml([{"use": "llm_datagen.llm:LLMOperator", "with": each} for each in ask], parallel_size=5)
        said = command("run", file, "--id", "a").stdout
    rows = len(lines(shell.folder / "out.jsonl"))
    assert f"  cost    ${rows:.2f}, and what own cost: no price is known\n" in said


def test_a_budget_for_operators_that_have_none_is_refused(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:check"]), "--id", "a", code=1)
    assert "no operator of this run has a budget" in command("resume", "a", "--budget-usd", "5", code=2).stderr
