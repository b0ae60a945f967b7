"""What a run may spend at most, and the most that a call can cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from llm_datagen.config import LARGEST, check_count, object_of, refuses_unknown, shown
from llm_datagen.errors import ConfigError
from llm_datagen.llm.cost.known_prices import known_prices
from llm_datagen.llm.cost.prices import TokenPrices, exact, is_told
from llm_datagen.llm.grants.environment import Share
from llm_datagen.llm.limits.token_estimate import answer_limit, used_tokens
from llm_datagen.llm.types import ChatRequest, Operation
from llm_datagen.runs.usage import PICO, dollars, lost_in_words
from llm_datagen.streams.formats.json_text import dumps

IMAGE_TOKENS = 50_000
"""What an image in a prompt is taken to need at most: as much as the model that counts most for one."""
_TOKENS_OF_A_PART, _DOCUMENTS_OF_A_SEARCH = 500, 100
"""How Cohere counts a rerank: a document that is longer counts as several."""
_HIDDEN_TOKENS = 100
"""For what endpoints put around the messages."""
_LARGEST = 1 << 62
"""What the spend file can hold of a call; no budget has room for that much."""


class Amount(NamedTuple):
    """What was spent, or may be.

    Attributes:
        picodollars: money.
        tokens: of prompts and answers, together.
    """

    picodollars: int = 0
    tokens: int = 0

    def plus(self, other: Amount) -> Amount:
        """Return both together."""
        return Amount(self.picodollars + other.picodollars, self.tokens + other.tokens)

    def minus(self, other: Amount) -> Amount:
        """Return what is left of it."""
        return Amount(self.picodollars - other.picodollars, self.tokens - other.tokens)


_NOTHING = Amount()


@refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a run may spend at most: money, tokens, or both.

    Attributes:
        usd: US dollars; None for any.
        tokens: tokens of prompts and answers together; None for any.
        image_tokens: what an image in a prompt needs at most.
        picodollars: `usd` as a whole number.

    Raises:
        ConfigError: when a value is wrong, or there is no cap.
    """

    usd: float | None = None
    tokens: int | None = None
    image_tokens: int = IMAGE_TOKENS
    picodollars: int | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.usd is None and self.tokens is None:
            raise ConfigError("budget must have a cap: usd (US dollars), tokens, or both")
        object.__setattr__(self, "picodollars", None if self.usd is None else _picodollars(self.usd))
        if self.tokens is not None:
            check_count("budget['tokens']", self.tokens)
        check_count("budget['image_tokens']", self.image_tokens)

    @classmethod
    def of(cls, given: Budget | Mapping[str, Any]) -> Budget:
        """Return the budget that a user gave, perhaps as a dict with the names of the attributes.

        Raises:
            ConfigError: when it is none.
        """
        return object_of(cls, "budget", given)

    def holds(self, amount: Amount) -> bool:
        """Return whether that much may be spent in all."""
        return (self.picodollars is None or amount.picodollars <= self.picodollars) and (
            self.tokens is None or amount.tokens <= self.tokens
        )

    def changed(self, usd: float | None = None, tokens: int | None = None) -> Budget:
        """Return it with other caps; what is None stays.

        Raises:
            ConfigError: when one is not above 0.
        """
        return replace(self, usd=self.usd if usd is None else usd, tokens=self.tokens if tokens is None else tokens)

    def share(self, share: Share) -> Budget:
        """Return a fixed share of it.

        Raises:
            ConfigError: when nothing is left.
        """
        picodollars, tokens = self.picodollars, self.tokens
        part = replace(self, tokens=None if tokens is None else share.of("budget['tokens']", tokens))
        if picodollars is not None:  # not by `usd`, whose parts are no decimal fractions
            object.__setattr__(part, "picodollars", share.of("budget['usd']", picodollars))
        return part

    def most(self, request: ChatRequest, prices: TokenPrices | None) -> Amount:
        """Return the most that a try of `request` can cost.

        Args:
            request: the call; its params limit the answer.
            prices: None when they are not known; then the budget has no dollars.
        """
        prompt = most_prompt_tokens(request, self.image_tokens)
        answer = request.choices * (answer_limit(request.params) or 0)
        searches = most_searches(request, prompt) if request.operation == "rerank" else 1
        money = 0 if prices is None else prices.most(prompt, answer, searches)
        return Amount(min(money, _LARGEST), min(prompt + answer, _LARGEST))

    def reason(self, spent: Amount, lost: Amount, need: Amount, elsewhere: str = "", untold: Amount = _NOTHING) -> str:
        """Return why no further call is made.

        Args:
            spent: what was spent in all.
            lost: the part of it of which nobody knows whether it was that much.
            need: the most that the next call can cost.
            elsewhere: what others have spent of it; empty when nobody shares it.
            untold: the part of `lost` that went to calls whose answer came.
        """
        never = lost.minus(untold)
        set_aside = lost_in_words(any(never) and self._words(never), any(untold) and self._words(untold))
        return (
            f"the budget of {self._words(Amount(self.picodollars or 0, self.tokens or 0))} is reached: "
            f"{self._words(spent)} spent"
            + (f" ({elsewhere})" if elsewhere else "")
            + (f" (set aside: {', '.join(set_aside)})" if set_aside else "")
            + f", and the next call can take up to {self._words(need)}; raise the budget and resume ({self._options()})"
        )

    def _options(self) -> str:
        caps = (("usd", self.picodollars), ("tokens", self.tokens))
        return "budget=, or resume " + " ".join(f"--budget-{name}" for name, cap in caps if cap is not None)

    def _words(self, amount: Amount) -> str:
        parts = []
        if self.picodollars is not None:
            parts.append(dollars(amount.picodollars / PICO))
        if self.tokens is not None:
            parts.append(f"{amount.tokens:,} tokens")
        return " and ".join(parts)


