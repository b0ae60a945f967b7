"""A program may change its working directory while a run goes on: paths were made absolute when the run started."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import BaseOperator, LogFile, UnifiedNode, UnifiedNodePipeline, UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.testing import FakeLLMServer

from ..kit.support import lines, numbered, write_jsonl

PNG = b"\x89PNG\r\n\x1a\n"


class Goes(BaseOperator):
    """Goes to another folder with its first row, and fails for some."""

    name = "goes"

    def __init__(self, to: Path) -> None:
        self.to = to

    def process_item(self, item: Any, ctx: Any) -> Any:
        os.chdir(self.to)
        if ctx.folder is not None:
            ctx.folder.mkdir(exist_ok=True)
            (ctx.folder / "own").touch()
        if item["n"] == 2:
            raise ValueError("not this one")
        return item


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start in one folder; another one is there with the input and a run of the same id, all of which must stay."""
    home, other = tmp_path / "home", tmp_path / "other"
    for folder in (home, other):
        folder.mkdir()
        monkeypatch.chdir(folder)
        write_jsonl(folder / "in.jsonl", numbered(5))
        if folder == other:
            UnifiedPipeline([Goes(other)], "in.jsonl", "out.jsonl", on_error="dead_letter").create("a").run()
    return other


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize(("executor", "streaming"), [("thread", True), ("thread", False), ("process", False)])
def test_a_run_stays_where_it_was_started(elsewhere: Path, streaming: bool, executor: Any) -> None:
    home, before = Path.cwd().parent / "home", contents(elsewhere)
    os.chdir(home)
    settings: dict[str, Any] = {
        "streaming": streaming,
        "on_error": "dead_letter",
        "delivery": "at_most_once",
        "executor": executor,
        "log_file": LogFile("logs/platform.log", max_bytes=600),
        "writer_config": {"flush_batch_size": 1},
    }
    operators = [Goes(elsewhere), Goes(elsewhere)]
    pipeline = UnifiedPipeline(operators, "in.jsonl", "out.jsonl", **settings).create("a")
    os.chdir(home)
    assert pipeline.run().failed == 1
    assert contents(elsewhere) == before
    os.chdir(home)
    assert [row["n"] for row in lines(home / "out.jsonl")] == [0, 1, 3, 4]
    assert Path("out.jsonl.done").exists()
    assert (home / "tmp" / "results" / "a" / "files" / "own").exists()
    assert (home / "tmp" / "a" / "node_0.jsonl.errors.jsonl").exists()
    assert (home / "logs" / "platform.log").exists()
    # The state keeps paths as they were written, so that a project can be moved; a resume takes them from where it is.
    assert UnifiedPipeline(operators, "in.jsonl", "out.jsonl", **settings).resume("a").run().status == "completed"


@pytest.mark.parametrize("is_by_hand", [False, True])
def test_relative_paths_are_those_of_the_folder_in_which_the_run_was_created(elsewhere: Path, is_by_hand: bool) -> None:
    """Line 14: whatever the folder is in which it begins; of the log alone, it is that one (M28)."""
    home, before = Path.cwd().parent / "home", contents(elsewhere)
    os.chdir(home)
    operator = Goes(elsewhere)
    pipeline: UnifiedNodePipeline | UnifiedPipeline
    if is_by_hand:
        node = UnifiedNode("n", follow_input=False, on_error="dead_letter").set_operator(operator)
        pipeline = UnifiedNodePipeline([node.bind_io("in.jsonl", "out.jsonl")], log_file=None)
    else:
        pipeline = UnifiedPipeline([operator, operator], "in.jsonl", "out.jsonl", on_error="dead_letter", log_file=None)
    pipeline.create("c")
    os.chdir(elsewhere)
    assert pipeline.run().failed == 1
    assert contents(elsewhere) == before
    assert [row["n"] for row in lines(home / "out.jsonl")] == [0, 1, 3, 4]
    assert (home / "tmp" / "results" / "c" / "runtime.json").exists()


def test_images_are_those_of_the_folder_in_which_the_operator_was_made(elsewhere: Path) -> None:
    """Line 14: a relative `image_root` stays where it was, and paths in rows are relative to it."""
    home = Path.cwd().parent / "home"
    os.chdir(home)
    for folder, data in ((home, PNG + b"home"), (elsewhere, PNG + b"elsewhere")):
        (folder / "images").mkdir()
        (folder / "images" / "a.png").write_bytes(data)
    write_jsonl(home / "in.jsonl", [{"image": "a.png"}])
    sent: list[str] = []

    def answer(request: Any) -> str:
        sent.append(json.dumps(request))
        return "it"

    with FakeLLMServer(answer=answer) as server:
        ask = LLMOperator(
            "What is it?", model="m", base_url=server.base_url, images=["{{ image }}"], image_root="images"
        )
        pipeline = UnifiedPipeline([ask], "in.jsonl", "out.jsonl", log_file=None).create("i")
        os.chdir(elsewhere)
        assert pipeline.run().rows_out == 1
    assert [base64.b64encode(PNG + b"home").decode() in text for text in sent] == [True]


def test_nodes_that_were_wired_by_hand_stay_too(elsewhere: Path) -> None:
    home, before = Path.cwd().parent / "home", contents(elsewhere)
    os.chdir(home)
    node = UnifiedNode("n", follow_input=False, on_error="dead_letter").set_operator(Goes(elsewhere))
    write_jsonl(home / "more.jsonl", numbered(5))
    node.bind_io({"a": "in.jsonl", "b": "more.jsonl"}, {"x": "x.jsonl", "y": "y.jsonl"}, route=lambda row: "x")
    assert UnifiedNodePipeline([node]).create("b").run().status == "completed"
    os.chdir(home)
    assert len(lines(home / "x.jsonl")) == 8
    alone = UnifiedNode("n", follow_input=False, on_error="dead_letter").set_operator(Goes(elsewhere))
    alone.bind_io("in.jsonl", "alone.jsonl").run()
    assert len(lines(home / "alone.jsonl")) == 4
    assert contents(elsewhere) == before


def test_the_cache_and_the_spend_of_a_model_stay_too(elsewhere: Path) -> None:
    """In a sequential run, the second node opens its journal when the first one has gone elsewhere."""
    home, before = Path.cwd().parent / "home", contents(elsewhere)
    os.chdir(home)
    with FakeLLMServer() as server:
        ask = LLMOperator(
            "{{ n }}",
            model="m",
            base_url=server.base_url,
            cache="answers.sqlite",
            params={"max_tokens": 10},
            budget={"tokens": 100_000},
        )
        UnifiedPipeline([Goes(elsewhere), ask], "in.jsonl", "out.jsonl", on_error="dead_letter").create("m").run()
    assert (home / "answers.sqlite").exists()
    assert (home / "tmp" / "results" / "m" / "files" / "budget.jsonl").exists()
    assert contents(elsewhere) == before
