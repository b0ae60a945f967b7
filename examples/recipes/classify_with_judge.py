"""Classification with a judge: a call labels a row, a second one checks the label, and what it rejects is left out.

Run it with ``python examples/recipes/classify_with_judge.py``; `endpoint` says where the model is.
classify_with_judge.yaml is the same without a line of Python around it.
"""

from pathlib import Path
from typing import Any

from endpoint import MODEL, endpoint, run

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator

CLASSIFY = "What is this message to a shop about: a refund, a delivery, an account, or something else?\n\n{{ message }}"

JUDGE = """\
A message to a shop was given a label.

Message: {{ message }}
Label: {{ label }}

Is the label right or wrong? First say why, in a few words."""

LABEL = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["refund", "delivery", "account", "other"]}},
    "required": ["label"],
    "additionalProperties": False,
}
VERDICT = {
    "type": "object",
    "properties": {
        "why": {"type": "string", "maxLength": 60},
        "verdict": {"type": "string", "enum": ["right", "wrong"]},
    },
    "required": ["why", "verdict"],
    "additionalProperties": False,
}


def confirmed(row: dict[str, Any]) -> dict[str, Any] | None:
    """Keep what the judge confirms."""
    return row if row["verdict"] == "right" else None


def pipeline() -> UnifiedPipeline:
    params = {"temperature": 0, "max_tokens": 100}
    classify = LLMOperator(CLASSIFY, model=MODEL, output=LABEL, params=params, name="classify")
    judge = LLMOperator(JUDGE, model=MODEL, output=VERDICT, params=params, name="judge")
    return UnifiedPipeline(
        [classify, judge, confirmed],
        f"jsonl://{Path(__file__).parent}/data/messages.jsonl",
        "jsonl://tmp/recipes/classify_with_judge.jsonl",
        streaming=True,
        parallel_size=8,
        on_error="dead_letter",
    )


if __name__ == "__main__":
    with endpoint():
        run(pipeline(), "classify_with_judge")
