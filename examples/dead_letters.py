"""Rows that an operator cannot take are set aside as dead letters; the mended operator does them in a replay.

Run it with ``python dead_letters.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from llm_datagen import FunctionOperator, UnifiedPipeline

Row = dict[str, Any]


def per_unit(row: Row) -> Row:  # forgets that the amount may be 0
    return {**row, "per_unit": row["price"] / row["amount"]}


def per_unit_mended(row: Row) -> Row:
    return {**row, "per_unit": row["price"] / row["amount"] if row["amount"] else None}


def pipeline_with(operator: FunctionOperator) -> UnifiedPipeline:
    return UnifiedPipeline(
        [operator],
        "jsonl://orders.jsonl",
        "jsonl://prices.jsonl",
        parallel_size=8,
        on_error="dead_letter",
        max_errors=0.1,
    )


def main() -> None:
    orders = [{"price": 12, "amount": number % 100} for number in range(500)]
    Path("orders.jsonl").write_text("".join(json.dumps(order) + "\n" for order in orders), encoding="utf-8")

    first = pipeline_with(FunctionOperator(per_unit, name="per_unit"))
    report = first.create("prices", if_exists="overwrite").run()
    assert (report.status, report.rows_out, report.failed) == ("completed", 495, 5)

    dead_letters = [
        json.loads(line) for line in Path("prices.jsonl.errors.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for dead_letter in dead_letters:
        error = dead_letter["error"]
        print(f"row {dead_letter['_i']}, {dead_letter['input']}: {error['kind']}: {error['text']}")
    assert sorted(dead_letter["_i"] for dead_letter in dead_letters) == [0, 100, 200, 300, 400]

    mended = pipeline_with(FunctionOperator(per_unit_mended, name="per_unit"))  # the same name: the same operator
    report = mended.replay("prices", on_change="accept").run()  # the edit is meant: what is done stays as it is
    assert (report.status, report.rows_out, report.failed) == ("completed", 500, 0)
    ids = sorted(json.loads(line)["_i"] for line in Path("prices.jsonl").read_text(encoding="utf-8").splitlines())
    assert ids == list(range(500))  # with the ids that they would have had at once; no other row was done again
    assert not Path("prices.jsonl.errors.jsonl").exists()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
