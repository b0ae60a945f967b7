"""Samples a batch of answers, each by its own params, and ends each by itself: for models of transformers.

A batch has calls with different params in it, and each needs numbers of its own by chance, so that a seed gives the
same answer whatever else is in the batch. So scores are made such that the highest is the sample: noise is added to the
logarithm of the probabilities (Gumbel's way), and the library takes the highest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(eq=False, slots=True)
class Sample:
    """An answer that is being written.

    Attributes:
        prompt: the tokens of the prompt.
        most: tokens that the answer may have.
        temperature: 0: the most likely token is taken.
        top_p, top_k, min_p: which tokens may be taken; 1, 0 and 0: all.
        repetition_penalty: divides the scores of tokens that were there before, also in the prompt; 1: does not.
        frequency_penalty: taken off a token's score for each time that it is in the answer.
        presence_penalty: taken off once.
        seed: of the numbers by chance; None: any.
        stops: texts at which it ends.
        is_wanted: whether somebody waits for it.
        count: its tokens, when it is done; None: it is not.
        reason: why it ended: ``stop`` or ``length``.
        answer: its tokens, when it is done.
        generator: of its numbers by chance.
    """

    prompt: list[int]
    most: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    stops: tuple[str, ...] = ()
    is_wanted: bool = True
    count: int | None = None
    reason: str = "length"
    answer: list[int] = field(default_factory=list, repr=False)
    generator: Any = field(default=None, repr=False)


class Sampling:
    """Chooses the next tokens of a batch, and says which answers are done. Given to ``generate`` for both.

    Args:
        batch: the answers.
        width: tokens of the padded prompts.
        ends: tokens that end an answer.
        text_of: returns the text of tokens.
        device: where the scores are.
    """

    def __init__(
        self, batch: Sequence[Sample], width: int, ends: set[int], text_of: Callable[[list[int]], str], device: Any
    ) -> None:
        self._batch = batch
        self._width = width
        self._ends = ends
        self._text_of = text_of
        for sample in batch:
            sample.count = None
            sample.generator = torch.Generator(device=device)
            if sample.seed is None:
                sample.generator.seed()
            else:
                sample.generator.manual_seed(sample.seed)

    def choose(self, input_ids: Any, scores: Any) -> Any:
        """Return scores of which the highest is what comes next."""
        scores = scores.float()
        return torch.stack(
            [
                scores[row] if sample.count is not None else self._scores(sample, input_ids[row], scores[row])
                for row, sample in enumerate(self._batch)
            ]
        )

    def are_done(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Return which answers are done."""
        written = input_ids[:, self._width :].tolist()
        for sample, tokens in zip(self._batch, written, strict=True):
            if sample.count is None and self._ended(sample, tokens):
                sample.count = len(tokens)
        return torch.tensor([sample.count is not None for sample in self._batch], device=input_ids.device)

    def _scores(self, sample: Sample, tokens: Any, scores: Any) -> Any:
        scores = self._penalized(sample, tokens, scores)
        if sample.temperature == 0:
            return scores
        scores = scores / sample.temperature
        if 0 < sample.top_k < scores.numel():
            scores = scores.masked_fill(scores < torch.topk(scores, sample.top_k).values[-1], -torch.inf)
        if sample.top_p < 1:
            ordered, places = torch.sort(scores, descending=True)
            likely = torch.softmax(ordered, dim=-1)
            is_beyond = likely.cumsum(dim=-1) - likely >= sample.top_p
            is_beyond[0] = False
            scores = scores.index_fill(0, places[is_beyond], -torch.inf)
        if sample.min_p > 0:
            likely = torch.softmax(scores, dim=-1)
            scores = scores.masked_fill(likely < sample.min_p * likely.max(), -torch.inf)
        by_chance = torch.empty_like(scores).exponential_(generator=sample.generator)
        return torch.log_softmax(scores, dim=-1) - by_chance.log()

    def _penalized(self, sample: Sample, tokens: Any, scores: Any) -> Any:
        if sample.repetition_penalty != 1:
            seen = torch.unique(tokens[self._width - len(sample.prompt) :])
            before = scores[seen]
            scaled = torch.where(before > 0, before / sample.repetition_penalty, before * sample.repetition_penalty)
            scores = scores.index_copy(0, seen, scaled)
        if sample.frequency_penalty or sample.presence_penalty:
            written = torch.bincount(tokens[self._width :], minlength=scores.numel())
            scores = scores - sample.frequency_penalty * written - sample.presence_penalty * (written > 0)
        return scores

    def _ended(self, sample: Sample, tokens: list[int]) -> bool:
        if not sample.is_wanted:
            return True
        if tokens and (tokens[-1] in self._ends or self._has_stop(sample, tokens)):
            sample.reason = "stop"
            return True
        sample.reason = "length"
        return len(tokens) >= sample.most

    def _has_stop(self, sample: Sample, tokens: list[int]) -> bool:
        if not sample.stops:
            return False
        # A token can be a part of a sign, of which UTF-8 has four at most.
        tail = tokens[-4 * max(map(len, sample.stops)) - 4 :]
        text = self._text_of(tail)
        return any(stop in text for stop in sample.stops)
