"""Near-duplicates of texts by MinHash, which keeps a core busy: in worker processes, one a core.

Run it with ``python cpu_heavy.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import contextlib
import json
import os
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, INodeContext, UnifiedPipeline


class Signature(BaseOperator):
    """Adds a MinHash signature: texts with many pieces in common have many of its numbers in common."""

    def __init__(self, size: int) -> None:
        self.size = size

    def setup(self) -> None:
        # Called once in each worker process: here a model would be loaded, or a client made.
        self.salts = [zlib.crc32(f"salt {number}".encode()) for number in range(self.size)]

    def process_item(self, item: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
        text = item["text"].lower()
        pieces = [zlib.crc32(text[at : at + 5].encode()) for at in range(len(text) - 4)]
        # What is counted here is counted in this process only; what is reported is summed for the whole run.
        ctx.report_usage({"pieces": len(pieces)})
        signature = [min((piece ^ salt) * 0x9E3779B1 % 2**32 for piece in pieces) for salt in self.salts]
        return {**item, "signature": signature}


def main() -> None:
    topics = ["the cat sat on the mat", "a stream is an append-only log of rows", "every row is there exactly once"]
    with Path("texts.jsonl").open("w", encoding="utf-8") as file:
        for number in range(600):
            print(json.dumps({"text": f"{topics[number % 3]}, it is said, {number}"}), file=file)

    pipeline = UnifiedPipeline(
        [Signature(16)],
        input_uri="jsonl://texts.jsonl",
        output_uri="jsonl://signed.jsonl",
        executor="process",
        parallel_size=min(os.cpu_count() or 1, 4),  # processes, at most
        on_error="dead_letter",  # also for a row that kills its process
        ordered=True,
    )
    report = pipeline.create("signatures", if_exists="overwrite").run()
    print(f"{report.rows_out} rows in {report.seconds} s; {report.usage}")

    rows = [json.loads(line) for line in Path("signed.jsonl").read_text(encoding="utf-8").splitlines()]
    same = [a == b for a, b in zip(rows[0]["signature"], rows[3]["signature"], strict=True)]
    other = [a == b for a, b in zip(rows[0]["signature"], rows[1]["signature"], strict=True)]
    print(f"of 16 numbers, {sum(same)} agree on one topic, {sum(other)} on two")
    assert (report.rows_out, report.failed) == (600, 0)
    assert sum(same) > 8 > sum(other)


# Worker processes do not need this guard; importing this file from elsewhere does.
if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
