"""A pool of endpoints: calls are shared out by weight, one endpoint goes away for a while, and no row fails.

The models here are fakes on this machine. Run it with ``python pool_of_models.py [DIRECTORY]``; without a directory it
works in a temporary one. It needs the extra ``llm``: ``pip install 'llm-datagen[llm]'``.
"""

import contextlib
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.testing import FakeLLMServer


def main() -> None:
    Path("questions.jsonl").write_text("".join(json.dumps({"q": f"What is {k} + {k}?"}) + "\n" for k in range(300)))
    with (
        FakeLLMServer(answer="from gpu1", latency=0.01) as gpu1,
        FakeLLMServer(answer="from gpu2", latency=0.01) as gpu2,
        FakeLLMServer(answer="from elsewhere", latency=0.01) as hosted,
    ):
        gpu2.outage = True  # it answers nothing but HTTP 503: the others take over
        operator = LLMOperator(
            "{{ q }}",
            endpoints=[
                {"model": "small", "base_url": gpu1.base_url, "weight": 3},
                {"model": "small", "base_url": gpu2.base_url, "weight": 3},
                # Another model, which needs other params. For a real one, api_key_env names the variable with its key.
                {"model": "hosted", "base_url": hosted.base_url, "params": {"temperature": 1}, "prices": PRICES},
            ],
            params={"temperature": 0, "max_tokens": 100},
            outage_after=600,
        )
        pipeline = UnifiedPipeline(
            [operator], "jsonl://questions.jsonl", "jsonl://answers.jsonl", parallel_size=10, on_error="dead_letter"
        )
        report = pipeline.create("pool", if_exists="overwrite").run()

    answers = Counter(json.loads(line)["answer"] for line in Path("answers.jsonl").read_text().splitlines())
    print("answers:", dict(answers))
    print("usage:", report.usage)
    assert answers.total() == 300
    assert report.nodes[0].dead_letters == 0
    assert answers["from gpu1"] > 2 * answers["from elsewhere"] > 0
    assert answers["from gpu2"] == 0


PRICES = {"input": 0.15, "output": 0.6}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
