"""vLLM, by its own asynchronous engine, which computes the calls that are there together."""

from __future__ import annotations

import inspect
import itertools
import os
import sys
from collections.abc import Mapping
from typing import Any

from vllm import AsyncEngineArgs, SamplingParams, TokensPrompt
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from llm_datagen.llm.engines.backends.base import Backend, CallError, ModelSettings
from llm_datagen.llm.engines.backends.chat_params import checked_params, count_in, stops_in, too_long
from llm_datagen.llm.engines.backends.hub_models import cannot_load, check_folder, check_template, prompt_of

_ENGINE = "the engine 'vllm'"
_AS_THEY_ARE = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty"),
    *("min_tokens", "ignore_eos", "stop_token_ids", "bad_words", "allowed_token_ids", "logit_bias"),
)
_KNOWN = (*_AS_THEY_ARE, "max_tokens", "max_completion_tokens", "stop", "response_format")


class VLLMBackend(Backend):
    """Runs a model in vLLM's engine, a process of its own."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self._numbers = itertools.count()

    async def open(self) -> None:
        """Start the engine."""
        settings = self.settings
        check_folder(settings.path)
        given = {
            "model": settings.path,
            "max_num_seqs": settings.calls_at_once,
            "disable_log_stats": True,
            **({} if settings.context is None else {"max_model_len": settings.context}),
            **settings.options,
        }
        try:
            self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**given))
            tokenizer = self._engine.get_tokenizer()
            self._tokenizer = await tokenizer if inspect.isawaitable(tokenizer) else tokenizer
        except Exception as error:  # what the library raises is of many kinds
            raise cannot_load("vLLM", settings.path, error) from error
        check_template(self._tokenizer, settings.path, settings.chat_template)
        self._context = int(self._engine.model_config.max_model_len)
        own = self._engine.model_config.get_diff_sampling_param()
        self._own = {name: value for name, value in own.items() if name in _AS_THEY_ARE}

    async def complete(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have the engine complete the chat."""
        prompt = prompt_of(self._tokenizer, body, self.settings.chat_template, _ENGINE)
        sampling = self._sampling(checked_params(body, _KNOWN, _ENGINE), len(prompt))
        number = f"call-{next(self._numbers)}"
        last = None
        try:
            async for output in self._engine.generate(TokensPrompt(prompt_token_ids=prompt), sampling, number):
                last = output
        except EngineDeadError as error:
            print(f"vLLM: {error}", file=sys.stderr, flush=True)
            os._exit(1)  # a new process begins anew
        except ValueError as error:
            raise _refused(body, error) from error
        except Exception as error:  # of its own: what a request cannot have, and failures of the engine
            if "ClientError" in {kind.__name__.removeprefix("VLLM") for kind in type(error).__mro__}:
                raise _refused(body, error) from error
            raise
        if last is None or not last.outputs:
            raise CallError(500, "vLLM ended the call without an answer")
        (written,) = last.outputs
        if written.finish_reason not in ("stop", "length"):
            raise CallError(500, f"vLLM gave the call up (finish_reason {written.finish_reason!r})")
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": len(written.token_ids),
            "prompt_tokens_details": {"cached_tokens": last.num_cached_tokens or 0},
        }
        message = {"role": "assistant", "content": written.text}
        return {"choices": [{"index": 0, "message": message, "finish_reason": written.finish_reason}], "usage": usage}

    async def close(self) -> None:
        """End the engine."""
        self._engine.shutdown()

    def _sampling(self, params: Mapping[str, Any], prompt: int) -> Any:
        room = self._context - prompt
        if room < 1:
            raise too_long(prompt, self._context)
        given = {name: params[name] for name in _AS_THEY_ARE if name in params}
        try:
            return SamplingParams(
                **{**self._own, **given},
                max_tokens=min(room, count_in(params, "max_completion_tokens", "max_tokens") or room),
                stop=list(stops_in(params)) or None,
                output_kind=RequestOutputKind.FINAL_ONLY,
                structured_outputs=_structured(params.get("response_format")),
            )
        except (TypeError, ValueError) as error:
            raise CallError(400, f"params: vLLM refuses them: {error}") from error


def _structured(asked: Any) -> Any:
    """Return what keeps an answer to a schema; None when none is asked for."""
    if not isinstance(asked, Mapping):
        return None
    if asked.get("type") == "json_schema":
        return StructuredOutputsParams(json=dict(asked["json_schema"]["schema"]))
    return StructuredOutputsParams(json_object=True) if asked.get("type") == "json_object" else None


def _refused(body: Mapping[str, Any], error: Exception) -> CallError:
    what = "response_format or params" if "response_format" in body else "params"
    return CallError(400, f"{what}: vLLM refuses them: {error}")
