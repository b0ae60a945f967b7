"""Vectors of all rows, with a cache. To be killed, and started again. Argument: the endpoint."""

from __future__ import annotations

import sys

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import Embed


def main(base_url: str) -> None:
    embed = Embed("{{ t }}", model="m", base_url=base_url, texts_per_request=8, cache="vectors.sqlite")
    pipeline = UnifiedPipeline(
        [embed], "jsonl://in.jsonl", "jsonl://out.jsonl", parallel_size=32, writer_config={"queue_size": 32}
    )
    pipeline.create("job", if_exists="resume").run()


if __name__ == "__main__":
    main(sys.argv[1])
