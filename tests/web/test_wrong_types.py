"""A run state whose checksum is right, and in which a value has the wrong type: named, and in nobody's way (M6)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llm_datagen.cli.app import app
from llm_datagen.errors import RunStateError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.state_types import wrong_value
from llm_datagen.shards.run_view import all_runs
from llm_datagen.telemetry.prometheus import metrics_text
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.looking import page_of_run
from llm_datagen.web.run_list import RunList

from ..kit.support import Bench, numbered
from ..kit.web import serving


def _priced(row: Any, ctx: Any) -> Any:
    ctx.report_usage({"provider": "p", "model": "m", "cost": 0.5, "prompt_tokens": 3})
    return row


def _run(bench: Bench, name: str) -> dict[str, Any]:
    """Make a run, and return its run state."""
    bench.give(numbered(2))
    output = f"jsonl://{bench.folder / name}.jsonl"
    bench.pipeline([_priced, lambda row: row], output_uri=output).create(name).run()
    return bench.run_state(name)


def _with(run_state: Any, place: tuple[Any, ...], value: Any) -> Any:
    made = held = json.loads(json.dumps(run_state))
    for key in place[:-1]:
        held = held[key]
    held[place[-1]] = value
    return made


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        (("status",), "gone", 'status is "gone", and must be one of pending, running, '),
        (("paused",), 0, "paused is 0, and must be true or false"),
        (("started_at",), "today", 'started_at is "today", and must be a time such as 2026-11-30T07:33:31.568+00:00'),
        (("cost",), True, "cost is true, and must be a number or null"),
        (("nodes",), {}, "nodes is {}, and must be a list"),
        (("nodes", 1), 7, "nodes[1] is 7, and must be an object"),
        (("nodes", 1, "rows_in"), "x" * 99, f'nodes[1].rows_in is "{"x" * 59}…, and must be a whole number'),
        (("nodes", 0, "rows_out"), 1.5, "nodes[0].rows_out is 1.5, and must be a whole number"),
        (("nodes", 0, "usage", 0, "prompt_tokens"), None, "nodes[0].usage[0].prompt_tokens is null, and must be a num"),
        (("nodes", 0, "usage", 0), {"model": "m"}, "nodes[0].usage[0].provider is missing"),
        (("nodes", 0, "operator_ref"), {"with": []}, "nodes[0].operator_ref.with is [], and must be an object"),
        (("nodes", 0, "calls_at_once"), "many", 'nodes[0].calls_at_once is "many", and must be a whole number'),
        (("software", "python"), 3.11, "software.python is 3.11, and must be text"),
    ],
)
def test_the_key_is_named_and_what_it_must_be(bench: Bench, place: tuple[Any, ...], value: Any, what: str) -> None:
    good = _run(bench, "a")
    assert wrong_value(good) == ""
    bench.put_run_state("a", _with(good, place, value))
    with pytest.raises(RunStateError) as raised:
        RunFolder(bench.results, "a").load()
    text = str(raised.value)
    assert text.startswith(f"{bench.results}/a/runtime.json is not a run state: {what}")
    assert text.endswith("; restore the file, or, if a newer llm-datagen wrote it, use that")


def test_such_a_run_is_unreadable_and_the_others_are_shown(bench: Bench) -> None:
    _run(bench, "good")
    bench.put_run_state("bad", _with(_run(bench, "bad"), ("nodes", 0, "rows_in"), "many"))
    why = 'nodes[0].rows_in is "many", and must be a whole number'
    with serving(bench.results) as client:
        runs = {run["id"]: run for run in client.get("/api/runs")["runs"]}
        assert {name: run["status"] for name, run in runs.items()} == {"good": "completed", "bad": "unreadable"}
        assert why in runs["bad"]["reason"]
        metrics = client.ask("/metrics")
        assert metrics.status == 200
        assert f'llm_datagen_unreadable_runs{{folder="{bench.results}"}} 1.0' in metrics.body.decode()
    for command in ("status", "report", "resume", "trace"):
        row = ["0"] if command == "trace" else []
        done = CliRunner().invoke(app, [command, "bad", *row, "--results-dir", str(bench.results)])
        assert done.exit_code != 0
        shown = " ".join(done.output.split())
        assert why in shown and "restore the file" in shown, command  # noqa: PT018
    with pytest.raises(RunStateError, match="many"):
        bench.pipeline([_priced]).resume("bad")


def test_a_run_state_without_nodes_is_none(bench: Bench) -> None:
    bench.put_run_state("a", {**_run(bench, "a"), "nodes": []})
    with pytest.raises(RunStateError, match="it has no nodes"):
        RunFolder(bench.results, "a").load()


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place[-1:] == ("input_fingerprint",) or place[:1] == ("config",):  # nobody looks into these
        return
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*place, key)
        yield from _places(each, (*place, key))


@pytest.mark.slow
def test_whatever_is_wrong_those_who_look_at_runs_say_which_it_is_or_need_it_not(bench: Bench) -> None:
    good, folders = _run(bench, "a"), ResultsFolders([bench.results])
    values: list[Any] = ["x", [], {}, 1.5, None, True, -1, ["x"], {"x": 1}]
    count = unreadable = 0
    for number, place in enumerate(_places(good)):
        if place == ("format",):
            continue
        for value in (values[number % len(values)], values[(number + 4) % len(values)]):
            _put(bench.results / "a" / "runtime.json", _with(good, place, value))
            (run,) = all_runs(str(bench.results))
            assert RunList(folders).look()["runs"][0]["status"] == run.status, (place, value)
            assert page_of_run(folders, folders.key(str(bench.results), "a"))["status"] == run.status
            assert run.brief()["status"] == run.as_dict()["status"] == run.status
            assert metrics_text([bench.results])
            count, unreadable = count + 1, unreadable + (run.status == "unreadable")
    assert count > 200
    assert unreadable > count / 3


def _put(path: Path, run_state: Any) -> None:
    """Write a run state as it is, with its checksum."""
    from llm_datagen.streams.checksums import with_check

    path.write_bytes(with_check(json.dumps(run_state).encode()))
