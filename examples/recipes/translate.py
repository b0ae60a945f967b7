"""Translation: a call translates a sentence, and what cannot be a translation is left out.

Run it with ``python examples/recipes/translate.py``; `endpoint` says where the model is. translate.yaml is the same
without a line of Python around it.
"""

from pathlib import Path
from typing import Any

from endpoint import MODEL, endpoint, run

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator

PROMPT = "{{ text }}"
SYSTEM = "Translate what you are told into {{ language }}. Say nothing but the translation."


def plausible(row: dict[str, Any], shortest: float = 0.4, longest: float = 2.5) -> dict[str, Any] | None:
    """Keep a translation that is not the text again, and not much shorter or longer: part of it, or a chat about it.

    Args:
        row: with ``text`` and ``translation``.
        shortest: how long a translation must be at least, by the length of the text.
        longest: how long it may be at most.
    """
    text, translation = row["text"].strip(), row["translation"].strip()
    is_copy = text.casefold() == translation.casefold()
    return None if is_copy or not shortest <= len(translation) / len(text) <= longest else row


def pipeline() -> UnifiedPipeline:
    translate = LLMOperator(
        PROMPT,
        system=SYSTEM,
        model=MODEL,
        output="translation",
        params={"temperature": 0, "max_tokens": 200, "frequency_penalty": 0.5},
        name="translate",
    )
    return UnifiedPipeline(
        [translate, plausible],
        f"jsonl://{Path(__file__).parent}/data/sentences.jsonl",
        "jsonl://tmp/recipes/translate.jsonl",
        streaming=True,
        parallel_size=8,
        on_error="dead_letter",
    )


if __name__ == "__main__":
    with endpoint():
        run(pipeline(), "translate")
