"""A small pipeline, as a user's script: ``first_row.py INPUT FOLDER``. When is its first row on disk?"""

import sys
import time
from typing import Any

from llm_datagen import UnifiedPipeline


def think(item: Any) -> Any:
    time.sleep(0.02)
    return item


if __name__ == "__main__":
    given, folder = sys.argv[1:]
    UnifiedPipeline(
        [think],
        f"jsonl://{given}",
        f"jsonl://{folder}/out.jsonl",
        base_path=folder,
        results_dir=f"{folder}/results",
        log_file=f"{folder}/platform.log",
    ).run()
