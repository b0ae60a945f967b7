"""An async operator with 20 calls at once, whose usage is summed in the report.

Run it with ``python async_operator.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, INodeContext, UnifiedPipeline


class SlowModel:
    """Stands for a model behind an API: it answers after 20 ms, however many ask at once."""

    def __init__(self) -> None:
        self.open_calls = self.most_open_calls = 0

    async def complete(self, prompt: str) -> str:
        self.open_calls += 1
        self.most_open_calls = max(self.most_open_calls, self.open_calls)
        await asyncio.sleep(0.02)
        self.open_calls -= 1
        return prompt.upper()


class Shout(BaseOperator):
    async def setup(self) -> None:  # once a run, before the first call: the place to open clients
        self.model = SlowModel()

    async def process_item(self, item: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
        answer = await self.model.complete(item["text"])
        ctx.report_usage({"provider": "example", "model": "shouter", "calls": 1, "characters": len(answer)})
        return {**item, "answer": answer}


def main() -> None:
    texts = [f"text {number}" for number in range(400)]
    Path("texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")

    shout = Shout()
    pipeline = UnifiedPipeline([shout], "jsonl://texts.jsonl", "jsonl://answers.jsonl", parallel_size=20)
    report = pipeline.create("async", if_exists="overwrite").run()

    print(f"{report.rows_out} rows in {report.seconds:.2f} s; one after the other: {400 * 0.02:.0f} s")
    print(f"calls at once: {shout.model.most_open_calls}")
    print(f"usage: {report.usage}")
    assert report.rows_out == 400
    assert 1 < shout.model.most_open_calls <= 20  # parallel_size is the limit
    assert report.seconds < 400 * 0.02
    characters = sum(len(text) for text in texts)
    assert report.usage == [{"provider": "example", "model": "shouter", "calls": 400, "characters": characters}]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