def most_prompt_tokens(request: ChatRequest, image_tokens: int = IMAGE_TOKENS) -> int:
    """Return the most tokens that a prompt can have; `image_tokens` for each image."""
    # No tokenizer makes more tokens than the text has bytes; and what JSON puts around a message is more than
    # what a chat template does. The other fields count as well: a schema is part of the prompt.
    messages, others = _without_images(request.messages)
    size = len(dumps(messages)) + len(dumps(request.params))
    return size + others * image_tokens + _HIDDEN_TOKENS


def most_searches(request: ChatRequest, prompt_tokens: int) -> int:
    """Return the most searches that a rerank counts as: one for each 100 documents, or parts of long ones."""
    return 1 + (len(request.messages) + prompt_tokens // _TOKENS_OF_A_PART) // _DOCUMENTS_OF_A_SEARCH


def spent_on(usage: Mapping[str, int], prices: TokenPrices | None) -> Amount | None:
    """Return what a call cost; None when the endpoint did not say.

    Args:
        usage: `ChatAnswer.usage`.
        prices: None when they are not known; then dollars are not counted.
    """
    if not is_told(usage):
        return None
    return Amount((prices.picodollars(usage) or 0) if prices is not None else 0, used_tokens(usage) or 0)


def check_budget(
    budget: Budget,
    params: Mapping[str, Any],
    model: str,
    url: str,
    prices: TokenPrices | None,
    operation: Operation = "chat",
) -> None:
    """Check that a budget can be kept at an endpoint.

    Args:
        budget: what may be spent.
        params: the fields of the requests.
        model: the model that is asked.
        url: where the calls go.
        prices: what they cost; None for what is known of the model.
        operation: what is asked for; the answers of a chat alone have tokens.

    Raises:
        ConfigError: when the requests do not limit their answers, or it is in dollars and no price is known.
    """
    if operation == "chat" and not answer_limit(params):
        raise ConfigError(
            "budget needs a limit of the answers, to know before a call what it can cost: give params "
            "'max_tokens' (or 'max_completion_tokens')"
        )
    if budget.usd is not None and prices is None and known_prices(model, url) is None:
        raise ConfigError(
            f"budget in US dollars: no price is known of model {model!r} at {url}: give prices, or a budget of tokens"
        )


def _picodollars(value: Any) -> int:
    amount = exact(value)
    if amount <= 0:
        raise ConfigError(f"budget['usd'] must be US dollars, above 0 and at most {LARGEST:,}, not {shown(value)}")
    return round(amount * PICO)


def _without_images(messages: Sequence[Mapping[str, Any]]) -> tuple[Sequence[Mapping[str, Any]], int]:
    """Return the messages without the data of their images, and how many parts that are no text they have."""
    if all(isinstance(message.get("content"), str) for message in messages):
        return messages, 0
    others, stripped = 0, []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            others += sum(1 for part in content if _kind(part) != "text")
            message = {**message, "content": [part for part in content if _kind(part) != "image_url"]}  # noqa: PLW2901
        stripped.append(message)
    return stripped, others


def _kind(part: Any) -> Any:
    return part.get("type") if isinstance(part, Mapping) else "text"
