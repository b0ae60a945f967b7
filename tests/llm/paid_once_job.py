"""A pipeline in a process of its own, that may die by SIGKILL between an answer and the commit of its row.

Arguments: the endpoint, after how many rows to die (0: never), and more arguments of the operator as JSON. Run in the
folder of the test.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.operators import INodeContext, Row


class Dying(LLMOperator):
    """Asks, and dies when that many answers have come."""

    left = 0
    version = "1"  # when it dies is no setting

    async def process_item(self, item: Any, ctx: INodeContext) -> Row | list[Row]:
        row = await super().process_item(item, ctx)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return row


def main(base_url: str, rows: int, options: Any) -> None:
    ask = Dying("{{ q }}", **{"model": "m", "base_url": base_url, "cache": "answers.sqlite", "name": "ask", **options})
    ask.left = rows
    pipeline = UnifiedPipeline([ask], "jsonl://in.jsonl", "jsonl://out.jsonl", parallel_size=1)
    pipeline.create("job", if_exists="resume").run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3] if len(sys.argv) > 3 else "{}"))
