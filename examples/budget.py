"""What the calls of a run cost; a budget that ends it; the resume with a higher one.

The model here is a fake on this machine. Run it with ``python budget.py [DIRECTORY]``; without a directory it works in
a temporary one. It needs the extra ``llm``: ``pip install 'llm-datagen[llm]'``.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.testing import FakeLLMServer


def pipeline(base_url: str, usd: float) -> UnifiedPipeline:
    """Return the pipeline with a budget. In YAML, the same are the keys under ``with:``."""
    translate = LLMOperator(
        "Translate into French: {{ text }}",
        model="your-model",
        base_url=base_url,
        output="french",
        params={"max_tokens": 50},  # a budget needs it: what a call can cost must be known before it is made
        prices={"input": 1.0, "output": 4.0},  # of a model that is known, they need not be said
        budget={"usd": usd},
    )
    return UnifiedPipeline([translate], "jsonl://texts.jsonl", "jsonl://french.jsonl", parallel_size=20)


def main() -> None:
    texts = [{"text": f"This is sentence number {number}."} for number in range(200)]
    Path("texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    with FakeLLMServer(answer="Voilà une phrase.", latency=0.01) as server:
        report = pipeline(server.base_url, usd=0.003).create("french").run()
        print(f"{report.status}: {report.reason}")
        print(f"{report.rows_out} rows for ${report.cost:.6f}")
        assert report.status == "stopped"
        assert report.cost is not None
        assert report.cost <= 0.003

        report = pipeline(server.base_url, usd=1.0).resume("french").run()
        print(f"{report.status}: {report.rows_out} rows for ${report.cost:.6f}")
        assert report.status == "completed"
        assert report.rows_out == 200
        assert sum(server.answered.values()) == 200, "no row was paid for twice"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
