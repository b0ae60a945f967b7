"""The requests of a row: one for each answer that is wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llm_datagen.config import check_choice, check_count
from llm_datagen.llm.cache.scope import CacheBy, row_key
from llm_datagen.llm.prompts.messages import Conversation
from llm_datagen.llm.prompts.template import fields_of, row_label
from llm_datagen.llm.sampling.params import Params
from llm_datagen.llm.sampling.seeds import SEED, seed_of
from llm_datagen.llm.types import ChatRequest, Prefix
from llm_datagen.operators import INodeContext


class RowRequests:
    """Makes the requests of a row.

    Args:
        conversation: makes the messages.
        params: makes the other fields.
        model: what stands for the model when an answer is cached.
        prefix: the beginning of the prompts that endpoints are to cache; None for none.
        n: how many answers are wanted per row.
        seed: what the seeds of all samples are made of; None for none.
        cache_by: what an answer is cached by.

    Attributes:
        n: how many answers are wanted per row.
        has_seeds: whether every sample has a seed of its own.

    Raises:
        ConfigError: on a wrong `n` or `cache_by`.
    """

    def __init__(
        self,
        conversation: Conversation,
        params: Params,
        *,
        model: str,
        prefix: Prefix | None,
        n: int,
        seed: int | None,
        cache_by: CacheBy,
    ) -> None:
        self.n = check_count("n", n)
        self.has_seeds = seed is not None
        self._seed = seed
        self._conversation = conversation
        self._params = params
        self._model = model
        self._prefix = prefix
        self._is_cached_by_row = check_choice("cache_by", cache_by, CacheBy) == "row"

    async def of(self, item: Any, ctx: INodeContext | None) -> list[ChatRequest]:
        """Return the requests of a row.

        Raises:
            PromptError: when they cannot be made of this row.
        """
        request = await self._request(item, ctx)
        if self.n == 1 and self._seed is None:
            return [request]
        samples = [replace(request, sample=number) for number in range(self.n)]
        if self._seed is None:
            return samples
        fields = fields_of(item)
        seeds = [seed_of(self._seed, fields, number) for number in range(self.n)]
        return [replace(each, params={**each.params, SEED: seed}) for each, seed in zip(samples, seeds, strict=True)]

    async def _request(self, item: Any, ctx: INodeContext | None) -> ChatRequest:
        return ChatRequest(
            messages=await self._conversation.messages(item),
            params=self._params.of(item),
            prefix=self._prefix,
            model=self._model,
            cache_scope=row_key(fields_of(item)) if self._is_cached_by_row else "",
            row=row_label(item),
            ctx=ctx,
        )
