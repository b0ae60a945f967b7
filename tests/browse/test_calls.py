"""Prompt and answer of every row are found after the run, with what they cost; within bounds on disk."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.cli.trace import trace_row
from llm_datagen.llm import LLMOperator
from llm_datagen.llm.answers import call_log
from llm_datagen.llm.answers.call_log import CallLog, without_data
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.operators.current_rows import current_rows
from llm_datagen.runs.browse.calls import FOLDER, calls_of
from llm_datagen.runs.browse.family import Member, family
from llm_datagen.runs.store import RunFolder
from llm_datagen.streams.storage.local import LocalStorage
from llm_datagen.testing import FakeLLMServer, ToolCalls

from ..kit.support import Bench, lines

SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}


def answer(messages: Sequence[Mapping[str, Any]]) -> str:
    """Answer with the prompt in capitals; a mood only when asked for the second time."""
    said = str(messages[-1]["content"])
    if said.startswith("mood of"):
        return "no JSON"
    return '{"mood": "good"}' if "cannot be used" in said else said.upper()


@pytest.fixture
def server() -> Iterator[FakeLLMServer]:
    with FakeLLMServer(answer=answer) as fake:
        yield fake


def files_of(bench: Bench, pipeline_id: str) -> Path:
    return RunFolder(bench.results, pipeline_id).files_path


def found(bench: Bench, pipeline_id: str, row_id: Any) -> list[Member]:
    return family(bench.run_state(pipeline_id), files_of(bench, pipeline_id), row_id)


def picky(row: dict[str, Any]) -> dict[str, Any]:
    if row["q"] == "q3":
        raise ValueError("no q3")
    return row


def test_a_row_has_the_calls_behind_it_from_the_input_to_every_child(bench: Bench, server: FakeLLMServer) -> None:
    bench.give({"q": f"q{n}"} for n in range(20))
    draft = LLMOperator("draft {{ q }}", system="be brief", model="tiny", base_url=server.base_url, api_key="k", n=2)
    mood = LLMOperator("mood of {{ answer }}", model="tiny", base_url=server.base_url, api_key="k", output=SCHEMA)
    bench.pipeline([picky, draft, mood], on_error="dead_letter").create("one").run()
    members = found(bench, "one", 7)
    assert [(each.trace.where, each.trace.row_id, len(each.calls)) for each in members] == [
        ("input", 7, 0),
        ("node_0", 7, 0),
        ("node_1", "7_0", 2),
        ("node_1", "7_1", 2),
        ("node_2", "7_0", 1),
        ("node_2", "7_1", 1),
    ]
    first, second = members[2].calls
    assert {
        name: first[name] for name in ("model", "provider", "messages", "answer", "repairs", "attempts", "cached")
    } == {
        "model": "tiny",
        "provider": "127.0.0.1",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "draft q7"}],
        "answer": "DRAFT Q7",
        "repairs": 0,
        "attempts": 1,
        "cached": False,
    }
    assert first["tokens_in"] > 0 < first["tokens_out"]
    assert {first.get("sample"), second.get("sample")} == {None, 1}
    (repaired,) = members[4].calls
    assert (repaired["answer"], repaired["repairs"], repaired["repaired_answers"]) == (
        '{"mood": "good"}',
        1,
        ["no JSON"],
    )
    assert [len(each.calls) for each in found(bench, "one", 3)] == [0, 0]


def test_a_row_that_failed_shows_what_was_answered(bench: Bench, server: FakeLLMServer) -> None:
    bench.give([{"q": "q0"}])
    mood = LLMOperator(
        "mood of {{ q }}", model="m", base_url=server.base_url, api_key="k", output=SCHEMA, max_repairs=0
    )
    bench.pipeline([mood], on_error="dead_letter").create("one").run()
    dead = found(bench, "one", 0)[-1]
    assert (dead.trace.state, dead.calls[0]["answer"]) == ("dead letter", "no JSON")
    assert dead.calls[0]["error"].startswith("LLMAnswerError: the answer of m at ")


def test_without_them_nothing_is_written(bench: Bench, server: FakeLLMServer) -> None:
    bench.give([{"q": "q0"}])
    bench.pipeline([LLMOperator("{{ q }}", model="m", base_url=server.base_url, api_key="k", keep_calls=False)]).create(
        "one"
    ).run()
    assert not files_of(bench, "one").exists()
    assert [each.calls for each in found(bench, "one", 0)] == [[], []]


def test_a_disk_that_refuses_costs_no_row(bench: Bench, server: FakeLLMServer) -> None:
    bench.give([{"q": f"q{n}"} for n in range(5)])
    pipeline = bench.pipeline([LLMOperator("{{ q }}", model="m", base_url=server.base_url, api_key="k")])
    run = pipeline.create("one")
    files_of(bench, "one").write_text("something else is here")
    run.run()
    assert sorted(row["answer"] for row in lines(bench.output)) == [f"Q{n}" for n in range(5)]
    told = [line["message"] for line in bench.log_lines() if "no longer kept" in line.get("message", "")]
    assert told == [
        "the model calls of node_0 are no longer kept: Not a directory; its rows go on. Make room, or set "
        "keep_calls=False"
    ]


class Node:
    """What the log asks of a node."""

    node_id = "node/1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder


def test_the_oldest_calls_go_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file holds about ten calls, and three files are kept; what a killed process has left counts, too."""
    monkeypatch.setattr(call_log, "FILE_BYTES", 10_000)
    ctx: Any = Node(tmp_path)

    async def write(begin: int, end: int, most: int, *, close: bool) -> None:
        log = CallLog(most)
        for number in range(begin, end):
            current_rows.set((number,))
            noise = base64.b64encode(bytes((number * 7 + k * k) % 251 for k in range(700))).decode()
            request = ChatRequest(messages=[{"role": "user", "content": noise}], params={}, model="m", ctx=ctx)
            await log.note(request, [(request, ChatAnswer(text=str(number)))], None)
        if close:
            await log.close()
        elif log._files is not None:  # as kill -9 leaves it
            assert log._files._file is not None
            log._files._file.close()
            log._files._writer.shutdown()
            log._files._threads.shutdown()

    asyncio.run(write(0, 5, 1 << 30, close=False))
    asyncio.run(write(5, 200, 1 << 30, close=True))
    folder = tmp_path / FOLDER
    assert {name for path in folder.iterdir() if (name := path.suffix) == ".jsonl"} == set()
    everything = calls_of(tmp_path, "node/1", range(200))
    assert [everything[number][0]["answer"] for number in range(200)] == [str(number) for number in range(200)]
    packed = [path.stat().st_size for path in sorted(folder.glob("*.gz"))]
    asyncio.run(write(200, 201, sum(packed[-3:]) + 1000, close=True))
    left = calls_of(tmp_path, "node/1", range(201))
    assert sorted(left) == list(range(201 - len(left), 201))
    assert 10 < len(left) < 40
    assert sum(path.stat().st_size for path in folder.glob("*.gz")) <= sum(packed[-3:]) + 1000
    assert len(list(folder.glob("*.ids"))) == len(list(folder.glob("*.gz")))


