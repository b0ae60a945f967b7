"""A stand-in for vLLM: the names, arguments and results of it that the engine uses, and answers without a model.

The names and arguments are those of vLLM 0.33; a test compares them with the package where that is installed. The model
says the last words of the prompt again, a token each, and lives in ``config.json``: ``{"context": 40}``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from .sampling_params import SamplingParams

__all__ = ["AsyncEngineArgs", "SamplingParams", "TokensPrompt"]


@dataclass
class AsyncEngineArgs:
    """What the engine is made of."""

    model: str
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    disable_log_stats: bool = False
    dtype: str = "auto"

    def __post_init__(self) -> None:
        config = json.loads((Path(self.model) / "config.json").read_text())
        if config.get("broken"):
            raise RuntimeError("CUDA out of memory: tried to allocate 20 GiB")
        self.context = min(self.max_model_len or config["context"], config["context"])


class TokensPrompt(TypedDict):
    """A prompt of tokens."""

    prompt_token_ids: list[int]
