"""Exactly so many good rows: the run ends when they are there, and goes on when more are wanted.

Run it with ``python exactly_n_rows.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from llm_datagen import Generate, UnifiedPipeline, ops

Row = dict[str, Any]


def score(row: Row) -> Row:  # in your program, a model is asked
    return {**row, "score": (row["a"] * row["b"]) % 6}


def rows_in(path: str) -> int:
    return len(Path(path).read_text(encoding="utf-8").splitlines())


def main() -> None:
    pipeline = UnifiedPipeline(
        [score, ops.Keep("score >= 4")],
        output_uri="jsonl://good.jsonl",
        input=Generate({"a": list(range(10)), "b": list(range(10))}, n=5000, seed=1),  # 5,000 tries at most
        streaming=True,
        parallel_size=8,
        target=200,
    )
    report = pipeline.create("good", if_exists="overwrite").run()
    judged = report.nodes[-1]
    print(f"{judged.rows_out} of {judged.rows_in} rows are good; {judged.beyond_target} were looked at in vain")
    assert (report.status, rows_in("good.jsonl")) == ("completed", 200)

    report = pipeline.resume("good", target=300).run()
    assert (report.status, rows_in("good.jsonl")) == ("completed", 300)

    report = pipeline.resume("good", target=100_000).run()  # more than there are
    print(f"warning: {report.warnings[0]}")
    assert (report.status, report.is_short, report.rows_in) == ("completed", True, 5000)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
