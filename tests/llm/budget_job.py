"""A pipeline with a budget in a process of its own. Arguments: the endpoint, and the cap in US dollars."""

from __future__ import annotations

import sys

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator

from .till import PRICES


def main(base_url: str, usd: float) -> None:
    ask = LLMOperator(
        "{{ q }}",
        model="m",
        base_url=base_url,
        params={"max_tokens": 20},
        prices=PRICES,
        budget={"usd": usd},
        retry_wait=0.01,
        name="ask",
    )
    pipeline = UnifiedPipeline([ask], "jsonl://in.jsonl", "jsonl://out.jsonl", parallel_size=50)
    report = pipeline.create("job", if_exists="resume").run()
    print(report.status, report.reason)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
