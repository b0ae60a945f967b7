"""What comes after a run: its rows in Python, and a page that can be sent.

Run it with ``python report_and_rows.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline


def price_in_cents(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "cents": round(100 * float(row["price"]))}  # fails for what is no number


def main() -> None:
    prices = ["1.50", "2.25", "free", "0.10"]
    pipeline = UnifiedPipeline(
        [price_in_cents],
        input=[{"price": price} for price in prices],
        output_uri="jsonl://cents.jsonl",
        ordered=True,
        on_error="dead_letter",
    )
    report = pipeline.create("cents", if_exists="overwrite").run()

    for row in report.rows(ids=True):  # read from the file, one after the other
        print(row)
    assert [row["cents"] for row in report.rows()] == [150, 225, 10]

    # The page for people, and the same as data for a program.
    command = [sys.executable, "-m", "llm_datagen.cli", "report", "cents"]
    subprocess.run([*command, "-o", "cents.html"], check=True)
    made = subprocess.run([*command, "--format", "json"], check=True, capture_output=True)
    data = json.loads(made.stdout)
    (node,) = data["nodes"]
    print(f"{node['node_id']}: {node['account']['kept']} kept, {node['account']['dead_letters']} failed")

    assert "default-src 'none'" in Path("cents.html").read_text(encoding="utf-8")  # it loads nothing
    assert (node["account"]["source_rows"], node["account"]["kept"], node["account"]["dead_letters"]) == (4, 3, 1)
    assert data["totals"]["findings"] == 0
    assert json.loads(data["failures"][0]["input"])["price"] == "free"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
