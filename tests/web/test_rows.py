"""Rows through HTTP: pages, search, failures; wherever the run was started."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from llm_datagen import INodeContext
from llm_datagen.web.row_view import shown_id

from ..cli.shell import Shell
from ..kit.support import Bench, numbered
from ..kit.web import serving
from ..llm.chat_server import ChatServer


def fails(item: dict[str, Any]) -> dict[str, Any]:
    """Refuse some rows."""
    if item["n"] % 10 == 3:
        raise ValueError(f"row {item['n']} is bad")
    return item


def test_pages_search_and_failures(bench: Bench) -> None:
    bench.give(numbered(40))
    bench.pipeline([fails], on_error="dead_letter").create("a").run(progress=False)
    with serving(bench.results) as client:
        rows = "/api/runs/0.a/rows"
        page = client.get(f"{rows}?stream=node_0:rows&from=30&limit=2")
        assert [(row["number"], row["item"]["n"]) for row in page["rows"]] == [(30, 33 + 1), (31, 35)]
        assert (page["total"], page["is_total_exact"], page["next"]) == (36, True, 32)
        assert client.get(f"{rows}?stream=input:0&from=39")["rows"] == [{"number": 39, "id": 39, "item": {"n": 39}}]
        found = client.get(f"{rows}?stream=input:0&q=%3A%2017")
        assert ([row["id"] for row in found["rows"]], found["next"], found["searched_to"]) == ([17], None, 40)
        dead = client.get(f"{rows}?stream=node_0:dead_letters")
        assert [row["item"]["input"]["n"] for row in dead["rows"]] == [3, 13, 23, 33]
        assert client.ask(f"{rows}?stream=other").status == 409
        assert len(client.get(f"{rows}?stream=input:0&limit=0")["rows"]) == 1
        failures = client.get("/api/runs/0.a/failures")
        (group,) = failures["groups"]
        assert (failures["total"], group["count"], group["kind"]) == (4, 4, "ValueError")
        assert group["example"]["item"] == {"n": 3}
        assert "row 3 is bad" in group["message"]
        assert "ValueError: row 3 is bad" in group["example"]["traceback"]


def test_long_messages_of_failures_are_cut(bench: Bench) -> None:
    def fails_at_length(item: dict[str, Any]) -> None:
        raise ValueError("x" * 50_000)

    bench.give(numbered(1))
    bench.pipeline([fails_at_length], on_error="dead_letter").create("a").run(progress=False)
    with serving(bench.results) as client:
        (group,) = client.get("/api/runs/0.a/failures")["groups"]
        assert group["message"] == f"{'x' * 2000}… (48,000 more characters)"
        assert 10_000 < len(group["example"]["traceback"]) < 10_100
        (dead,) = client.get("/api/runs/0.a/rows?stream=node_0:dead_letters")["rows"]
        assert dead["item"]["error"]["text"] == "x" * 50_000


def test_rows_of_a_run_that_was_started_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its paths are relative to where it was started, not to where the page is served."""
    shell = Shell(tmp_path)
    assert shell.run("run", shell.yaml(["ops:odd"], results_dir="runs"), "--id", "a").returncode == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with serving(tmp_path / "runs") as client:
        assert [stream["bytes"] for stream in client.get("/api/runs/0.a")["streams"]] == [
            (tmp_path / name).stat().st_size for name in ("in.jsonl", "out.jsonl")
        ]
        page = client.get("/api/runs/0.a/rows?stream=node_0:rows&limit=1")
        assert (page["rows"][0]["item"], page["total"]) == ({"n": 1}, 25)
        lines = client.get("/api/runs/0.a/log")["lines"]
        assert (lines[0]["event"], lines[-1]["event"]) == ("[Run Started]", "[Run Ended]")


@pytest.mark.parametrize(("row_id", "shown"), [(7, 7), (2**53 - 1, 2**53 - 1), (2**53, str(2**53)), ("7_a", "7_a")])
def test_numbers_that_javascript_cannot_hold_are_ids_as_text(row_id: Any, shown: Any) -> None:
    assert shown_id(row_id) == shown


def test_the_trace_of_a_row_goes_down_to_prompt_and_answer(bench: Bench, chat: ChatServer) -> None:
    bench.give([{"n": 3}, {"n": 4}])
    asks = chat.operator("Is {{ n }} odd?", params={"max_tokens": 5}, prices={"input": 1, "output": 1})
    bench.pipeline([asks, fails], on_error="dead_letter").create("a").run(progress=False)
    with serving(bench.results) as client:
        of_input, of_asks, of_fails = client.get("/api/runs/0.a/trace?id=1")["members"]
        assert [(one["node_id"], one["stream"], one["state"]) for one in (of_input, of_asks, of_fails)] == [
            (None, "input:0", "row"),
            ("node_0", "node_0:rows", "row"),
            ("node_1", "node_1:rows", "row"),
        ]
        (call,) = of_asks["calls"]
        assert (call["messages"][-1]["content"], call["answer"], call["cached"]) == ("Is 4 odd?", "yes", False)
        assert (of_input["calls"], of_fails["calls"], of_fails["relation"]) == ([], [], "itself")
        assert of_fails["item"]["n"] == 4
        dead = client.get("/api/runs/0.a/trace?id=0")["members"][-1]
        assert (dead["state"], dead["stream"], dead["reason"]) == (
            "dead_letter",
            "node_1:dead_letters",
            "ValueError: row 3 is bad",
        )
        assert dead["item"]["n"] == 3
        assert client.get("/api/runs/0.a/trace?id=99") == {"members": []}
        assert client.ask("/api/runs/0.nothing/trace?id=1").status == 404


