"""A folder that `datasets` has saved in, Parquet out; a part of it as compressed lines, too.

    pip install 'llm-datagen[parquet]'
    python examples/datasets_and_parquet.py

`make_folder` stands for ``datasets.Dataset.save_to_disk("reviews")``, so that the library itself is not needed.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llm_datagen import UnifiedPipeline


def make_folder(folder: Path) -> None:
    """Save two Arrow files, and what names them."""
    folder.mkdir()
    names = []
    for number, texts in enumerate((["good", "bad"], ["so so"])):
        names.append(f"data-{number:05}-of-00002.arrow")
        table = pa.table({"text": texts, "stars": [len(text) for text in texts]})
        with pa.ipc.new_stream(folder / names[-1], table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))


def louder(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with its text in capitals."""
    return {**row, "text": row["text"].upper()}


def main() -> None:
    """Make the folder, and run."""
    make_folder(Path("reviews"))
    report = UnifiedPipeline([louder], "reviews", "loud.parquet", also=["loud.jsonl.gz"]).create("loud").run()
    rows = pq.read_table("loud.parquet", use_threads=False).to_pylist()
    print(report.status, [row["text"] for row in rows])
    assert sorted(row["text"] for row in rows) == ["BAD", "GOOD", "SO SO"]


if __name__ == "__main__":
    main()
