"""Passages for questions: the nearest by their vectors, put in order by a reranker, and a judge for the answers.

The models here are fakes on this machine. Run it with ``python embed_rerank_judge.py [DIRECTORY]``; without a directory
it works in a temporary one. It needs the extra ``llm``: ``pip install 'llm-datagen[llm]'``.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, INodeContext, UnifiedPipeline
from llm_datagen.llm import Embed, Judge, LLMOperator, Rerank
from llm_datagen.testing import FakeLLMServer

PASSAGES = [
    "Bees make honey of nectar and store it in combs.",
    "A glacier is a river of ice that flows downhill very slowly.",
    "Honey keeps for years, as bees take nearly all water out of it.",
    "Tides come from the pull of the moon.",
    "Ice flows faster in the middle of a glacier than at its sides.",
]
QUESTIONS = ["How do bees make honey?", "Why is the ice of a glacier slow?"]


class Nearest(BaseOperator):
    """Adds the passages whose vectors are nearest to that of the question."""

    def __init__(self, passages: list[dict[str, Any]], n: int) -> None:
        self.passages = passages
        self.n = n

    def process_item(self, item: Any, ctx: INodeContext) -> dict[str, Any]:
        """Return the question with its passages: vectors of length 1, so their product is the cosine."""

        def nearness(passage: dict[str, Any]) -> float:
            pairs = zip(passage["embedding"], item["embedding"], strict=True)
            return float(sum(one * other for one, other in pairs))

        best = sorted(self.passages, key=nearness, reverse=True)[: self.n]
        return {"text": item["text"], "passages": [passage["text"] for passage in best]}


def rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a file."""
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def run(name: str, texts: list[str], operators: list[Any]) -> list[dict[str, Any]]:
    """Run a pipeline over texts, and return its rows."""
    Path(f"{name}_in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    uris = f"jsonl://{name}_in.jsonl", f"jsonl://{name}.jsonl"
    UnifiedPipeline(operators, *uris, streaming=True, ordered=True, parallel_size=128).create(
        name, if_exists="overwrite"
    ).run()
    return rows(f"{name}.jsonl")


def embed(base_url: str) -> Embed:
    """Return what gives passages and questions vectors of the same model."""
    return Embed("{{ text }}", model="embedder", base_url=base_url, normalize=True, cache="vectors.sqlite")


def main() -> None:
    with FakeLLMServer(dimensions=256) as server:
        url = server.base_url
        passages = run("passages", PASSAGES, [embed(url)])
        answered = run(
            "questions",
            QUESTIONS,
            [
                embed(url),
                Nearest(passages, n=3),
                Rerank("{{ text }}", documents="passages", top_n=2, model="reranker", base_url=url),
                LLMOperator("{{ ranked | join('\n') }}\n\n{{ text }}", model="writer", base_url=url),
                Judge(
                    "Sources: {{ ranked | join(' ') }}\nQuestion: {{ text }}\nAnswer: {{ answer }}",
                    rubric={"truth": "Do the sources say so?", "help": "Does it answer the question?"},
                    judges=[{"model": "judge-1"}, {"model": "judge-2"}],
                    base_url=url,
                ),
            ],
        )
    for row in answered:
        print(f"{row['text']} {row['ranked']} score {row['score']}, agreement {row['agreement']}")
        assert 1 <= row["score"] <= 5
    assert "honey" in answered[0]["ranked"][0]
    assert "glacier" in answered[1]["ranked"][0]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
