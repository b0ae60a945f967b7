"""What the platform log knows of a run: which node limits it, and how often its workers had to wait.

Run it with ``python analyse_log.py [DIRECTORY]``; without a directory it works in a temporary one. On the command line,
``llm-datagen logs [ID] --summary`` says the same.
"""

import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline, logs

LOG = "logs/platform.log"


def clean(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "text": row["text"].strip()}


def ask(row: dict[str, Any]) -> dict[str, Any]:
    time.sleep(0.005)  # a model that takes its time
    return {**row, "answer": len(row["text"])}


def main() -> None:
    rows = [{"text": f" text {number} "} for number in range(200)]
    Path("texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pipeline = UnifiedPipeline(
        [clean, ask], "jsonl://texts.jsonl", "jsonl://answers.jsonl", streaming=True, parallel_size=4, log_file=LOG
    )
    pipeline.create("answers", if_exists="overwrite").run()

    print(Counter(event.event for event in logs.read(LOG, pipeline_id="answers")))
    for event in logs.read(LOG, event=["Backpressure", "Stalled", "Row Failed"]):
        print(event.at, event.node_id, event.event, event.fields)

    run = logs.summary(LOG, pipeline_id="answers").runs[-1]  # the last run of it
    for node in run.nodes:
        print(
            f"{node.node_id}: {node.workers} workers for {node.seconds:.2f} s, busy {node.busy_s:.2f} s, "
            f"held back {node.held_back_times} times, waited for rows {node.starved_s:.2f} s"
        )
    print(run.bottleneck)
    assert run.state == "ended"
    assert run.bottleneck.startswith("node_1 limits: ")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
