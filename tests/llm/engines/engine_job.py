"""A run on an engine whose library does what its prompts say. To be stopped, killed, and started again.

Arguments: how many processes load the model. Run in the folder of the test.
"""

from __future__ import annotations

import sys
from pathlib import Path

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import Engine, LLMOperator

from .scripted import KIND


def main(workers: int) -> None:
    engine = Engine(kind=KIND, options={"folder": str(Path.cwd()), "starts": True}, workers=workers)
    operator = LLMOperator("{{ q }}", model="m", engine=engine)
    pipeline = UnifiedPipeline([operator], "jsonl://in.jsonl", "jsonl://out.jsonl", parallel_size=4)
    pipeline.create("job", if_exists="resume").run(progress=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
