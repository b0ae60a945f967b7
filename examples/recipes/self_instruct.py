"""Self-instruct: seed tasks become new tasks, near-duplicates are left out, and what is new is answered.

Run it with ``python examples/recipes/self_instruct.py``; `endpoint` says where the model is. self_instruct.yaml is the
same without a line of Python around it. The recipe of the same name that ``llm-datagen recipes`` prints is another one.
"""

import json
import threading
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from endpoint import MODEL, endpoint, run

from llm_datagen import BaseOperator, INodeContext, UnifiedPipeline
from llm_datagen.llm import LLMOperator

INVENT = """\
Here is a task: {{ task }}

Write three new tasks of the same kind about other things. Each is one sentence, and says all that one needs to know."""

TASKS = {
    "type": "object",
    "properties": {
        "tasks": {"type": "array", "items": {"type": "string", "maxLength": 120}, "minItems": 3, "maxItems": 3}
    },
    "required": ["tasks"],
    "additionalProperties": False,
}


def one_row_each(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Make a row of every new task."""
    return [{"seed": row["task"], "task": task} for task in row["tasks"]]


class OnlyNew(BaseOperator):
    """Leaves out a task that has nearly the words of its seed, or of a task that was kept before.

    The tasks that were kept are on disk before they go on, by row, so that a resume knows them. Which of two alike is
    kept depends on which comes first: so rows come in input order (`ordered`), one at a time (`NODES`), and every run
    keeps the same. A row is compared with all that were kept: fine for some thousands; for more, take MinHash.

    Args:
        most_alike: how alike the words of two tasks may be, from 0 to 1 (1: the same).
    """

    def __init__(self, most_alike: float = 0.7) -> None:
        self.most_alike = most_alike
        self._kept: dict[str, str] | None = None
        self._lock = threading.Lock()

    def process_item(self, item: dict[str, Any], ctx: INodeContext) -> dict[str, Any] | None:
        """Return the row, or None when it is not new."""
        with self._lock:
            assert ctx.folder is not None  # every pipeline has one
            file = ctx.folder / "kept_tasks.jsonl"
            if self._kept is None:
                file.parent.mkdir(exist_ok=True)
                text = file.read_text(encoding="utf-8") if file.exists() else ""
                self._kept = dict(map(json.loads, text.splitlines()))
            row_id, words = str(item["_i"]), item["task"].lower().split()
            if row_id not in self._kept:  # else it was kept before the process died
                for known in (item["seed"], *self._kept.values()):
                    if SequenceMatcher(None, words, known.lower().split()).ratio() > self.most_alike:
                        return None
                self._kept[row_id] = item["task"]
                with file.open("a", encoding="utf-8") as kept:
                    kept.write(json.dumps([row_id, item["task"]]) + "\n")
            return item


NODES = [{}, {}, {"parallel_size": 1}, {}]
"""What differs from node to node: tasks are compared one at a time."""


def pipeline() -> UnifiedPipeline:
    invent = LLMOperator(
        INVENT, model=MODEL, output=TASKS, params={"temperature": 0.8, "seed": 1, "max_tokens": 400}, name="invent"
    )
    params = {"temperature": 0, "max_tokens": 400, "frequency_penalty": 0.5}
    answer = LLMOperator("{{ task }}", model=MODEL, params=params, name="answer")
    return UnifiedPipeline(
        [invent, one_row_each, OnlyNew(), answer],
        f"jsonl://{Path(__file__).parent}/data/seed_tasks.jsonl",
        "jsonl://tmp/recipes/self_instruct.jsonl",
        streaming=True,
        ordered=True,
        parallel_size=8,
        on_error="dead_letter",
    )


if __name__ == "__main__":
    with endpoint():
        run(pipeline(), "self_instruct", NODES)
