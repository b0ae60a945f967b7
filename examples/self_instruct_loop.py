"""Self-instruct: accepted tasks are shown to the model that invents the next ones; each is revised until it is good.

    python examples/self_instruct_loop.py

The model is a fake one, so that it runs anywhere. Kill it and run it again: it goes on where it was.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from llm_datagen import Generate, UnifiedPipeline, ops
from llm_datagen.llm import LLMOperator
from llm_datagen.testing import FakeLLMServer

FOLDER = Path("tmp/self_instruct_loop")
INVENT = "Invent a task about {{ topic }}, unlike these: {{ examples | map(attribute='task') | join('; ') }}"
REVISE = "Make this task more precise: {{ task }}"


def answer(messages: Sequence[Any]) -> str:
    """Answer as a model might: with one of 40 tasks, or with a longer one."""
    asked = str(messages[-1]["content"])
    if asked.startswith("Make"):
        return asked.partition(": ")[2] + ", in detail"
    return f"Task {crc32(asked.encode()) % 40}"


def pipeline(base_url: str) -> UnifiedPipeline:
    """Return the pipeline: up to 200 tries, each with two accepted tasks as examples."""
    model: dict[str, Any] = {"model": "m", "base_url": base_url, "api_key": "none", "output": "task"}
    cache = str(FOLDER / "answers.sqlite")
    invent = LLMOperator(INVENT, cache=cache, name="invent", **model)
    revise = LLMOperator(REVISE, cache=cache, overwrite_columns=True, name="revise", **model)
    good = ops.Loop(revise, until="len(task) > 30", max_rounds=5, unmet="drop")
    good.name = "good"
    return UnifiedPipeline(
        [
            ops.Feedback("good", k=2, columns="task", seeds=[{"task": "Name a colour"}]),
            invent,
            ops.Dedupe("task"),
            good,
        ],
        input=Generate({"topic": ["birds", "trees", "stars"]}, n=200, seed=1),
        output_uri=f"jsonl://{FOLDER}/tasks.jsonl",
        streaming=True,
        max_lead=10,  # so that what is shown is not old
        parallel_size=4,
        results_dir=FOLDER / "results",
        base_path=FOLDER / "between",
    )


def main() -> int:
    """Run it, or go on with it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FakeLLMServer(answer=answer) as server:
        report = pipeline(server.base_url).create("tasks", if_exists="resume").run(progress=False)
    tasks = [json.loads(line) for line in (FOLDER / "tasks.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = {example["task"] for row in tasks for example in row["examples"]}
    accepted = {row["task"] for row in tasks}
    print(f"{report.rows_in} tries, {len(tasks)} tasks; {len(shown & accepted)} of them were shown to later tries")
    print(json.dumps(tasks[-1]))
    return 0 if len(accepted) == len(tasks) and shown & accepted and shown <= {*accepted, "Name a colour"} else 1


if __name__ == "__main__":
    sys.exit(main())
