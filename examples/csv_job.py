"""A CSV file in, a CSV file out: addresses are cleaned, unusable ones are dropped, and hooks show how it goes.

Run it with ``python csv_job.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import contextlib
import csv
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, DefaultPipelineHooks, INodeContext, UnifiedPipeline


class CleanAddress(BaseOperator):
    """Puts name and e-mail address in order, and drops rows without a usable address."""

    def process_item(self, item: dict[str, Any], ctx: INodeContext) -> dict[str, Any] | None:
        email = item["email"].strip().lower()
        if email.count("@") != 1:
            return None
        # The first row written decides the columns, so every row has the same.
        return {"name": " ".join(item["name"].split()).title(), "email": email, "age": int(item["age"])}


class ShowProgress(DefaultPipelineHooks):
    def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Mapping[str, Any]) -> None:
        print(f"{nid}: {curr} of {total or '?'} rows are done, {meta['filtered']} dropped")

    def on_pipeline_end(self, cid: str, success: bool, error: BaseException | None) -> None:
        print(f"{cid}: {'completed' if success else f'not completed ({error})'}")


def main() -> None:
    with Path("raw.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "email", "age"])
        for number in range(5000):
            address = f" User{number}@Example.org" if number % 5 else "unknown"
            writer.writerow([f'ada   "the {number}th", countess', address, number % 90])

    pipeline = UnifiedPipeline(
        [CleanAddress()],
        input_uri="csv://raw.csv",
        output_uri="csv://clean.csv",
        parallel_size=os.cpu_count() or 1,
        ordered=True,  # rows leave in the order of the input
        hooks=ShowProgress(),
    )
    report = pipeline.create("csv-job", if_exists="overwrite").run()

    with Path("clean.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    print("first row:", rows[0])
    assert (report.rows_in, report.rows_out, report.filtered) == (5000, 4000, 1000)
    assert [int(row["_i"]) for row in rows] == [number for number in range(5000) if number % 5]
    assert (rows[0]["name"], rows[0]["email"]) == ('Ada "The 1Th", Countess', "user1@example.org")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
