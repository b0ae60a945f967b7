"""Clean a dataset: filter it, remove duplicates, keep the best answer to each question, shuffle, split, shape.

    python examples/clean_a_dataset.py

The rows are made here, so that it runs anywhere. Each step is an operator of `llm_datagen.ops`; in a YAML file they are
written ``use: ops.Keep`` and so on.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from llm_datagen import UnifiedPipeline, ops

FOLDER = Path("tmp/clean_a_dataset")
ANSWERS = [("A bird.", 3), ("It is a bird, with wings.", 5), ("a  BIRD.", 2), ("No idea", 1)]


def main() -> None:
    """Make a small dataset, clean it, and show what is left."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "question": f"What is number {number}?",
            "answer": answer,
            "score": score,
            "lang": "en" if number % 5 else "xx",
        }
        for number in range(50)
        for answer, score in ANSWERS
    ]
    (FOLDER / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    report = (
        UnifiedPipeline(
            [
                ops.Keep("lang == 'en' and score > 1 and len(answer) > 3"),
                ops.Dedupe(["question", "answer"], normalize=["lower", "whitespace"]),
                ops.Best(1, by="score", of="question"),
                ops.Shuffle(seed=7),
                ops.Split({"train": 0.9, "test": 0.1}),
                ops.ToChat(user="question", assistant="answer", keep=["split"]),
            ],
            f"jsonl://{FOLDER}/raw.jsonl",
            f"jsonl://{FOLDER}/clean.jsonl",
            results_dir=FOLDER / "results",
            base_path=FOLDER / "between",
        )
        .create("clean", if_exists="overwrite")
        .run(progress=False)
    )
    clean = [json.loads(line) for line in (FOLDER / "clean.jsonl").read_text(encoding="utf-8").splitlines()]
    parts = dict(sorted(Counter(row["split"] for row in clean).items()))
    print(f"{report.rows_in} rows in, {len(clean)} conversations: {parts}")
    print(json.dumps(clean[0]["messages"]))


if __name__ == "__main__":
    main()
