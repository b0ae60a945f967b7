"""What a run has spent of its budget: one account, whoever shows it; also of calls that a kill took the answer from."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from llm_datagen.cli.app import app
from llm_datagen.llm.cost.budget import Amount, Budget
from llm_datagen.llm.cost.spend import Spend
from llm_datagen.telemetry.prometheus import metrics_text

from ..kit.support import Bench, numbered
from ..kit.web import serving

_BUDGET = Budget(usd=100.0)


async def _spend(files: Path) -> None:
    """Spend $8.01 as a process does that dies in its last call: 3 for a lost call, 4 for an odd answer; and 5."""
    spend = Spend.join("a run", files)
    calls = []
    for dollars in (2, 3, 4, 5):
        call = await spend.reserve(Amount(dollars * 10**12, 10 * dollars), _BUDGET)
        assert call is not None
        calls.append(call)
        if dollars == 2:
            spend.settle(call, Amount(101 * 10**10, 7))
        if dollars in (3, 4):
            spend.lose(call, is_answered=dollars == 4)
    spend.leave()


def _cli(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_the_account_is_the_same_on_the_page_in_metrics_in_the_report_and_in_status(bench: Bench) -> None:
    bench.give(numbered(3))
    secret = object()
    bench.pipeline([lambda row: row if secret else None]).create("a").run()  # an operator that cannot be stored
    with serving(bench.results) as client:
        assert [client.get(f"/api/runs/0.a{path}")["budget"] for path in ("", "/cost")] == [None, None]
        asyncio.run(_spend(bench.results / "a" / "files"))
        shown: dict[str, Any] = {
            "cap": None, "cap_tokens": None, "projected": None, "problem": "",
            "spent": 8.01, "lost": 7.0, "in_flight": 5.0, "untold": 4.0,
            "spent_tokens": 77, "lost_tokens": 70, "in_flight_tokens": 50, "untold_tokens": 40,
        }  # fmt: skip
        assert [client.get(f"/api/runs/0.a{path}")["budget"] for path in ("", "/cost")] == [shown, shown]
    metrics = metrics_text([bench.results]).decode()
    for amount, usd, tokens in (
        ("spent", 8.01, 77.0),
        ("lost", 7.0, 70.0),
        ("untold", 4.0, 40.0),
        ("in_flight", 5.0, 50.0),
    ):
        for unit, value in (("usd", usd), ("tokens", tokens)):
            of_run = f'{{amount="{amount}",folder="{bench.results}",run="a"}}'
            assert f"llm_datagen_budget_{unit}{_sorted(of_run)} {value}" in map(_line, metrics.splitlines())
    words = (
        "$8.01 and 77 tokens spent, $3.00 and 30 tokens of it for calls whose answer never came, $4.00 and 40 tokens "
        "of it for answers that could not be used, or do not say what they cost, "
        "up to $5.00 and 50 tokens for calls in flight"
    )
    where = ("--results-dir", str(bench.results))
    assert f"budget: {words}" in _cli("status", "a", *where)
    said = json.loads(_cli("status", "a", *where, "--json"))["spending"]
    assert said == {name: value for name, value in shown.items() if name not in {"cap", "cap_tokens", "projected"}}
    report = json.loads(_cli("report", "a", *where, "--format", "json"))
    assert report["budget"] == {"caps": [], "spent": words}
    assert words in _cli("report", "a", *where, "--out", "-", "--format", "html")


def test_an_account_that_cannot_be_read_is_named(bench: Bench) -> None:
    bench.give(numbered(1))
    bench.pipeline([lambda row: row]).create("a").run()
    (bench.results / "a" / "files").mkdir()
    (bench.results / "a" / "files" / "budget.jsonl").write_bytes(b"[7]\n")
    with serving(bench.results) as client:
        budget = client.get("/api/runs/0.a/cost")["budget"]
    assert "budget.jsonl is damaged" in budget["problem"]
    assert "llm_datagen_budget_usd{" not in metrics_text([bench.results]).decode()
    assert "budget.jsonl is damaged" in _cli("status", "a", "--results-dir", str(bench.results))


def _line(text: str) -> str:
    name, sign, rest = text.partition("{")
    labels, _, value = rest.partition("}")
    return f"{name}{_sorted('{' + labels + '}')}{value}" if sign else text


def _sorted(labels: str) -> str:
    return "{" + ",".join(sorted(labels[1:-1].split(","))) + "}"
