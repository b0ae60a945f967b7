"""The three stages of the demo: clean a definition, let a model ask and answer, filter bad answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from llm_datagen.llm import Engine, LLMOperator
from llm_datagen.llm.engines.embedded import MODEL
from llm_datagen.operators import BaseOperator, INodeContext, Row

_QUOTED = re.compile(r'"[^"]*(?:"(?:\s*-\s*[\w .]+)?|$)')
_ASIDE = re.compile(r"\s*\([^()]*\)")

QUESTION_CHARS = 90
ANSWER_CHARS = 150
MAX_TOKENS = 400
"""More than the longest answer that the schema allows needs, so that none is cut off."""

ANSWER_SCHEMA = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "minLength": 10, "maxLength": QUESTION_CHARS},
        "answer": {"type": "string", "minLength": 3, "maxLength": ANSWER_CHARS},
    },
    "required": ["question", "answer"],
    "additionalProperties": False,
    # Else the model may put any number of spaces between the parts of the answer, up to the token limit.
    "x-guidance": {"whitespace_flexible": False},
}

SYSTEM = "Ask a question about the text, and answer it with the words of the text only."
EXAMPLES = (
    {
        "item": {"text": "A camel is a large animal with one or two humps that lives in the desert."},
        "answer": {"question": "Where does a camel live?", "answer": "A camel lives in the desert."},
    },
    {
        "item": {"text": "An umbrella is a folding canopy carried in the hand to keep off rain."},
        "answer": {
            "question": "What is an umbrella?",
            "answer": "An umbrella is a folding canopy carried in the hand to keep off rain.",
        },
    },
)


class CleanDefinition(BaseOperator):
    """Makes a sentence, the column ``text``, of a dictionary entry's ``word`` and ``definition``.

    Quoted examples and asides in parentheses go, white space is put in order. An entry of which nothing is left is
    filtered.
    """

    def process_item(self, item: Row, ctx: INodeContext) -> Row | None:
        """Return the row with a clean ``definition``, and ``text`` added."""
        definition = clean_gloss(item["definition"])
        word = " ".join(item["word"].replace("_", " ").split())
        if not definition or not word:
            return None
        article = "An" if word[0].lower() in "aeiou" else "A"
        return {**item, "definition": definition, "text": f"{article} {word} is {definition}."}


def clean_gloss(gloss: str) -> str:
    """Return a WordNet gloss without its examples and asides."""
    plain = _ASIDE.sub("", _QUOTED.sub("", gloss))
    clauses = (" ".join(clause.split()) for clause in plain.split(";"))
    return "; ".join(clause for clause in clauses if clause).rstrip(".")


def question_writer(weights: Path) -> LLMOperator:
    """Return the stage that asks the model for a ``question`` and an ``answer`` about ``text``.

    Args:
        weights: the model, a GGUF file. Where it is is no part of what a resume checks.
    """
    return LLMOperator(
        "{{ text }}",
        name="WriteQuestion",
        model=MODEL,
        # More threads are faster on an idle machine and far slower on a busy one.
        engine=Engine(kind="llama", path=str(weights), batch_size=4, context=1024, threads=1),
        system=SYSTEM,
        examples=EXAMPLES,
        output=ANSWER_SCHEMA,
        params={"temperature": 0, "seed": 1, "max_tokens": MAX_TOKENS},
        timeout=600.0,
    )


class JudgeAnswer(BaseOperator):
    """Keeps the rows whose answer holds, and filters the others; says which rule a row broke in the log.

    The rules are simple and are wrong now and then: they look at words, not at what is true.

    Args:
        grounded: the share of the answer's words that must come from the definition, from 0 to 1.
    """

    def __init__(self, grounded: float = 0.65) -> None:
        self.grounded = grounded

    def process_item(self, item: Row, ctx: INodeContext) -> Row | None:
        """Return the row, or None when it breaks a rule."""
        fault = self.fault(item)
        if fault is None:
            return item
        ctx.log("answer dropped", row=item.get("_i"), rule=fault)
        return None

    def fault(self, row: Row) -> str | None:
        """Return the rule that the row breaks, or None."""
        question, answer = row["question"].strip(), row["answer"].strip()
        subject, said = _content(row["word"]), _content(answer)
        new = said - subject
        if not question.endswith("?"):
            return "the question ends in a question mark"
        if not subject & _content(question):
            return "the question is about the word"
        if not answer or not new:
            return "the answer says something"
        if answer.rstrip("?.").casefold() == question.rstrip("?.").casefold():
            return "the answer is not the question"
        if not answer.endswith("."):
            return "the answer is a whole sentence"
        if _repeats(answer):
            return "the answer does not go round in circles"
        if len(new & _content(row["definition"])) < self.grounded * len(new):
            return "the answer comes from the definition"
        return None


_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and any are as at be been being but by can for from had has have having in into is it its may more "
        "most not of often on one or some such than that the these this those to type use used usually very was "
        "were what which who whose with without",
    )
)
"""Words that say nothing of their own."""


def _content(text: str) -> set[str]:
    """Return the words that carry the meaning, each cut down to its stem, roughly."""
    return {_stem(word) for word in re.findall(r"[^\W\d_]+", text.lower()) if word not in _COMMON}


def _stem(word: str) -> str:
    for ending in ("ing", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _repeats(text: str) -> bool:
    words = re.findall(r"\w+", text.lower())
    triples: list[Any] = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(triples)) < len(triples)
