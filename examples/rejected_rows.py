"""An operator says why it leaves rows out; they are kept beside its output, and counted by the reason.

Run it with ``python rejected_rows.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import contextlib
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from llm_datagen import INodeContext, UnifiedPipeline

Row = dict[str, Any]


def judged(row: Row, ctx: INodeContext) -> Row:
    if row["score"] < 3:
        ctx.reject("score below 3")
    if len(row["answer"]) > 40:
        ctx.reject("answer too long")
    return row


def main() -> None:
    answers = [{"answer": "word " * (number % 12), "score": number % 6} for number in range(600)]
    Path("answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")

    pipeline = UnifiedPipeline(
        [judged], "jsonl://answers.jsonl", "jsonl://good.jsonl", parallel_size=4, keep_rejected=True
    )
    report = pipeline.create("good", if_exists="overwrite").run()
    assert (report.rows_out, report.filtered, report.rejected) == (150, 450, 450)

    rejected = [json.loads(line) for line in Path("good.jsonl.rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    reasons = Counter(row["reason"] for row in rejected)
    print(reasons)
    assert reasons == {"score below 3": 300, "answer too long": 150}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
