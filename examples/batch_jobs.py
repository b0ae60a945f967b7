"""Rows as jobs of a batch API, for half the price: sent, left at the provider, and collected by a resume.

The provider here is a fake on this machine, whose clock is moved on by hours. Run it with ``python batch_jobs.py
[DIRECTORY]``; without a directory it works in a temporary one. It needs the extra ``llm``.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import Batch, LLMOperator
from llm_datagen.testing import FakeLLMServer, LLMBatches


def pipeline(base_url: str, *, detach: bool) -> UnifiedPipeline:
    """Return the pipeline. In YAML, the same are the keys under ``with:``."""
    translate = LLMOperator(
        "Translate into French: {{ text }}",
        model="your-model",
        base_url=base_url,
        output="french",
        params={"max_tokens": 50},
        prices={"input": 1.0, "output": 4.0},  # of plain calls; of a model that is known, they need not be said
        batch_api=Batch(max_rows=100, poll_wait=0.1, detach=detach),  # ``batch_api=True`` is enough
    )
    return UnifiedPipeline([translate], "jsonl://texts.jsonl", "jsonl://french.jsonl", results_dir="results")


def main() -> None:
    texts = [{"text": f"This is sentence number {number}."} for number in range(250)]
    Path("texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    provider = LLMBatches(seconds=3600.0, price=(1.0, 4.0))  # a job takes an hour
    with FakeLLMServer(answer="Voilà une phrase.", batches=provider) as server:
        report = pipeline(server.base_url, detach=True).create("french").run()
        print(f"{report.status}: {report.reason}")
        assert report.status == "stopped"
        assert report.rows_out == 0

        server.advance(2 * 3600.0)
        report = pipeline(server.base_url, detach=False).resume("french").run()
        account = server.account()
        print(f"{report.status}: {report.rows_out} rows for ${report.cost:.6f}, in {len(account['jobs'])} jobs")
        assert report.status == "completed"
        assert report.rows_out == 250
        assert report.cost is not None
        assert abs(report.cost - account["dollars"]) < 1e-9, "what the provider bills is what the run says"
        assert set(account["rows"].values()) == {1}, "no row was paid for twice"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
