"""A step is edited after a run: what that costs is said first, only what follows is done again, and both results stay.

Run it with ``python edit_and_go_on.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import contextlib
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, INodeContext, UnifiedPipeline

CALLS: Counter[str] = Counter()


class Answer(BaseOperator):
    """Stands for a model: one call per row, which says what it used."""

    stateful = True  # the count of calls is for this example; the rows do not depend on it

    def __init__(self, column: str, prompt: str) -> None:
        self.column, self.prompt = column, prompt

    def process_item(self, item: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
        CALLS[self.column] += 1
        ctx.report_usage({"provider": "example", "model": "none", "requests": 1, "prompt_tokens": 9, "cost": 0.001})
        return {**item, self.column: self.prompt.format(**item)}


def pipeline(question: str) -> UnifiedPipeline:
    steps = [
        Answer("topic", "the number {n}"),
        Answer("question", question),
        Answer("answer", "an answer to: {question}"),
    ]
    return UnifiedPipeline(steps, "jsonl://numbers.jsonl", "jsonl://answers.jsonl")


def rows(path: str) -> dict[int, Any]:
    with Path(path).open(encoding="utf-8") as lines:
        return {row["_i"]: row["answer"] for row in map(json.loads, lines)}


def main() -> None:
    Path("numbers.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(100)), encoding="utf-8")
    pipeline("what is {topic}?").create("answers").run()

    edited = pipeline("why is {topic} so popular?")
    diff = edited.diff("answers")  # calls nothing, changes nothing
    print(diff)
    assert [node.what for node in diff.nodes] == ["kept", "redone", "redone"]
    assert CALLS.total() == 300

    edited.resume("answers", on_change="rerun").run()
    assert CALLS == {"topic": 100, "question": 200, "answer": 200}  # 200 calls more, as the diff has said

    old, new = rows("answers@1/answers.jsonl"), rows("answers.jsonl")
    for number in range(3):
        print(f"{old[number]}  ->  {new[number]}")
    print("side by side: llm-datagen compare answers@1 answers")
    assert old.keys() == new.keys()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
