"""What operators see of their node (M13, M28)."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from llm_datagen.actors import usage_reports
from llm_datagen.actors.node_context import NodeContext
from llm_datagen.messages import OperatorLogged, UsageReported
from llm_datagen.operators import INodeContext
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import open_log

from ..kit.actors import DeadDesk, Desk, Log


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_context_is_what_operators_were_promised(desk: Desk) -> None:
    """M13."""
    ctx = NodeContext("p", "n", desk, Log())
    assert isinstance(ctx, INodeContext)
    assert (ctx.node_id, ctx.pipeline_id) == ("n", "p")
    assert not ctx.is_cancelled()
    ctx.cancel(keep_jobs=True)
    assert ctx.is_cancelled()
    assert ctx.keeps_jobs()
    ctx.cancel(keep_jobs=False)
    ctx.cancel(keep_jobs=True)
    assert not ctx.keeps_jobs(), "once given up, they stay so"


def test_usage_is_numbers_by_provider_and_model(desk: Desk) -> None:
    """M13: whatever else is in it is left out, as a flag is no number."""
    ctx = NodeContext("p", "n", desk, Log())
    ctx.report_usage({"provider": "a", "model": "b", "tokens": 3, "seconds": 0.5, "cached": True, "id": "x"})
    ctx.report_usage({"tokens": 1})

    class Float64(float):
        """As that of NumPy, which orjson does not take."""

    ctx.report_usage({"seconds": Float64(0.5)})
    ctx.usage.tell()
    assert desk.of(UsageReported) == [
        UsageReported("p", "n", "a", "b", {"tokens": 3, "seconds": 0.5}),
        UsageReported("p", "n", "", "", {"tokens": 1, "seconds": 0.5}),
    ]
    assert orjson.dumps([report.metrics for report in desk.of(UsageReported)])


def test_usage_that_is_reported_by_many_calls_comes_in_few_messages_and_all_of_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M13: at once after a rest, in sums meanwhile."""
    now = 100.0
    monkeypatch.setattr("llm_datagen.actors.usage_reports.time.monotonic", lambda: now)
    ctx = NodeContext("p", "n", desk, Log())
    for tokens in (1, 2, 3):
        ctx.report_usage({"model": "m", "tokens": tokens})
    assert [report.metrics for report in desk.of(UsageReported)] == [{"tokens": 1}]
    now += usage_reports.TELL_SECONDS
    ctx.report_usage({"model": "m", "tokens": 4, "cost": 0.5})
    ctx.report_usage({"model": "m", "tokens": 5})
    ctx.usage.tell()
    assert [report.metrics for report in desk.of(UsageReported)] == [
        {"tokens": 1},
        {"tokens": 9, "cost": 0.5},
        {"tokens": 5},
    ]


def test_what_an_operator_logs_is_in_the_log_and_told(desk: Desk) -> None:
    """M13, M28."""
    log = Log()
    NodeContext("p", "n", desk, log).log("slow today", seconds=3)
    assert log.of(events.OPERATOR_LOG) == [{"message": "slow today", "node_id": "n", "seconds": 3}]
    NodeContext("p", "n", desk, log).log("slower", level="warning")
    assert log.of(events.OPERATOR_LOG)[1:] == [{"message": "slower", "node_id": "n"}]
    assert [told.level for told in desk.of(OperatorLogged)] == ["info", "warning"]


def test_an_operator_may_call_its_fields_as_it_likes(desk: Desk, tmp_path: Path) -> None:
    """M13: a log line must not be what a run fails of."""
    log = open_log(tmp_path / "platform.log")
    ctx = NodeContext("p", "n", desk, log)
    ctx.log("one", node_id="mine", event="mine", level="mine", timestamp="mine")
    ctx.log("two", big=2**70, odd={1: object()}, lone="\ud800")
    ctx.log("lone \ud800 surrogate")
    log.close()
    lines = [orjson.loads(line) for line in (tmp_path / "platform.log").read_bytes().splitlines()]
    assert [line["event"] for line in lines] == [events.OPERATOR_LOG] * 3
    assert [line["node_id"] for line in lines] == ["n"] * 3
    assert [told.message for told in desk.of(OperatorLogged)][:2] == ["one", "two"]


def test_a_supervisor_that_has_ended_is_no_failure() -> None:
    """H3: a late call of a slow operator."""
    ctx = NodeContext("p", "n", DeadDesk(), Log())
    ctx.report_usage({"tokens": 1})
    ctx.log("late")
