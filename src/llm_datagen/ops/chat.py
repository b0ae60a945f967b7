"""Rows as conversations, and as pairs of a better and a worse answer: what trainers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from llm_datagen.config import check_choice
from llm_datagen.errors import ConfigError, RowDataError
from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import (
    DataOperator,
    column_or_none,
    columns_if_any,
    is_number,
    is_text,
    list_of,
    new_column,
    refuse_value,
    value_of,
)
from llm_datagen.streams.rows import Rejected

Layout = Literal["messages", "sharegpt"]
PairLayout = Literal["text", "messages"]
Role = Literal["user", "assistant", "system"]

_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}
_ROLES = {"human": "user", "gpt": "assistant", **{role: role for role in _SHAREGPT}}

Message = dict[str, Any]


class ToChat(DataOperator):
    """Makes a conversation of a row: ``{"messages": [{"role": "user", "content": …}, …]}``.

    Args:
        user: the column with what the user says.
        assistant: the column with the answer.
        system: a column with the system message, if there is one; a row whose value is null or empty has none.
        turns: a column with a whole conversation, in place of these: a list of ``{"role", "content"}``, of
            ``{"from", "value"}`` (ShareGPT), or of texts, in turn of the user and the assistant.
        reasoning: a column with what the model thought before its answer: the field ``reasoning_content`` of its
            message, as chat templates of reasoning models read it; a row whose value is null or empty has none.
        layout: "messages", or "sharegpt": ``{"conversations": [{"from": "human", "value": …}, …]}``.
        keep: columns that are kept beside it.

    Raises:
        ConfigError: when `reasoning` is given with `turns`, or for "sharegpt", which has no place for it.
    """

    def __init__(
        self,
        *,
        user: str = "prompt",
        assistant: str = "response",
        system: str | None = None,
        turns: str | None = None,
        reasoning: str | None = None,
        layout: Layout = "messages",
        keep: str | Sequence[str] = (),
    ) -> None:
        if reasoning is not None and (turns is not None or layout != "messages"):
            raise ConfigError('reasoning goes with user and assistant, in the layout "messages"')
        self.user = new_column("user", user)
        self.assistant = new_column("assistant", assistant)
        self.system = column_or_none("system", system)
        self.turns = column_or_none("turns", turns)
        self.reasoning = column_or_none("reasoning", reasoning)
        self.layout = check_choice("layout", layout, Layout)
        self.keep = columns_if_any("keep", keep)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the conversation.

        Raises:
            RowDataError: when a column is missing, or no text, or no conversation.
        """
        messages = self._system(item)
        if self.turns is not None:
            messages += _messages_of(self.turns, value_of(item, self.turns))
        else:
            answer = {**_said("assistant", item, self.assistant), **self._thoughts(item)}
            messages += [_said("user", item, self.user), answer]
        kept = {column: value_of(item, column) for column in self.keep}
        if self.layout == "messages":
            return {"messages": messages, **kept}
        said = [{"from": _SHAREGPT[message["role"]], "value": message["content"]} for message in messages]
        return {"conversations": said, **kept}

    def _system(self, item: Any) -> list[Message]:
        if self.system is None or value_of(item, self.system) in (None, ""):
            return []
        return [_said("system", item, self.system)]

    def _thoughts(self, item: Any) -> Message:
        if self.reasoning is None or value_of(item, self.reasoning) in (None, ""):
            return {}
        return {"reasoning_content": _text(item, self.reasoning)}


