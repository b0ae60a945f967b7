"""Google's Gemini API: ``POST {base_url}/models/MODEL:generateContent``."""

from __future__ import annotations

import mimetypes
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from llm_datagen.llm.finish_reasons import Ending
from llm_datagen.llm.http.adapters import ChatAdapter, Reply
from llm_datagen.llm.http.own_turns import as_extra
from llm_datagen.llm.http.providers.translation import (
    OwnPart,
    ToolCall,
    ToolResult,
    Turn,
    forced_function,
    function_of,
    image_in,
    system_parts,
    take_limit,
    text_in,
    turns,
)
from llm_datagen.llm.http.reading import counts_of, inner, named_counts
from llm_datagen.llm.http.streaming.assembly import Streaming
from llm_datagen.llm.http.streaming.candidates import CandidatesStreaming
from llm_datagen.llm.types import ChatRequest

if TYPE_CHECKING:
    from llm_datagen.llm.http.batch.gemini import GeminiBatchAdapter

_FIELDS = ("safetySettings", "tools", "toolConfig", "cachedContent", "labels", "serviceTier", "store")
"""Fields of a request; all other params are those of its ``generationConfig``."""
_OWN_NAMES = {
    "top_p": "topP",
    "top_k": "topK",
    "stop": "stopSequences",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
"""What chat completions call them, and Gemini."""
_API = "Gemini"
_BLOCKED = "prompt blocked: "
_BAD_KEY = "API_KEY_INVALID"


class GeminiAdapter(ChatAdapter):
    """Speaks generateContent.

    The params are those of ``generationConfig``, such as ``thinkingConfig``, and fields of the request, such as
    ``safetySettings``; ``max_tokens``, ``stop``, ``top_p`` and the like, and tools as chat completions have them, are
    understood, too.
    """

    base_url = "https://generativelanguage.googleapis.com/v1beta"
    base_url_env = "GEMINI_BASE_URL"
    api_key_env = "GEMINI_API_KEY"
    structured_modes = ("json_schema", "json_object", "tool", "prompt")
    most_choices = 8
    prompt_cache = "itself"
    takes_seed = True
    url_ends = ("/models",)

    def path(self, model: str) -> str:
        """Return the path of the model."""
        return f"/models/{quote(model.removeprefix('models/'), safe='')}:generateContent"

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        """Return the key as ``x-goog-api-key``."""
        return {"x-goog-api-key": api_key} if api_key else {}

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the request: system messages become a field of it.

        Raises:
            PromptError: when a call of a tool in the row, or its result, cannot be understood, or more is said of an
                image than the API can be told.
        """
        params = dict(request.params)
        found = turns(request, _API)
        ids = _own_ids(found)
        result: dict[str, Any] = {
            "contents": [
                {
                    "role": "model" if role == "assistant" else "user",
                    "parts": [_part(part, request, ids) for part in parts],
                }
                for role, parts in found
            ]
        }
        system = system_parts(request)
        if system:
            result["systemInstruction"] = {"parts": [_part(part, request) for part in system]}
        forced = forced_function(params)
        if forced is not None:
            del params["tool_choice"]
            result["toolConfig"] = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [forced]}}
        if "tools" in params:
            params["tools"] = list(_tools(params["tools"]))
        result |= {name: params.pop(name) for name in _FIELDS if name in params}
        config = _generation_config(params)
        if request.choices > 1:
            config["candidateCount"] = request.choices
        if config:
            result["generationConfig"] = config
        return result

    def read(self, data: Any) -> Reply:
        """Return the texts of the first candidate as one; none when the prompt was blocked."""
        blocked = inner(data, "promptFeedback", "blockReason")
        if blocked and not data.get("candidates"):
            return Reply(text=None, finish_reason=f"{_BLOCKED}{blocked}", usage=self.usage(data))
        candidate = data["candidates"][0]
        parts = inner(candidate, "content", "parts") or []
        texts = [part["text"] for part in parts if "text" in part and not part.get("thought")]
        calls = [part["functionCall"] for part in parts if "functionCall" in part]
        extras: dict[str, Any] = {
            "reasoning": "".join(part["text"] for part in parts if "text" in part and part.get("thought")),
            "tool_calls": calls,
            "logprobs": candidate.get("logprobsResult"),
        }
        if calls and any("thoughtSignature" in part for part in parts):
            extras |= as_extra(_API, [part for part in parts if part != {"text": ""}])  # as streams end
        reason = candidate.get("finishReason")
        return Reply(
            text="".join(texts) if texts else None,
            finish_reason="tool_calls" if calls and reason == "STOP" else reason,
            usage=self.usage(data),
            extras={name: value for name, value in extras.items() if value},
            model=data.get("modelVersion"),
        )

    def ending(self, finish_reason: str | None) -> Ending:
        """Return what a reason to stop means: a prompt that was blocked is withheld, whatever the reason for it."""
        if finish_reason is not None and finish_reason.startswith(_BLOCKED):
            return Ending.WITHHELD
        return super().ending(finish_reason)

    def amounts_to(self, status: int, data: Any) -> int:
        """Return the status that a failure amounts to: a wrong key is sent as 400."""
        is_bad_key = any(detail.get("reason") == _BAD_KEY for detail in _details(data))
        return 401 if is_bad_key else super().amounts_to(status, data)

    def retry_after(self, data: Any) -> float | None:
        """Return the seconds of the ``retryDelay``, which stands in the details of the error."""
        for detail in _details(data):
            delay = detail.get("retryDelay")
            if isinstance(delay, str) and delay.endswith("s"):
                try:
                    return max(float(delay[:-1]), 0.0)
                except ValueError:
                    return None
        return None

    def choices_in(self, data: Any) -> list[Any]:
        """Return the body with one candidate at a time, by their index; as it is when it has none."""
        candidates = sorted(data.get("candidates") or (), key=lambda candidate: candidate.get("index") or 0)
        return [{**data, "candidates": [candidate]} for candidate in candidates] or [data]

    def streaming(self) -> Streaming:
        """Return that of streamGenerateContent."""
        return CandidatesStreaming()

    def usage(self, data: Any) -> Mapping[str, int]:
        """Return the token counts under the names of chat completions. Thoughts are a part of the answer there."""
        found = counts_of(inner(data, "usageMetadata"))
        if "promptTokenCount" not in found:
            return {}
        thoughts = found.get("thoughtsTokenCount", 0)
        return named_counts(
            prompt=found["promptTokenCount"] + found.get("toolUsePromptTokenCount", 0),
            completion=found.get("candidatesTokenCount", 0) + thoughts,
            total=found.get("totalTokenCount"),
            cached=found.get("cachedContentTokenCount"),
            reasoning=thoughts,
        )

    def batch(self) -> GeminiBatchAdapter:
        """Return the batch mode."""
        from llm_datagen.llm.http.batch.gemini import GeminiBatchAdapter

        return GeminiBatchAdapter()


def _generation_config(params: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = dict(params.pop("generationConfig", {}))
    limit = take_limit(params)
    if limit is not None:
        config["maxOutputTokens"] = limit
    if "response_format" in params:
        wanted = params.pop("response_format")
        config["responseMimeType"] = "application/json"
        if "json_schema" in wanted:
            config["responseJsonSchema"] = wanted["json_schema"]["schema"]
    if isinstance(params.get("stop"), str):
        params["stop"] = [params["stop"]]
    return config | {_OWN_NAMES.get(name, name): value for name, value in params.items()}


def _own_ids(found: Sequence[Turn]) -> set[str]:
    """Return the ids that calls have in turns which are sent back as they came: their results name them."""
    parts = [part.part for turn in found for part in turn.parts if isinstance(part, OwnPart)]
    return {found for part in parts if (found := inner(part, "functionCall", "id"))}


def _part(part: Any, request: ChatRequest, ids: Collection[str] = ()) -> Any:
    if isinstance(part, OwnPart):
        return part.part
    if isinstance(part, ToolCall):
        return {"functionCall": {"name": part.name, "args": part.arguments}}
    if isinstance(part, ToolResult):
        of = {"id": part.id} if part.id in ids else {}
        return {"functionResponse": {**of, "name": part.name, "response": {"result": part.text}}}
    text, image = text_in(part), image_in(part, request, _API)
    if text is not None:
        return {"text": text}
    if isinstance(image, str):
        kind, _ = mimetypes.guess_type(image.partition("?")[0])
        return {"fileData": {"fileUri": image, **({"mimeType": kind} if kind else {})}}
    if image is not None:
        return {"inlineData": {"mimeType": image.media_type, "data": image.data}}
    return part


def _tools(tools: Sequence[Any]) -> Iterator[Any]:
    """Yield tools as this API has them: functions together, and others as they are."""
    functions = []
    for tool in tools:
        function = function_of(tool)
        if function is None:
            yield tool
            continue
        known = {name: function[name] for name in ("name", "description") if name in function}
        schema = {"parametersJsonSchema": function["parameters"]} if "parameters" in function else {}
        functions.append(known | schema)
    if functions:
        yield {"functionDeclarations": functions}


def _details(data: Any) -> Iterator[Mapping[str, Any]]:
    details = inner(data, "error", "details")
    yield from (each for each in details if isinstance(each, Mapping)) if isinstance(details, list) else ()
