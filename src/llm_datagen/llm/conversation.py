"""The messages of a request: what the model is told about a row, as chat completions have it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.llm.errors import LLMError
from llm_datagen.llm.prompts import Prompt
from llm_datagen.llm.schemas import AnswerFormat

Message = Mapping[str, Any]
"""One message: ``role`` and ``content``."""


class Conversation:
    """Makes the messages of a row: the system message, the solved examples, the prompt.

    Args:
        prompt: the template of the user's message.
        system: the template of the system message; None sends none.
        examples: solved rows, ``{"item": …, "answer": …}`` each.
        answers: what the answers of `examples` must look like.

    Raises:
        ConfigError: when a template or an example cannot be used.
    """

    def __init__(
        self,
        prompt: str,
        *,
        system: str | None = None,
        examples: Sequence[Mapping[str, Any]] = (),
        answers: AnswerFormat,
    ) -> None:
        self._prompt = Prompt(prompt)
        self._system = None if system is None else Prompt(system, label="system message")
        self._examples = [message for example in examples for message in self._example(example, answers)]

    def messages(self, item: Any) -> list[Message]:
        """Return the messages of `item`.

        Raises:
            PromptError: when they cannot be made of this row.
        """
        messages = [*self._examples, _message("user", self._prompt.render(item))]
        if self._system is not None:
            messages.insert(0, _message("system", self._system.render(item)))
        return messages

    def _example(self, example: Mapping[str, Any], answers: AnswerFormat) -> list[Message]:
        if not isinstance(example, Mapping) or set(example) != {"item", "answer"}:
            raise ConfigError(f"an example must be a dict of 'item' and 'answer', not {example!r}")
        answer = example["answer"]
        text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        try:
            answers.parse(text)
            return [_message("user", self._prompt.render(example["item"])), _message("assistant", text)]
        except (ValueError, LLMError) as error:
            raise ConfigError(f"the example {example!r} does not fit the operator: {error}") from error


def repair(text: str, problem: ValueError) -> list[Message]:
    """Return the messages that ask for a better answer than `text`."""
    ask = _message(
        "user", f"This answer cannot be used: {problem}. Answer again, with nothing but the corrected answer."
    )
    # Endpoints refuse a message without content.
    return [_message("assistant", text), ask] if text.strip() else [ask]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
