"""The asynchronous engine."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ... import AsyncEngineArgs, SamplingParams, TokensPrompt
from ...exceptions import VLLMClientError
from ...sampling_params import RequestOutputKind
from .exceptions import EngineDeadError


@dataclass
class CompletionOutput:
    """One answer."""

    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    """What came of a request."""

    request_id: str
    outputs: list[CompletionOutput]
    finished: bool
    num_cached_tokens: int | None = None


class Tokenizer:
    """A token for each word."""

    chat_template: str | None = "plain"

    def __init__(self) -> None:
        self.words: list[str] = []

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        chat_template: str | None,
        add_generation_prompt: bool,
        tokenize: bool,
        **kwargs: Any,
    ) -> str:
        assert add_generation_prompt
        assert not tokenize
        return " ".join(message["content"] for message in conversation)

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        words = text.split()
        first = len(self.words)
        self.words += words
        return {"input_ids": list(range(first, first + len(words)))}


@dataclass
class ModelConfig:
    """What is known of the model."""

    max_model_len: int
    own: dict[str, Any] = field(default_factory=dict)

    def get_diff_sampling_param(self) -> dict[str, Any]:
        return self.own


class AsyncLLM:
    """Says the last words of the prompt again; a process of its own stands for the real one's."""

    def __init__(self, args: AsyncEngineArgs) -> None:
        self._args = args
        self._tokenizer = Tokenizer()
        self._ids: set[str] = set()
        self.model_config = ModelConfig(args.context, {"top_k": 20, "max_tokens": 3})
        self._core = subprocess.Popen(["sleep", "1000"])
        self._note({"core": self._core.pid, "max_num_seqs": args.max_num_seqs, "dtype": args.dtype})

    @classmethod
    def from_engine_args(cls, engine_args: AsyncEngineArgs) -> AsyncLLM:
        return cls(engine_args)

    def get_tokenizer(self) -> Tokenizer:
        return self._tokenizer

    async def generate(
        self, prompt: TokensPrompt, sampling_params: SamplingParams, request_id: str
    ) -> AsyncGenerator[RequestOutput, None]:
        assert request_id not in self._ids
        self._ids.add(request_id)
        words = [self._tokenizer.words[number] for number in prompt["prompt_token_ids"]]
        self._note({"asked": " ".join(words), **asdict(sampling_params)})
        assert sampling_params.output_kind is RequestOutputKind.FINAL_ONLY
        if "die" in words and not Path(self._args.model, "died").exists():
            Path(self._args.model, "died").touch()
            raise EngineDeadError("EngineCore encountered an issue.")
        if sampling_params.structured_outputs is not None and sampling_params.structured_outputs.json_object:
            raise VLLMClientError("structured outputs: json_object needs a backend that is not there")
        if sampling_params.structured_outputs is not None:
            words = ['{"n":', "3}"]
        await asyncio.sleep(0.01)
        most = sampling_params.max_tokens or 16
        text = " ".join(words[-most:])
        for stop in sampling_params.stop or []:
            text = text.partition(stop)[0]
        reason = "length" if len(words) > most else "stop"
        answer = CompletionOutput(0, text, list(range(min(most, len(words)))), reason)
        yield RequestOutput(request_id, [answer], True, num_cached_tokens=1)

    def shutdown(self, timeout: float | None = None) -> None:
        self._core.kill()
        self._core.wait()
        self._note({"shutdown": True})

    def _note(self, value: dict[str, Any]) -> None:
        with Path(self._args.model, "notes").open("a") as notes:
            notes.write(json.dumps(value, default=str) + "\n")
