"""`llm-datagen plan`: what a run will use, from what some rows used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from llm_datagen.cli.estimate import Estimate, mean_of
from llm_datagen.testing import FakeLLMServer

from ..kit.support import write_jsonl
from .conftest import Command
from .shell import Shell

LLM = "llm_datagen.llm:LLMOperator"


def _ask(prompt: str, **arguments: Any) -> dict[str, Any]:
    return {"use": LLM, "with": {"prompt": prompt, "model": "m", **arguments}}


def _repeat(messages: Sequence[Mapping[str, Any]]) -> str:
    return str(messages[-1]["content"])


def _used(shell: Shell, node: int) -> dict[str, int]:
    (run,) = (shell.folder / "tmp" / "results").iterdir()
    run_state = json.loads((run / "runtime.json").read_text())
    return {key: value for key, value in run_state["nodes"][node]["usage"][0].items() if isinstance(value, int)}


@pytest.mark.slow
def test_a_plan_projects_what_the_run_then_uses_and_pays_for_its_sample_only(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(shell.folder / "in.jsonl", ({"n": n, "text": "word " * (n % 7 + 1)} for n in range(60)))
    asked = [_ask("{{ n }} {{ text }}", n=2, cache="kept"), _ask("then {{ answer }}", output="more")]
    pipeline = shell.yaml(["ops:odd", *asked], parallel_size=10)
    before = {path.name for path in shell.folder.iterdir()}
    with FakeLLMServer(answer=_repeat) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        plan = json.loads(command("plan", pipeline, "--json", "-k", "24").output)
        assert {path.name for path in shell.folder.iterdir()} - before <= {"kept", "__pycache__"}
        first = server.calls
        again = json.loads(command("plan", pipeline, "--json", "-k", "24").output)
        tried = plan["nodes"][1]["models"][0]["calls"]
        assert server.calls - first < first  # the same rows, whose first answers are kept
        for name in ("calls", "prompt_tokens", "completion_tokens"):
            assert again["total"][name] == plan["total"][name]
        assert "where prompts repeat, or were asked before, the run costs less" in " ".join(again["notes"])
        command("run", pipeline)
    assert plan["rows"] == 60
    assert tried["error"] > 0  # whether a row is odd is known of 24 of them only
    for node in (1, 2):
        used, (model,) = _used(shell, node), plan["nodes"][node]["models"]
        calls = 30 if node == 1 else 60  # the two answers of a row are one request
        assert model["calls"]["low"] <= calls <= model["calls"]["high"]
        if node == 2:
            assert used["requests"] == calls
            for name in ("prompt_tokens", "completion_tokens"):
                assert model[name]["low"] <= used[name] <= model[name]["high"], name


@pytest.mark.slow
def test_a_plan_that_tries_all_rows_is_exact(shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = shell.yaml(["ops:odd", _ask("about {{ n }}")], parallel_size=20, streaming=True)
    with FakeLLMServer(latency=0.02) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        plan = json.loads(command("plan", pipeline, "--json", "-k", "50").output)
        shown = command("plan", pipeline, "-k", "50", "--seed", "7").output
        command("run", pipeline)
    used, (model,) = _used(shell, 1), plan["nodes"][1]["models"]
    assert model["calls"] == {"value": 25, "error": 0, "low": 25, "high": 25, "is_at_most": False}
    for name in ("prompt_tokens", "completion_tokens"):
        assert model[name]["value"] == pytest.approx(used[name])
        assert model[name]["error"] == 0
    assert plan["nodes"][1]["seconds"]["value"] == pytest.approx(25 * plan["nodes"][1]["row_seconds"] / 20)
    assert plan["nodes"][1]["row_seconds"] >= 0.02
    assert plan["total"]["cost"] is None
    assert "no price is known of m" in shown
    assert "50 of 50 rows of in.jsonl were tried, drawn with seed 7" in shown


def test_rows_that_are_no_objects_are_planned_and_shown_as_well(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(shell.folder / "in.jsonl", [f"text {number}" for number in range(40)])
    pipeline = shell.yaml([_ask("about {{ data }}", n=2)], parallel_size=5)
    with FakeLLMServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        plan = json.loads(command("plan", pipeline, "--json", "-k", "10").output)
        shown = command("preview", pipeline, "-n", "2").output
    assert plan["total"]["calls"]["value"] == 40
    assert plan["nodes"][0]["rows_out"]["value"] == 80
    assert shown.count("user      about text 1") == 1


@pytest.mark.slow
def test_what_comes_behind_an_operator_that_looks_at_many_rows_is_an_upper_bound(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 60 rows with 5 texts, few have a duplicate within a sample of 6; all of them show what remains."""
    write_jsonl(shell.folder / "in.jsonl", ({"n": n, "text": f"text {n % 5}"} for n in range(60)))
    dedupe = {"use": "ops.Dedupe", "with": {"by": "text"}}
    pipeline = shell.yaml([dedupe, _ask("{{ text }}", budget={"tokens": 300}, params={"max_tokens": 5})])
    with FakeLLMServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        plan = json.loads(command("plan", pipeline, "--json", "-k", "6").output)
        shown = " ".join(command("plan", pipeline, "-k", "6").output.split())
        whole = json.loads(command("plan", pipeline, "--json", "-k", "60").output)
    first, second = plan["nodes"]
    assert first["rows_in"] == {"value": 60, "error": 0, "low": 60, "high": 60, "is_at_most": False}
    rows, calls = first["rows_out"], second["models"][0]["calls"]
    assert rows == second["rows_in"]
    assert rows["is_at_most"] is calls["is_at_most"] is plan["total"]["calls"]["is_at_most"] is True
    assert rows["low"] == 0
    assert 5 < rows["value"] <= rows["high"]
    assert f"node_1 LLMOperator ≤ {rows['high']:.0f}" in shown
    assert "* node_0: it looks at many rows, of which the sample has few (few duplicates lie in it)" in shown
    assert "the budget of 300 tokens may end the run early: it takes at most " in shown
    assert "node_1: it looks at many rows" not in shown
    assert whole["nodes"][0]["rows_out"] == {"value": 5, "error": 0, "low": 5, "high": 5, "is_at_most": False}


