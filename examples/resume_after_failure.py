"""A run fails at a row that the operator cannot take; the mended operator goes on where it stopped.

Run it with ``python resume_after_failure.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, INodeContext, NodeFailedError, UnifiedPipeline


class PricePerUnit(BaseOperator):
    """Divides the price by the amount; the first version forgets that the amount may be 0."""

    stateful = True  # the list of calls is for this example; the rows do not depend on it

    def __init__(self, *, is_mended: bool) -> None:
        self.is_mended = is_mended
        self.calls: list[int] = []  # the rows that it was called with

    def process_item(self, item: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
        self.calls.append(item["_i"])
        time.sleep(0.005)  # a slow operator, such as a call to a model
        if self.is_mended and not item["amount"]:
            return {**item, "per_unit": None}
        return {**item, "per_unit": item["price"] / item["amount"]}


def pipeline_with(operator: PricePerUnit) -> UnifiedPipeline:
    return UnifiedPipeline([operator], "jsonl://orders.jsonl", "jsonl://prices.jsonl", parallel_size=8)


def main() -> None:
    orders = [{"price": 12, "amount": 0 if number == 300 else 4} for number in range(500)]
    Path("orders.jsonl").write_text("".join(json.dumps(order) + "\n" for order in orders), encoding="utf-8")

    first, mended = PricePerUnit(is_mended=False), PricePerUnit(is_mended=True)
    try:
        pipeline_with(first).create("prices", if_exists="overwrite").run()
    except NodeFailedError as error:
        print(error)
        print("the cause:", repr(error.__cause__))
    else:
        raise AssertionError("the run should have failed")

    # Paths and settings are those of the run. The code is new, and that is meant: rows that are done stay as they are.
    pipeline = pipeline_with(mended).resume("prices", on_change="accept")
    print("saved before the failure:", pipeline.progress[0].rows_in, "rows")
    report = pipeline.run()

    repeated = sorted(set(first.calls) & set(mended.calls))
    print(f"{len(first.calls)} calls, then {len(mended.calls)}; done twice: rows {repeated}")
    with Path("prices.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert report.status == "completed"
    assert sorted(row["_i"] for row in rows) == list(range(500))  # none is missing, none is there twice
    assert repeated == [300]  # calls that were under way when row 300 failed were ended and saved


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
