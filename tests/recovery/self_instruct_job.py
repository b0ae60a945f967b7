"""Self-instruct to be killed: ``self_instruct_job.py '{…}'``.

The job is a JSON object: `folder`, `base_url` (of a fake model that answers by `answer_to`), `rows` of the input (null:
no end), and `target`: how many are to be accepted; null: no matter how many.
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

TOPICS = ["birds", "trees", "stars", "rivers"]
SEEDS = [{"task": "name a color"}, {"task": "name a number"}]
TASKS = 150
"""So many different tasks the model can think of, about each topic."""

BUDGET = 100_000
"""Tokens that a run may use."""


def prompt_of(topic: str, examples: Sequence[dict[str, Any]]) -> str:
    """Return the prompt of a row."""
    return f"{topic}|" + "|".join(example["task"] for example in examples)


def answer_to(prompt: str) -> str:
    """Return the task that the model makes of a prompt."""
    return f"task {crc32(prompt.encode()) % TASKS} about {prompt.partition('|')[0]}"


def answer(messages: Sequence[Any]) -> str:
    """Return the answer to messages."""
    return answer_to(str(messages[-1]["content"]))


def seeds(rows: int | None) -> Generate:
    """Return the input."""
    return Generate({"topic": TOPICS}, n=rows, seed=4)


def main() -> None:
    """Do the job."""
    job = json.loads(sys.argv[1])
    folder = Path(job["folder"])
    invent = LLMOperator(
        "{{ topic }}|{{ examples | map(attribute='task') | join('|') }}",
        model="m",
        base_url=job["base_url"],
        api_key="k",
        output="task",
        cache=str(folder / "answers.sqlite"),
        params={"max_tokens": 20},
        budget={"tokens": BUDGET},
        name="invent",
    )
    accept = ops.Keep("'task 1' not in task")
    accept.name = "accept"
    pipeline = UnifiedPipeline(
        [ops.Feedback("accept", k=2, columns="task", seeds=SEEDS, seed=1), invent, ops.Dedupe("task"), accept],
        input=seeds(job["rows"]),
        output_uri=f"jsonl://{folder}/out.jsonl",
        target=job["target"],
        streaming=True,
        max_lead=8,
        parallel_size=4,
        base_path=folder / "between",
        results_dir=folder / "results",
        log_file=None,
        writer_config={"flush_batch_size": 5, "queue_size": 20},
    )
    pipeline.create("job", if_exists="resume")
    pipeline.run(progress=False)


if __name__ == "__main__":
    main()
