"""What the messages of all rows begin with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import takewhile

from llm_datagen.llm.prompts.images import Message
from llm_datagen.llm.prompts.turns import FIRST_ROLES, TemplateMessage, Turn
from llm_datagen.llm.types import Prefix


def prefix_of(turns: Sequence[Turn], examples: Sequence[Message]) -> Prefix | None:
    """Return the beginning that the messages of all rows have in common; None when there is none.

    Args:
        turns: of the prompt. Those of the system come before the examples.
        examples: the messages of the solved rows.
    """
    first = list(takewhile(lambda turn: turn.role in FIRST_ROLES, turns))
    rest = turns[len(first) :]
    texts: list[object] = []
    count = chars = 0
    for part in (*first, None, *rest):
        if part is None:
            if examples and rest and not isinstance(rest[0], TemplateMessage):
                break  # the messages of a row may begin with one of the system, which stands before the examples
            count += len(examples)
            texts += examples
            continue
        if not isinstance(part, TemplateMessage):  # the messages of a row
            break
        beginning = part.beginning
        texts.append(beginning)
        if not part.is_fixed:
            chars = len(beginning)
            break
        count += 1
    if not count and not chars:
        return None
    digest = hashlib.sha256(json.dumps(texts, default=str).encode()).hexdigest()
    return Prefix(messages=count, chars=chars, key=f"llm-datagen-{digest[:24]}")
