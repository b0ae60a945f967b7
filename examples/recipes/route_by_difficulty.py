"""A graph: a small model says how hard a question is, an easy one is answered by it, a hard one by a larger model.

Run it with ``python examples/recipes/route_by_difficulty.py``; `endpoint` says where the model is.
route_by_difficulty.yaml is the same without a line of Python around it.
"""

from pathlib import Path
from typing import Any

from endpoint import MODEL, endpoint, run

from llm_datagen import UnifiedNode, UnifiedNodePipeline, ops
from llm_datagen.llm import LLMOperator

LARGE = "gpt-4o"
LEVEL = {
    "type": "object",
    "properties": {"level": {"type": "string", "enum": ["easy", "hard"]}},
    "required": ["level"],
    "additionalProperties": False,
}


def ask(name: str, prompt: str, *, model: str = MODEL, output: Any = "answer", **params: Any) -> LLMOperator:
    return LLMOperator(prompt, model=model, output=output, params=params, name=name)


def nodes(run_id: str) -> list[UnifiedNode]:
    """Return the nodes; the streams between them lie in a folder of the run."""

    def between(name: str) -> str:
        return f"jsonl://tmp/{run_id}/{name}.jsonl"

    def node(name: str, operator: Any, parallel_size: int = 8, **settings: Any) -> UnifiedNode:
        return UnifiedNode(name, parallel_size, on_error="dead_letter", **settings).set_operator(operator)

    judge = ask(
        "judge", "How hard is this question to answer well? {{ question }}", output=LEVEL, temperature=0, max_tokens=100
    )
    short = ask("short", "{{ question }} Answer in one sentence.", max_tokens=100)
    long = ask("long", "{{ question }} Explain it in two or three sentences.", model=LARGE, max_tokens=400)
    levels = {level: between(f"judge.{level}") for level in ("easy", "hard")}
    answers = {"short": between("short"), "long": between("long")}
    return [
        node("judge", judge, follow_input=False).bind_io(
            f"jsonl://{Path(__file__).parent}/data/questions.jsonl", levels, route=ops.RouteBy("level")
        ),
        node("short", short).bind_io(levels["easy"], answers["short"]),
        node("long", long, parallel_size=4).bind_io(levels["hard"], answers["long"]),
        node("answers", ops.Select(["question", "level", "answer"])).bind_io(
            answers, "jsonl://tmp/recipes/route_by_difficulty.jsonl"
        ),
    ]


def pipeline() -> UnifiedNodePipeline:
    return UnifiedNodePipeline(nodes)


if __name__ == "__main__":
    with endpoint():
        run(pipeline(), "route_by_difficulty")
