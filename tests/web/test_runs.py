"""Which runs there are, and how one stands: whatever is in their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_datagen.runs import RunFolder
from llm_datagen.shards.run_view import RunView, read_or_unreadable
from llm_datagen.web import run_list
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.run_list import RunList

from ..examples.pages import DOCS
from ..kit.support import Bench, numbered
from ..kit.web import Client, serving


def odd(item: dict[str, Any]) -> dict[str, Any] | None:
    """Filter every other row."""
    if item["n"] == 4:
        raise ValueError("four")
    return item if item["n"] % 2 else None


def same(item: dict[str, Any]) -> dict[str, Any]:
    """Return the row."""
    return item


def run_of(bench: Bench, pipeline_id: str) -> None:
    bench.give(numbered(10))
    bench.pipeline([odd, same], on_error="dead_letter").create(pipeline_id, if_exists="overwrite").run(progress=False)


def test_a_run_is_shown_with_its_nodes_streams_and_edges(bench: Bench) -> None:
    run_of(bench, "one")
    with serving(bench.results) as client:
        run = client.get("/api/runs/0.one")
        assert [(node["node_id"], node["rows_in"], node["rows_out"]) for node in run["nodes"]] == [
            ("node_0", 10, 5),
            ("node_1", 5, 5),
        ]
        first = run["nodes"][0]
        assert (first["filtered"], first["dead_letters"], first["failed"]) == (4, 1, 1)
        assert (first["inputs"], first["outputs"]) == (["input:0"], ["node_0:rows", "node_0:dead_letters"])
        assert {name: 0 <= share <= 1 for name, share in first["times"].items()} == dict.fromkeys(
            ("busy", "waiting", "held_back", "rate_limited", "lead_limited"), True
        )
        assert [(s["stream"], s["kind"], s["rows"], s["sealed"], s["browsable"]) for s in run["streams"]] == [
            ("input:0", "input", 10, True, True),
            ("node_0:rows", "between", 5, True, True),
            ("node_0:dead_letters", "dead_letters", 1, True, True),
            ("node_1:rows", "output", 5, True, True),
        ]
        assert run["streams"][3]["bytes"] == bench.output.stat().st_size
        assert [(edge["from"], edge["to"]) for edge in run["edges"]] == [
            ("input:0", "node_0"),
            ("node_0", "node_0:rows"),
            ("node_0:rows", "node_1"),
            ("node_0", "node_0:dead_letters"),
            ("node_1", "node_1:rows"),
        ]
        assert (run["status"], run["live"], run["paused"], run["shards"]) == ("completed", False, False, None)
        assert run["bottleneck"] == ""  # it took no time
        (summary,) = client.get("/api/runs")["runs"]
        assert summary["nodes"] == 2
        assert {name: run[name] for name in summary if name != "nodes"} == {
            name: value for name, value in summary.items() if name != "nodes"
        }


def test_runs_of_several_folders_are_told_apart(bench: Bench, tmp_path: Path) -> None:
    run_of(bench, "one")
    other = Bench(tmp_path / "other")
    other.folder.mkdir()
    run_of(other, "one")
    empty = tmp_path / "nothing"
    with serving(bench.results, other.results, empty, bench.results) as client:
        runs = client.get("/api/runs")["runs"]
        assert [(run["run"], run["folder"]) for run in runs] == [
            ("1.one", str(other.results)),
            ("0.one", str(bench.results)),
        ]
        assert client.get("/api/server")["folders"] == [str(bench.results), str(other.results), str(empty)]
        assert client.get("/api/runs/1.one")["folder"] == str(other.results)


def test_the_reference_names_every_key(bench: Bench) -> None:
    text = (DOCS / "reference" / "web-api.md").read_text()
    run_of(bench, "one")
    with serving(bench.results) as client:
        run = client.get("/api/runs/0.one")
    keys = {*run, *run["nodes"][0], *run["nodes"][0]["times"], *run["streams"][0], *run["edges"][0]}
    assert sorted(key for key in keys if f"`{key}`" not in text) == []


@pytest.mark.sampled(3)
@pytest.mark.parametrize("pipeline_id", ["a b", "ä~%2e", "<b>&\"'", "x" * 200, "0.1", "%", "#?;"])
def test_any_id_has_a_key_that_needs_no_quoting(bench: Bench, pipeline_id: str) -> None:
    run_of(bench, pipeline_id)
    with serving(bench.results) as client:
        (run,) = client.get("/api/runs")["runs"]
        assert run["id"] == pipeline_id
        assert not set(run["run"]) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-~")
        assert client.get(f"/api/runs/{run['run']}")["id"] == pipeline_id


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    "key",
    [
        "0...", "0.~2E~2E", "0.~2e~2e~2fother", "0.%2e%2e", "0.%2e%2e%2fother", "0...%2fother", "1.one", "-1.one",
        "one", ".one", "0.", "0.one~00", "0.~FF", "0.~4Fne", "00.one", "+0.one", "0.one%2fruntime.json", "0.%00", "0.~",
        " 0.one",
    ],
)  # fmt: skip
def test_a_key_is_never_a_path(bench: Bench, key: str) -> None:
    run_of(bench, "one")
    (bench.folder / "other").mkdir()
    (bench.folder / "other" / "runtime.json").write_bytes((bench.results / "one" / "runtime.json").read_bytes())
    with serving(bench.results) as client:
        for path in (f"/api/runs/{key.replace(' ', '%20')}", f"/api/events?run={key.replace(' ', '%20')}"):
            answer = client.ask(path)
            assert (answer.status, list(answer.json)) == (404, ["error"]), path
            assert str(bench.folder) not in answer.body.decode()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 9}', b"\xff\xfe", b'{"format": 2, "nodes": 7, "check": "x"}']
)
def test_a_damaged_run_is_named_and_the_others_are_shown(bench: Bench, content: bytes) -> None:
    run_of(bench, "good")
    (bench.results / "bad").mkdir()
    (bench.results / "bad" / "runtime.json").write_bytes(content)
    with serving(bench.results) as client:
        runs = {run["id"]: run for run in client.get("/api/runs")["runs"]}
        assert runs["good"]["status"] == "completed"
        assert runs["bad"]["status"] == "unreadable"
        assert "runtime.json" in runs["bad"]["reason"]
        page = client.get("/api/runs/0.bad")
        assert (page["nodes"], page["streams"], page["edges"]) == ([], [], [])
        assert set(page) == set(client.get("/api/runs/0.good"))


def test_a_run_state_that_cannot_be_read_hides_no_other_run(bench: Bench) -> None:
    run_of(bench, "good")
    (bench.results / "bad" / "runtime.json").mkdir(parents=True)
    with serving(bench.results) as client:
        found = client.get("/api/runs")
        assert {run["id"]: run["status"] for run in found["runs"]} == {"good": "completed", "bad": "unreadable"}
        assert found["warnings"] == []
        assert "is a directory" in client.get("/api/runs/0.bad")["reason"].lower()


def test_hostile_names_are_json_and_nothing_else(bench: Bench, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\u202e"
    bench.give([{"n": 1}])

    def fails(item: Any) -> Any:
        raise ValueError(hostile)

    fails.__name__ = fails.__qualname__ = hostile
    bench.pipeline([fails], on_error="dead_letter").create("a<img src=x onerror=alert(1)>").run(progress=False)
    with serving(bench.results) as client:
        for path in ("/api/runs", f"/api/runs/{client.get('/api/runs')['runs'][0]['run']}"):
            answer = client.ask(path)
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "<img src=x onerror=alert(1)>" in str(answer.json)


def first_event(client: Client, path: str) -> tuple[str, Any]:
    with client.events(path) as events:
        return next(events)


def test_who_listens_hears_at_once_and_of_each_change(bench: Bench) -> None:
    run_of(bench, "one")
    with serving(bench.results) as client:
        assert first_event(client, "/api/events") == ("runs", client.get("/api/runs"))
        with client.events("/api/events?run=0.one") as events:
            assert next(events) == ("run", client.get("/api/runs/0.one"))
            state = bench.run_state("one")
            state.pop("check")
            bench.put_run_state("one", {**state, "reason": "changed"})
            assert next(events)[1]["reason"] == "changed"
            (bench.results / "one" / "runtime.json").unlink()
            assert next(events) == ("gone", {})
            bench.put_run_state("one", state)
            assert next(events)[1]["reason"] == ""


def test_a_run_that_has_ended_is_not_read_again_until_it_changes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run_of(bench, "one")
    bench.pipeline([same], output_uri=f"jsonl://{bench.folder}/two.jsonl").create("pending")
    runs = RunList(ResultsFolders([bench.results]))
    read: list[str] = []

    def note(folder: RunFolder) -> RunView:
        read.append(folder.pipeline_id)
        return read_or_unreadable(folder)

    monkeypatch.setattr(run_list, "read_or_unreadable", note)
    first = runs.look()
    assert sorted(read) == ["one", "pending"]
    assert runs.look() == first
    assert read[2:] == ["pending"]  # somebody may take its lock
    state = bench.run_state("one")
    state.pop("check")
    bench.put_run_state("one", {**state, "reason": "changed"})
    assert {run["id"]: run["reason"] for run in runs.look()["runs"]} == {"one": "changed", "pending": ""}
    (bench.results / "one" / "runtime.json").unlink()
    assert [run["id"] for run in runs.look()["runs"]] == ["pending"]