def edited(bench: Bench, server: FakeLLMServer, prompt: str) -> UnifiedPipeline:
    """Return a pipeline whose operator counts as edited when the prompt is another one."""
    operator = LLMOperator(prompt, model="m", base_url=server.base_url, api_key="k")
    operator.version = prompt
    return bench.pipeline([operator])


@pytest.mark.parametrize("step", ["link", "unlink"])
def test_a_rerun_that_was_cut_short_amid_the_calls_leaves_each_version_its_own(
    bench: Bench, server: FakeLLMServer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The disk refuses the second file of calls; the next resume finishes what the rerun has begun."""
    plain, seen = getattr(LocalStorage, step), list[str]()

    def refuse(self: LocalStorage, path: str, *target: str) -> None:
        seen.extend([path] if f"/{FOLDER}/" in path else ())
        if len(seen) == 2:
            raise OSError(28, os.strerror(28), path)
        plain(self, path, *target)

    bench.give([{"q": "q0"}])
    edited(bench, server, "old {{ q }}").create("one").run()
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, step, refuse)
        with pytest.raises(OSError, match="No space"):
            edited(bench, server, "new {{ q }}").resume("one", on_change="rerun")
    edited(bench, server, "new {{ q }}").resume("one").run()
    for version, answers in (("one@1", ["OLD Q0"]), ("one", ["NEW Q0"])):
        assert [call["answer"] for call in found(bench, version, 0)[-1].calls] == answers


def test_a_file_system_without_links_has_copies_of_calls(
    bench: Bench, server: FakeLLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: LocalStorage, path: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(LocalStorage, "link", refuse)
    bench.give([{"q": "q0"}])
    edited(bench, server, "old {{ q }}").create("one").run()
    edited(bench, server, "new {{ q }}").resume("one", on_change="rerun").run()
    for version, answers in (("one@1", ["OLD Q0"]), ("one", ["NEW Q0"])):
        assert [call["answer"] for call in found(bench, version, 0)[-1].calls] == answers


def test_a_repair_between_rounds_of_tools_has_its_place(bench: Bench) -> None:
    def use(messages: Sequence[Mapping[str, Any]]) -> Any:
        if messages[-1]["role"] == "tool":
            return "no JSON"
        is_repair = "cannot be used" in str(messages[-1]["content"])
        return '{"mood": "good"}' if is_repair else ToolCalls(("look", {"at": "q0"}))

    def look(at: str) -> str:
        """Look at something."""
        return f"{at} smiles"

    bench.give([{"q": "q0"}])
    with FakeLLMServer(answer=use) as server:
        mood = LLMOperator("{{ q }}", model="m", base_url=server.base_url, api_key="k", output=SCHEMA, tools=[look])
        bench.pipeline([mood]).create("one").run()
    (call,) = found(bench, "one", 0)[-1].calls
    assert [message["role"] for message in call["messages"]] == ["user", "assistant", "tool", "assistant", "user"]
    assert (call["repairs_at"], call["repairs"], call["answer"]) == ([4], 1, '{"mood": "good"}')


def test_images_are_noted_and_not_kept() -> None:
    data = f"data:image/png;base64,{'A' * 1000}"
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": data}}]
    text = json.dumps(without_data({"role": "user", "content": parts}))
    assert "AAAA" not in text
    assert "(image/png, 1022 characters of a data URL, SHA-256 " in text
    by_name = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}
    assert without_data(by_name) == by_name


def test_the_command_shows_prompt_and_answer(
    bench: Bench, server: FakeLLMServer, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.give([{"q": "q0"}])
    bench.pipeline([LLMOperator("{{ q }}", model="m", base_url=server.base_url, api_key="k")]).create("one").run()
    assert trace_row(str(bench.results), "one", "0", as_json=False, calls=True) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split() for line in told[-2:]] == [["user", "q0"], ["answer", "Q0"]]
    assert told[-3].startswith("      call      m at 127.0.0.1: ")
    assert trace_row(str(bench.results), "one", "0", as_json=True, calls=True) == 0
    assert json.loads(capsys.readouterr().out)["found"][1]["calls"][0]["answer"] == "Q0"
    assert trace_row(str(bench.results), "one", "0", as_json=True) == 0
    assert "calls" not in json.loads(capsys.readouterr().out)["found"][1]
