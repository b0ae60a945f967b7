"""Two runs of version 0.1, killed when they had done some rows: `killed.tar.gz` is what they left.

``python job.py record`` made ``calls.jsonl``, ``python job.py line die`` and ``python job.py graph die`` the rest.
``python job.py line`` goes on, without a network: the calls of the model are played.
"""

import itertools
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, Route, UnifiedNode, UnifiedNodePipeline, UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.testing import FakeLLMServer, cassette

CALLS = itertools.count()
WRITER = {"flush_batch_size": 10, "flush_interval": 0.02, "fsync": "never"}


class Words(BaseOperator):
    """Make two rows of each; some fail, some have none."""

    def __init__(self, bad: int) -> None:
        self.bad = bad

    def process_item(self, item: dict[str, Any], ctx: Any) -> list[dict[str, Any]]:
        if item["n"] % self.bad == 0:
            raise ValueError(f"{item['n']} is bad")
        return [{**item, "word": f"{item['text']} {part}"} for part in range(item["n"] % 3)]


class Upper(BaseOperator):
    """Work on batches, in worker processes."""

    def process_batch(self, items: Any, ctx: Any) -> list[dict[str, Any]]:
        return [{**item, "word": item["word"].upper()} for item in items]


def end_here(item: dict[str, Any]) -> dict[str, Any]:
    if "die" in sys.argv:
        time.sleep(0.01)
        if next(CALLS) == 60:
            os.kill(os.getpid(), signal.SIGKILL)
    return item


def route(item: dict[str, Any]) -> Route:
    return Route("odd" if item["n"] % 2 else "even", item)


def half(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "half": int(item["n"]) / 2}


def pipeline() -> UnifiedPipeline:
    judge = LLMOperator(
        "How long is {{ word }}?",
        model="tiny",
        output={
            "type": "object",
            "properties": {"long": {"type": "string"}},
            "required": ["long"],
            "additionalProperties": False,
        },
        params={"max_tokens": 50},
        prices={"input": 1.0, "output": 2.0},
        budget={"tokens": 1_000_000},
        cache="answers.sqlite",
    )
    return UnifiedPipeline(
        [Words(7), Upper(), judge, end_here],
        "jsonl://in.jsonl",
        "csv://out.csv",
        results_dir="runs",
        on_error="dead_letter",
        id_scheme="text",
        id_column="id",
        streaming=True,
        writer_config=WRITER,
    )


def graph() -> UnifiedNodePipeline:
    def node(name: str, sources: Any, outputs: Any, operator: Any, **settings: Any) -> UnifiedNode:
        made = UnifiedNode(name, writer_config=WRITER, **settings)
        return made.bind_io(sources, outputs).set_operator(operator)

    outputs = {"even": "jsonl://even.jsonl", "odd": "jsonl://odd.jsonl"}
    return UnifiedNodePipeline(
        [
            node("split", "jsonl://in.jsonl", outputs, route, follow_input=False),
            node("halve", "jsonl://even.jsonl", "csv://halves.csv", half),
            node("merge", {"odd": "jsonl://odd.jsonl", "even": "csv://halves.csv"}, "jsonl://merged.jsonl", end_here),
        ],
        results_dir="runs",
        log_file="graph.log",
    )


def run(name: str) -> None:
    if Path("runs", name).exists():
        {"line": pipeline, "graph": graph}[name]().resume(name).run()
    elif name == "line":
        in_batches = {"batch_size": 5, "executor": "process"}
        pipeline().create(name, node_configs=[None, in_batches, {"parallel_size": 4}, None]).run()
    else:
        graph().create(name).run()


if __name__ == "__main__":
    if "record" in sys.argv:
        with FakeLLMServer() as server, cassette("calls.jsonl", record_mode="all"):
            os.environ["OPENAI_BASE_URL"] = server.base_url
            run("line")
    else:
        os.environ["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1"
        with cassette("calls.jsonl"):
            run(sys.argv[1])
