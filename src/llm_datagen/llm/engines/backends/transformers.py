"""Models in folders of Hugging Face, by the packages transformers and torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from llm_datagen.llm.engines.backends.base import Backend, CallError, LoadError, ModelSettings
from llm_datagen.llm.engines.backends.batching import Batcher
from llm_datagen.llm.engines.backends.chat_params import (
    checked_params,
    count_in,
    number_in,
    stops_in,
    too_long,
)
from llm_datagen.llm.engines.backends.hub_models import cannot_load, check_folder, check_template, prompt_of
from llm_datagen.llm.engines.backends.sampling import Sample, Sampling

_ENGINE = "the engine 'transformers'"
_KNOWN = (
    *("max_tokens", "max_completion_tokens", "stop", "seed", "temperature", "top_p", "top_k", "min_p"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
)
_NO_LIMIT = 1 << 24
"""A length of prompts above it is what tokenizers say when they know none."""
_LONGEST_SEED = (1 << 63) - 1


class TransformersBackend(Backend):
    """Runs a causal language model. Calls that are there at the same time are computed as a batch."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self._batches: Batcher[Sample] = Batcher(
            settings.calls_at_once, lambda sample: len(sample.prompt) + sample.most, self._generate
        )

    async def open(self) -> None:
        """Load model and tokenizer."""
        settings = self.settings
        check_folder(settings.path)
        torch.set_num_threads(settings.threads)
        options = {"dtype": "auto", **settings.options}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(settings.path, padding_side="left")
            self._model = AutoModelForCausalLM.from_pretrained(settings.path, **options)
            if "device_map" not in options:
                self._model.to("cuda" if torch.cuda.is_available() else "cpu")
        except Exception as error:  # what the library raises for a bad folder is of many kinds
            raise cannot_load("transformers", settings.path, error) from error
        check_template(self._tokenizer, settings.path, settings.chat_template)
        self._model.eval()
        self._defaults = self._model.generation_config
        ends = self._defaults.eos_token_id
        ends = self._tokenizer.eos_token_id if ends is None else ends
        self._ends = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
        padding = self._tokenizer.pad_token_id
        self._padding = padding if padding is not None else min(self._ends, default=0)
        # What else it holds would be done on top of what is done here.
        self._model.generation_config = GenerationConfig(pad_token_id=self._padding)
        self._context = self._context_of(self._model.config.get_text_config())

    async def complete(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have a batch complete the chat."""
        sample = self._sample(body)
        try:
            await self._batches.do(sample)
        finally:
            sample.is_wanted = False
        tokens = sample.answer
        text = self._text(tokens)
        ends = [text.index(stop) for stop in sample.stops if stop in text]
        message = {"role": "assistant", "content": text[: min(ends)] if ends else text}
        usage = {"prompt_tokens": len(sample.prompt), "completion_tokens": len(tokens)}
        return {"choices": [{"index": 0, "message": message, "finish_reason": sample.reason}], "usage": usage}

    def _sample(self, body: Mapping[str, Any]) -> Sample:
        params = checked_params(body, _KNOWN, _ENGINE)
        prompt = prompt_of(self._tokenizer, body, self.settings.chat_template, _ENGINE)
        room = self._context - len(prompt)
        if room < 1:
            raise too_long(len(prompt), self._context)
        own = self._defaults
        seed = params.get("seed")
        return Sample(
            prompt,
            min(room, count_in(params, "max_completion_tokens", "max_tokens") or room),
            temperature=number_in(params, "temperature", _or(own.temperature, 1.0), 0, 100),
            top_p=number_in(params, "top_p", _or(own.top_p, 1.0), 0, 1),
            top_k=int(number_in(params, "top_k", _or(own.top_k, 0), -1, 1 << 31)),
            min_p=number_in(params, "min_p", _or(own.min_p, 0.0), 0, 1),
            repetition_penalty=number_in(params, "repetition_penalty", _or(own.repetition_penalty, 1.0), 0.01, 100),
            frequency_penalty=number_in(params, "frequency_penalty", 0.0, -2, 2),
            presence_penalty=number_in(params, "presence_penalty", 0.0, -2, 2),
            seed=None if seed is None else int(number_in(params, "seed", 0, -_LONGEST_SEED, _LONGEST_SEED)),
            stops=stops_in(params),
        )

    def _generate(self, batch: Sequence[Sample]) -> None:
        """Write the answers of a batch. Called on the thread of the batches."""
        try:
            self._generate_at_once(batch)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if len(batch) == 1:
                raise CallError(
                    413, "the memory of the device is too small for this call: lower context or max_tokens"
                ) from error
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                self._generate(half)
        except RuntimeError as error:
            if "CUDA error" in str(error):  # nothing can be computed there by this process any more
                print(error, file=sys.stderr, flush=True)
                os._exit(1)
            raise

    def _generate_at_once(self, batch: Sequence[Sample]) -> None:
        width = max(len(sample.prompt) for sample in batch)
        padded = [[self._padding] * (width - len(sample.prompt)) + sample.prompt for sample in batch]
        mask = [[0] * (width - len(sample.prompt)) + [1] * len(sample.prompt) for sample in batch]
        device = self._model.device
        sampling = Sampling(batch, width, self._ends, self._text, device)
        with torch.inference_mode():
            written = self._model.generate(
                torch.tensor(padded, device=device),
                attention_mask=torch.tensor(mask, device=device),
                max_new_tokens=max(sample.most for sample in batch),
                do_sample=False,
                logits_processor=[sampling.choose],
                stopping_criteria=[sampling.are_done],
            )
        for sample, tokens in zip(batch, written[:, width:].tolist(), strict=True):
            sample.answer = tokens[: sample.count]

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _context_of(self, config: Any) -> int:
        allowed = getattr(config, "max_position_embeddings", None) or self._tokenizer.model_max_length
        if allowed > _NO_LIMIT:
            allowed = None
        wanted = self.settings.context
        if wanted is not None and allowed is not None and wanted > allowed:
            raise LoadError(f"context is {wanted:,} tokens, and {self.settings.path} allows {allowed:,}: lower it")
        if wanted is None and allowed is None:
            raise LoadError(f"{self.settings.path} does not say how many tokens it allows: give context")
        return int(wanted or allowed or 0)


def _or(value: Any, default: float) -> float:
    return default if value is None else float(value)
