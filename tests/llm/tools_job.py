"""One stage with tools and a cache, to be killed and started again in the folder of a test. Argument: the endpoint."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator


def shelf(book: str) -> str:
    """Tells where a book stands.

    Args:
        book: its title.
    """
    with Path("looked_up").open("a") as file:
        file.write(f"{book}\n")
    return f"shelf of {book}"


def reserve(shelf: str) -> str:
    """Reserves what stands there."""
    with Path("reserved").open("a") as file:
        file.write(f"{shelf}\n")
    while Path("hold").exists():
        time.sleep(0.005)
    return "reserved"


def main(base_url: str) -> None:
    ask = LLMOperator(
        "{{ q }}", model="m", base_url=base_url, tools=[shelf, reserve], cache="answers.sqlite", name="librarian"
    )
    pipeline = UnifiedPipeline([ask], "jsonl://in.jsonl", "jsonl://out.jsonl", parallel_size=4)
    pipeline.create("job", if_exists="resume").run()


if __name__ == "__main__":
    main(sys.argv[1])
