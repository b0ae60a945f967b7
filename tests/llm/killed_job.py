"""Two stages of calls, streaming, of which the second keeps a cache. To be killed, and started again.

Arguments: the endpoint, and the calls at once of each stage. Run in the folder of the test.
"""

from __future__ import annotations

import sys

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator


def main(base_url: str, at_once: int) -> None:
    stages = [
        LLMOperator("draft {{ q }}", model="m", base_url=base_url, output="draft", name="plain"),
        LLMOperator("check {{ q }}", model="m", base_url=base_url, output="check", name="kept", cache="answers.sqlite"),
    ]
    pipeline = UnifiedPipeline(
        stages,
        "jsonl://in.jsonl",
        "jsonl://out.jsonl",
        streaming=True,
        parallel_size=at_once,
        writer_config={"queue_size": at_once},
    )
    pipeline.create("job", if_exists="resume").run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
