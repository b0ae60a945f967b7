"""A function over the lines of a JSONL file: from 1,000 people, the adults, with a greeting each.

Run it with ``python quickstart.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from llm_datagen import Status, UnifiedPipeline


def keep_adults(person: dict[str, Any]) -> dict[str, Any] | None:
    return person if person["age"] >= 18 else None  # None drops the row


def greet(person: dict[str, Any]) -> dict[str, Any]:
    return {**person, "greeting": f"Hello, {person['name']}!"}


def main() -> None:
    ages = [number % 60 for number in range(1000)]
    people = [{"name": f"Person {number}", "age": age} for number, age in enumerate(ages)]
    Path("people.jsonl").write_text("".join(json.dumps(person) + "\n" for person in people), encoding="utf-8")

    pipeline = UnifiedPipeline(
        [keep_adults, greet],
        input_uri="jsonl://people.jsonl",
        output_uri="jsonl://greetings.jsonl",
        streaming=True,  # both steps run at once; rows flow from one to the other
    )
    pipeline.create("quickstart", if_exists="overwrite")  # a new run, also if there is one of this name already
    print(pipeline.describe())
    report = pipeline.run()

    print(f"{report.status}: {report.rows_in} rows in, {report.rows_out} out, {report.filtered} dropped")
    for node in report.nodes:
        print(f"  {node.node_id}: {node.rows_in} in, {node.rows_out} out, {node.seconds} s")
    with Path("greetings.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    print("first row:", rows[0])

    adults = [(number, f"Hello, Person {number}!") for number, age in enumerate(ages) if age >= 18]
    assert report.status == Status.COMPLETED
    assert sorted((row["_i"], row["greeting"]) for row in rows) == adults  # _i is the row's number in the input


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
