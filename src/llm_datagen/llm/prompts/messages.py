"""The messages of a request: what the model is told about a row, as chat completions have it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.llm.errors import LLMError, PromptError
from llm_datagen.llm.prompts.images import Message, digests_of_files, images_of, with_images
from llm_datagen.llm.prompts.prefix import prefix_of
from llm_datagen.llm.prompts.template import row_label
from llm_datagen.llm.prompts.turns import FIRST_ROLES, Turn, turns_of
from llm_datagen.llm.prompts.values import Null
from llm_datagen.llm.types import AnswerFormat
from llm_datagen.operators.fingerprint import FILE


class Conversation:
    """Makes the messages of a row: the system message, the solved examples, the prompt.

    Args:
        prompt: a template, which the user says; or messages: ``{"role": …, "content": template}``, also with
            ``"images": [templates]``, and ``{"placeholder": field}`` for those that the row holds in a field.
        system: the template of the system message; None sends none.
        examples: solved rows, ``{"item": …, "answer": …}`` each.
        images: templates of URLs or paths of images, which go with a `prompt` that is one template.
        null: what is written for a null of the row: nothing ("empty"), or the row fails ("error").
        image_root: the folder that images of rows may come from; None: no file may be sent.
        answers: what the answers of `examples` must look like.

    Attributes:
        prefix: what the messages of all rows begin with; None when they have no beginning in common.

    Raises:
        ConfigError: when a message, a template or an example cannot be used.
    """

    def __init__(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        system: str | None = None,
        examples: Sequence[Mapping[str, Any]] = (),
        images: Sequence[str] = (),
        null: Null = "empty",
        image_root: Path | None = None,
        answers: AnswerFormat,
    ) -> None:
        self._turns = turns_of(prompt, system=system, images=images, null=null)
        self._image_root = image_root
        self._examples = [message for example in examples for message in self._example(example, answers)]
        self.prefix = prefix_of(self._turns, self._examples)
        self._fixed_images = [place for turn in self._turns for place in turn.fixed_images]
        self._fixed_images += images_of(self._examples)
        self._is_read = False  # whether the images of the examples are

    async def messages(self, item: Any) -> list[Message]:
        """Return the messages of `item`. Files of images are read by a thread.

        Raises:
            PromptError: when they cannot be made of this row.
        """
        messages = _rendered(self._turns, item)
        if not messages:
            raise PromptError(f"the prompt of {row_label(item)} has no message")
        if not self._is_read:
            self._examples = await with_images(self._examples, "an example", self._image_root)
            self._is_read = True
        if any(message.get("content").__class__ is not str for message in messages):
            messages = await with_images(messages, row_label(item), self._image_root)
        if not self._examples:
            return messages
        begin = _number_of_first(messages)
        return [*messages[:begin], *self._examples, *messages[begin:]]

    def files(self) -> dict[str, str | None]:
        """Return what is in the files of the images that all rows have in common, as parts of a fingerprint."""
        found = digests_of_files(self._fixed_images, self._image_root)
        return {f"{FILE}{place}": value for place, value in found.items()}

    def _example(self, example: Mapping[str, Any], answers: AnswerFormat) -> list[Message]:
        if not isinstance(example, Mapping) or set(example) != {"item", "answer"}:
            raise ConfigError(f"an example must be a dict of 'item' and 'answer', not {example!r}")
        answer = example["answer"]
        text = answer if isinstance(answer, str) else json.dumps(answers.as_sent(answer), ensure_ascii=False)
        try:
            if answers.parse(text).is_repaired:
                raise ValueError("it is not plain JSON, and the model would take it for what is wanted")
            turns = [turn for turn in self._turns if turn.role not in FIRST_ROLES]
            messages = _rendered(turns, example["item"])
        except (ValueError, LLMError) as error:
            raise ConfigError(f"the example {example!r} does not fit the operator: {error}") from error
        return [*messages[_number_of_first(messages) :], {"role": "assistant", "content": text}]


def repair(text: str, problem: ValueError) -> list[Message]:
    """Return the messages that ask for a better answer than `text`."""
    words = f"This answer cannot be used: {problem}. Answer again, with nothing but the corrected answer."
    ask = {"role": "user", "content": words}
    # Endpoints refuse a message without content.
    return [{"role": "assistant", "content": text}, ask] if text.strip() else [ask]


def _rendered(turns: list[Turn], item: Any) -> list[Message]:
    messages: list[Message] = []
    for turn in turns:
        messages += turn.messages(item)
    return messages


def _number_of_first(messages: list[Message]) -> int:
    return sum(1 for _ in takewhile(lambda message: message["role"] in FIRST_ROLES, messages))
