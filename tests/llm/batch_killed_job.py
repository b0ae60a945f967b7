"""A pipeline whose rows are jobs of a batch API, in a process of its own that a test kills.

Arguments: the adapter, the base URL of its endpoint, the rows of a job, and "detach" or "stay". Run in the folder of
the test.
"""

from __future__ import annotations

import sys

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.llm.batch import node_jobs


def main(adapter: str, base_url: str, max_rows: int, way: str) -> None:
    node_jobs.TICK_SECONDS, node_jobs.QUIET_SECONDS = 0.01, 0.05
    batch = {"max_rows": max_rows, "max_wait": 0.2, "poll_wait": 0.1, "late_s": 0.6, "detach": way == "detach"}
    stages = [
        LLMOperator(
            prompt,
            model="m",
            adapter=adapter,
            base_url=base_url,
            api_key="k",
            output=f"a{number}",
            params={"max_tokens": 40},
            prices={"input": 1.0, "output": 2.0},
            budget={"usd": 1.0},
            max_retries=20,
            retry_wait=0.01,
            name=f"ask{number}",
            batch_api=batch,
        )
        for number, prompt in enumerate(("first {{ q }}", "second {{ a0 }}"))
    ]
    pipeline = UnifiedPipeline(
        stages,
        "jsonl://in.jsonl",
        "jsonl://out.jsonl",
        base_path="between",
        results_dir="results",
        parallel_size=40,
        on_error="dead_letter",
    )
    report = pipeline.create("job", if_exists="resume").run(progress=False)
    sys.exit(0 if report.status == "completed" else 5)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