@pytest.mark.parametrize("chooses", ["Best", "Dedupe"])
def test_no_more_rows_are_planned_behind_an_operator_than_it_gets(shell: Shell, command: Command, chooses: str) -> None:
    """Of 600 rows with 300 texts, 5 differ: the error of so small a sample does not make more rows of them."""
    write_jsonl(shell.folder / "in.jsonl", ({"n": n, "text": f"text {n % 300}"} for n in range(600)))
    arguments = {"n": 1, "by": "n", "of": "text"} if chooses == "Best" else {"by": "text"}
    pipeline = shell.yaml([{"use": f"ops.{chooses}", "with": arguments}, "ops:odd", "ops:odd"])
    plan = json.loads(command("plan", pipeline, "--json", "-k", "5").output)
    first, second, third = (node["rows_in"] for node in plan["nodes"])
    assert second["is_at_most"] is third["is_at_most"] is True
    assert third["high"] <= second["high"] <= first["high"] == 600


def test_what_a_plan_does_not_know_it_says(shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = shell.yaml(["ops:no_seven", {"use": "ops:odd"}, _ask("{{ nobody }}")], rate=1000)
    with FakeLLMServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        plan = json.loads(command("plan", pipeline, "--json", "-k", "50", code=0).output)
        assert server.calls == 0
    notes = "\n".join(plan["notes"])
    assert "node_0: 1 of 50 rows failed, such as: seven is [not] wanted" in notes
    assert "node_2: nothing came of 24 rows" in notes
    assert "node_0: its rate decides on the time" in notes
    assert plan["nodes"][0]["rows_out"]["value"] == 49
    assert plan["sample"] == {"calls": 0, "cost": 0, "failed": 25}


@pytest.mark.slow
def test_money_is_what_the_run_then_costs_also_of_answers_that_are_kept(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shell.folder / "go").touch()  # for the gate, which reports what it uses by itself
    prices = {"input": 1000.0, "output": 2000.0}
    pipeline = shell.yaml([{"use": "ops:Gate"}, _ask("about {{ n }}", prices=prices, cache="kept")], parallel_size=20)
    with FakeLLMServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        plan = json.loads(command("plan", pipeline, "--json", "-k", "50").output)
        again = json.loads(command("plan", pipeline, "--json", "-k", "50").output)
        assert server.calls == 50
        given = {"prices": prices, "cache": "kept", "params": {"max_tokens": 9}, "budget": {"tokens": 600}}
        few = command("plan", shell.yaml([_ask("about {{ n }}", **given)], "few.yaml"), "-k", "10").output
        assert "* the budget of 600 tokens ends the run early: it takes about " in few
        shown = command("plan", pipeline, "-k", "50").output
    (shell.folder / "kept").unlink()
    with FakeLLMServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        command("run", pipeline)
    (run,) = (shell.folder / "tmp" / "results").iterdir()
    (used,) = json.loads((run / "runtime.json").read_text())["nodes"][1]["usage"]
    for known in (plan, again):
        assert known["nodes"][1]["models"][0]["cost"]["value"] == pytest.approx(used["cost"])
    assert plan["sample"]["cost"] == pytest.approx(used["cost"])
    assert again["sample"] == {"calls": 0, "cost": 0, "failed": 0}
    (reported,) = plan["nodes"][0]["models"]
    assert reported["completion_tokens"]["value"] == 100
    assert plan["total"]["cost"] is None  # of what the gate calls nobody knows a price
    assert "it reported its usage itself" in shown
    assert f"${used['cost']:,.2f}" in shown


def test_limits_that_were_given_decide_on_the_time(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"requests_per_minute": 5, "model": "limited"}
    many = _ask("about {{ n }}", output="third", tokens_per_minute=100_000_000, requests_per_minute=100)
    nodes = [_ask("about {{ n }}", **limits), _ask("about {{ answer }}", output="second", **limits), many]
    with FakeLLMServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "of this test")  # limits are shared by all who have the same key
        plan = json.loads(command("plan", shell.yaml(nodes, streaming=True), "--json", "-k", "2").output)
    assert [node["bound"] for node in plan["nodes"]] == ["requests_per_minute"] * 3
    times = [node["seconds"]["value"] for node in plan["nodes"]]
    assert times == [pytest.approx(50 / 5 * 60, rel=0.02)] * 2 + [pytest.approx(50 / 100 * 60, rel=0.02)]
    assert plan["total"]["seconds"]["value"] == pytest.approx(1200, rel=0.02)  # the first two share their limit
    assert "node_0: its requests_per_minute decides on the time" in plan["notes"]


def test_the_error_of_a_mean_is_that_of_the_sampling() -> None:
    assert mean_of([2.0, 4.0], population=2) == Estimate(3.0, 0.0)
    assert mean_of([2.0, 4.0], population=1e12).error == pytest.approx(1.0)
    assert mean_of([5.0], population=1e12).error == pytest.approx(5.0)
    product = Estimate(100, 3) * Estimate(10, 0.4)
    assert product.value == 1000
    assert product.error == pytest.approx(50)