def test_a_row_of_the_input_that_cannot_be_read_any_more_is_told(bench: Bench) -> None:
    folder = bench.folder / "in"
    folder.mkdir()
    for name, n in (("a", 1), ("b", 2)):
        (folder / f"{name}.jsonl").write_text(f'{{"n": {n}}}\n')
    bench.pipeline([fails], input_uri=f"{folder}/").create("a").run(progress=False)
    (folder / "a.jsonl").unlink()
    with serving(bench.results) as client:
        of_input, of_fails = client.get("/api/runs/0.a/trace?id=1")["members"]
        assert [of_input[key] for key in ("stream", "state", "reason", "item")] == [
            "input:0",
            "unreadable",
            "a.jsonl is gone",
            None,
        ]
        assert (of_fails["state"], of_fails["item"]["n"]) == ("row", 2)


def test_each_version_of_a_run_has_its_own_calls(bench: Bench, chat: ChatServer) -> None:
    bench.give([{"n": 3}])
    first = chat.operator("Is {{ n }} odd?", output="odd")
    bench.pipeline([first, chat.operator("Is {{ n }} big?")]).create("a").run(progress=False)
    edited = chat.operator("Is {{ n }} small?")
    edited.version = "edited"
    bench.pipeline([first, edited]).resume("a", on_change="rerun").run(progress=False)
    with serving(bench.results) as client:
        for run, word, kept in (("0.a~401", "big", None), ("0.a", "small", 1)):
            _, of_first, of_second = client.get(f"/api/runs/{run}/trace?id=0")["members"]
            assert [call.get("version") for call in of_first["calls"]] == [kept]
            (call,) = of_second["calls"]
            assert (call["messages"][0]["content"], call.get("version")) == (f"Is 3 {word}?", None)


def test_hostile_rows_are_json_and_nothing_else(bench: Bench) -> None:
    hostile = {
        "</script><script>alert(1)</script>": "<img src=x onerror=alert(1)>",
        "n": "\u202egnp.exe\u0000\x1b[31m",
        "__proto__": {"polluted": True},
        "long": 2**70,
    }
    bench.give([hostile])
    bench.pipeline([lambda item: {**item, "n": 1}]).create("a").run(progress=False)
    with serving(bench.results) as client:
        for path in ("rows?stream=input:0", "rows?stream=input:0&q=%3Cscript", "trace?id=0"):
            answer = client.ask(f"/api/runs/0.a/{path}")
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert (answer.json.get("rows") or answer.json["members"])[0]["item"] == hostile
        for wrong in ("<script>alert(1)</script>", "../../runtime.json", "%00", "input:9", ""):
            answer = client.ask(f"/api/runs/0.a/rows?stream={quote(wrong)}")
            assert (answer.status, answer.headers["content-type"]) == (409, "application/json")


def picky(item: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
    """Leave out every other row, and say why."""
    if item["n"] % 2:
        ctx.reject(f"{item['n']} is <odd>")
    return item


def test_rejected_rows_are_paged_with_their_reasons(bench: Bench) -> None:
    bench.give(numbered(6))
    bench.pipeline([picky], keep_rejected=True).create("a").run(progress=False)
    with serving(bench.results) as client:
        run = client.get("/api/runs/0.a")
        assert (run["nodes"][0]["rejected"], run["nodes"][0]["outputs"]) == (3, ["node_0:rows", "node_0:rejected"])
        stream = run["streams"][-1]
        assert (stream["stream"], stream["kind"], stream["rows"]) == ("node_0:rejected", "rejected", 3)
        assert stream["bytes"] == (bench.folder / "out.jsonl.rejected.jsonl").stat().st_size
        page = client.get("/api/runs/0.a/rejected?stream=node_0:rejected&from=1&limit=1")
        assert page == {
            "rows": [{"number": 1, "id": 3, "item": {"n": 3}, "reason": "3 is <odd>"}],
            "total": 3, "is_total_exact": True, "next": 2, "searched_to": None,
        }  # fmt: skip
        member = client.get("/api/runs/0.a/trace?id=3")["members"][-1]
        assert (member["state"], member["reason"]) == ("rejected", "3 is <odd>")
