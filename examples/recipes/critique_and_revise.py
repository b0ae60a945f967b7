"""Critique and revise: a first answer, what is wrong with it, and a better one. Three calls per row.

Run it with ``python examples/recipes/critique_and_revise.py``; `endpoint` says where the model is.
critique_and_revise.yaml is the same without a line of Python around it.
"""

from pathlib import Path

from endpoint import MODEL, endpoint, run

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator

DRAFT = "{{ question }} Answer in two or three sentences."

CRITIQUE = """\
Question: {{ question }}
Answer: {{ draft }}

What is wrong, missing or unclear in this answer? Name up to three problems, then give it a score from 1 (useless) to 5
(nothing to mend)."""

REVISE = """\
Question: {{ question }}
Answer: {{ draft }}
{% for problem in problems %}
Problem {{ loop.index }}: {{ problem }}
{%- endfor %}

Write the answer again, without these problems, in two or three sentences."""

PROBLEMS = {
    "type": "object",
    "properties": {
        "problems": {"type": "array", "items": {"type": "string", "maxLength": 120}, "maxItems": 3},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["problems", "score"],
    "additionalProperties": False,
}


def pipeline() -> UnifiedPipeline:
    params = {"temperature": 0, "max_tokens": 400, "frequency_penalty": 0.5}
    return UnifiedPipeline(
        [
            LLMOperator(DRAFT, model=MODEL, output="draft", params=params, name="draft"),
            LLMOperator(CRITIQUE, model=MODEL, output=PROBLEMS, params=params, name="critique"),
            LLMOperator(REVISE, model=MODEL, output="answer", params=params, name="revise"),
        ],
        f"jsonl://{Path(__file__).parent}/data/questions.jsonl",
        "jsonl://tmp/recipes/critique_and_revise.jsonl",
        streaming=True,
        parallel_size=8,
        on_error="dead_letter",
    )


if __name__ == "__main__":
    with endpoint():
        run(pipeline(), "critique_and_revise")
