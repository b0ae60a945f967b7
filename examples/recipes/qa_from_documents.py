"""Questions and answers from documents: a call makes several pairs of a document, each becomes a row of its own.

Run it with ``python examples/recipes/qa_from_documents.py``; `endpoint` says where the model is. qa_from_documents.yaml
is the same without a line of Python around it.
"""

from pathlib import Path
from typing import Any

from endpoint import MODEL, endpoint, run

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator

PROMPT = """\
Write two or three questions that the text answers, each with its answer. Use nothing but what the text says.

{{ text }}"""

PAIR = {
    "type": "object",
    "properties": {"question": {"type": "string", "maxLength": 100}, "answer": {"type": "string", "maxLength": 200}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}
PAIRS = {
    "type": "object",
    "properties": {"pairs": {"type": "array", "items": PAIR, "minItems": 2, "maxItems": 3}},
    "required": ["pairs"],
    "additionalProperties": False,
}

EXAMPLE = {
    "item": {"text": "A camel stores fat in its humps, not water. It can drink a hundred litres in ten minutes."},
    "answer": {
        "pairs": [
            {"question": "What does a camel store in its humps?", "answer": "It stores fat in them."},
            {"question": "How much can a camel drink in ten minutes?", "answer": "It can drink a hundred litres."},
        ]
    },
}


def one_row_each(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Make a row of every pair; the same question twice is asked once."""
    by_question = {pair["question"]: pair for pair in row["pairs"]}
    return [{"title": row["title"], **pair} for pair in by_question.values()]


def pipeline() -> UnifiedPipeline:
    params = {"temperature": 0, "max_tokens": 600}
    write_pairs = LLMOperator(PROMPT, model=MODEL, output=PAIRS, examples=[EXAMPLE], params=params)
    return UnifiedPipeline(
        [write_pairs, one_row_each],
        f"jsonl://{Path(__file__).parent}/data/documents.jsonl",
        "jsonl://tmp/recipes/qa_from_documents.jsonl",
        streaming=True,
        parallel_size=8,
        on_error="dead_letter",
    )


if __name__ == "__main__":
    with endpoint():
        run(pipeline(), "qa_from_documents")