class AddTurn(DataOperator):
    """Moves a text from a column of its own to the end of a conversation: a list of ``{"role", "content"}``.

    Args:
        text: the column with what is said; the row has it no more then.
        role: who says it: "user", "assistant" or "system".
        turns: the column with the conversation; a row that lacks it begins one.
    """

    def __init__(self, text: str = "said", *, role: Role = "user", turns: str = "messages") -> None:
        self.text = new_column("text", text)
        self.role = check_choice("role", role, Role)
        self.turns = new_column("turns", turns)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row.

        Raises:
            RowDataError: when the text is missing or no text, or the conversation is no list.
        """
        said = _said(self.role, item, self.text)
        before = item.get(self.turns, [])
        if not isinstance(before, list):
            refuse_value(self.turns, before, "a list of turns")
        row = {name: value for name, value in item.items() if name != self.text}
        return {**row, self.turns: [*before, said]}


def _gap(value: Any) -> float:
    if not is_number(value) or value < 0:
        raise ConfigError(f"least_gap must be a number from 0 on, not {value!r}")
    return value


class ToPreference(DataOperator):
    """Makes a preference pair of a row: ``{"prompt", "chosen", "rejected"}``, as DPO of TRL reads it.

    Either two columns have the answers, or a list has several, and another list the score of each: then the best is
    chosen, and the worst rejected, of those that differ. A row is rejected if all its answers are the same, or the
    scores are equal, or differ by less than `least_gap`.

    Args:
        prompt: the column with the prompt.
        chosen: the column with the better answer.
        rejected: the column with the worse one.
        answers: the column with a list of answers, in place of these two.
        scores: the column with a list of their scores.
        least_gap: how much the scores must differ.
        layout: "text", or "messages": each of the three is a list of messages.
        keep: columns that are kept beside it.
    """

    def __init__(
        self,
        *,
        prompt: str = "prompt",
        chosen: str = "chosen",
        rejected: str = "rejected",
        answers: str | None = None,
        scores: str | None = None,
        least_gap: float = 0,
        layout: PairLayout = "text",
        keep: str | Sequence[str] = (),
    ) -> None:
        if (answers is None) != (scores is None):
            raise ConfigError("answers and scores belong together: give both columns, or neither")
        self.prompt = new_column("prompt", prompt)
        self.chosen = new_column("chosen", chosen)
        self.rejected = new_column("rejected", rejected)
        self.answers = column_or_none("answers", answers)
        self.scores = column_or_none("scores", scores)
        self.least_gap = _gap(least_gap)
        self.layout = check_choice("layout", layout, PairLayout)
        self.keep = columns_if_any("keep", keep)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the pair, or why there is none.

        Raises:
            RowDataError: when a column is missing, or holds something else.
        """
        if self.answers is None:
            chosen, rejected = _text(item, self.chosen), _text(item, self.rejected)
            if chosen == rejected:
                return Rejected("the answers are the same")
        else:
            pair = self._best_and_worst(item)
            if isinstance(pair, Rejected):
                return pair
            chosen, rejected = pair
        texts = {"prompt": _text(item, self.prompt), "chosen": chosen, "rejected": rejected}
        kept = {column: value_of(item, column) for column in self.keep}
        if self.layout == "text":
            return {**texts, **kept}
        roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
        return {**{name: [{"role": roles[name], "content": text}] for name, text in texts.items()}, **kept}

    def _best_and_worst(self, item: Any) -> tuple[str, str] | Rejected:
        assert self.answers is not None
        assert self.scores is not None
        answers = list_of(item, self.answers, "texts", is_text)
        scores = list_of(item, self.scores, "numbers", is_number)
        if len(scores) != len(answers):
            raise RowDataError(
                f"column {self.answers!r} has {len(answers)} answers, and {self.scores!r} {len(scores)} scores"
            )
        if len(answers) < 2:
            return Rejected("only one answer" if answers else "no answers")
        pair = _furthest(answers, scores)
        if pair is None:
            return Rejected("the answers are the same")
        best, worst = pair
        gap = scores[best] - scores[worst]
        if not gap or gap < self.least_gap:
            return Rejected("the scores are too near" if gap else "the scores are equal")
        return answers[best], answers[worst]


def _furthest(answers: list[str], scores: list[float]) -> tuple[int, int] | None:
    """Return the numbers of the two answers that differ and whose scores are furthest apart; None when all are equal.

    One of them is the best answer, or the worst: when these are the same text, either may be the one that stays.
    """
    places = range(len(answers))
    best, worst = max(places, key=scores.__getitem__), min(places, key=scores.__getitem__)
    below = [each for each in places if answers[each] != answers[best]]
    above = [each for each in places if answers[each] != answers[worst]]
    if not below or not above:
        return None
    pairs = (best, min(below, key=scores.__getitem__)), (max(above, key=scores.__getitem__), worst)
    return max(pairs, key=lambda pair: scores[pair[0]] - scores[pair[1]])


def _text(item: Any, column: str) -> str:
    value = value_of(item, column)
    if not isinstance(value, str):
        refuse_value(column, value, "text")
    return value


def _said(role: str, item: Any, column: str) -> Message:
    return {"role": role, "content": _text(item, column)}


def _messages_of(column: str, turns: Any) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        refuse_value(column, turns, "a list of turns")
    return [_message(column, turn, number) for number, turn in enumerate(turns)]


def _message(column: str, turn: Any, number: int) -> Message:
    if isinstance(turn, str):
        return {"role": ("user", "assistant")[number % 2], "content": turn}
    if isinstance(turn, dict) and ("role" in turn) != ("from" in turn):
        names = ("role", "content") if "role" in turn else ("from", "value")
        role, content = map(turn.get, names)
        if role in _ROLES and isinstance(content, str):
            return {"role": _ROLES[role], "content": content}
    raise RowDataError(
        f"column {column!r}, turn {number}: it must be a text, or have a role ({', '.join(_ROLES)}) and its text, as "
        '{"role": …, "content": …} or {"from": …, "value": …}'
    )
