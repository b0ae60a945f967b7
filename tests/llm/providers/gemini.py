"""Google's Gemini API."""

from __future__ import annotations

import json
from typing import Any

from . import streams
from .api import IMAGE_DATA, JSON, KEY, SENT_SCHEMA, WEB_IMAGE, Api, Sent

CALL = {"name": "look_up", "args": {"q": "x"}}
SIGNED = {"functionCall": {"id": "f1", **CALL}, "thoughtSignature": "c2ln"}
USAGE = {
    "promptTokenCount": 27,
    "cachedContentTokenCount": 20,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 8,
    "totalTokenCount": 40,
}


def answer(*parts: Any, reason: str = "STOP") -> Sent:
    """Return a response with one candidate."""
    content = {"role": "model", "parts": [{"text": "hm", "thought": True}, *parts]}
    candidate = {"index": 0, "content": content, "finishReason": reason}
    return Sent({"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "m-1-001", "responseId": "r"})


def candidate(text: str, index: int) -> dict[str, Any]:
    """Return one of several candidates."""
    return {**answer({"text": text}).body["candidates"][0], "index": index}


def error(code: int, status: str, message: str, *details: Any) -> Sent:
    """Return a failure."""
    return Sent({"error": {"code": code, "message": message, "status": status, "details": list(details)}}, code)


def detail(kind: str, **fields: Any) -> dict[str, Any]:
    """Return a detail of a failure."""
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **fields}


GEMINI = Api(
    adapter="gemini",
    title="Gemini",
    base="/v1beta",
    url_env="GEMINI_BASE_URL",
    key_env="GEMINI_API_KEY",
    path="/v1beta/models/m-1:generateContent",
    key_header=("x-goog-api-key", KEY),
    url="https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent",
    priced="gemini-2.5-flash",
    request={
        "systemInstruction": {"parts": [{"text": "Be kind."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "What is it?"}]},
            {"role": "model", "parts": [{"text": "A cat."}]},
            {"role": "user", "parts": [{"text": "And now?"}]},
        ],
        "generationConfig": {"temperature": 0.5, "maxOutputTokens": 50},
    },
    tool_turns=[
        {"role": "user", "parts": [{"text": "Where?"}]},
        {
            "role": "model",
            "parts": [
                {"text": "Hm."},
                {"functionCall": {"name": "look_up", "args": {"q": "x"}}},
                {"functionCall": {"name": "look_up", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look_up", "response": {"result": "Here."}}},
                {"functionResponse": {"name": "look_up", "response": {"result": "There."}}},
                {"text": "Sure?"},
            ],
        },
    ],
    image={"inlineData": {"mimeType": "image/jpeg", "data": IMAGE_DATA}},
    web_image={"fileData": {"fileUri": WEB_IMAGE, "mimeType": "image/png"}},
    schema={"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SENT_SCHEMA}},
    tool={
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "answer", "description": "Takes the answer.", "parametersJsonSchema": SENT_SCHEMA}
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["answer"]}},
    },
    answer=answer({"text": "yes"}),
    structured=answer({"text": JSON}),
    call=answer({"functionCall": CALL}),
    calls=[CALL],
    thoughtful_call=answer(SIGNED),
    round=[
        {"role": "model", "parts": [{"text": "hm", "thought": True}, SIGNED]},
        {
            "role": "user",
            "parts": [{"functionResponse": {"id": "f1", "name": "look_up", "response": {"result": "found x"}}}],
        },
    ],
    tool_answer=answer({"functionCall": {"name": "answer", "args": json.loads(JSON)}}),
    usage={
        "prompt_tokens": 27,
        "completion_tokens": 13,
        "total_tokens": 40,
        "cached_tokens": 20,
        "reasoning_tokens": 8,
    },
    several=(
        Sent({**answer().body, "candidates": [candidate("yes", 0), candidate("no", 1)]}),
        ("generationConfig", "candidateCount"),
    ),
    stream=lambda body: streams.sse(streams.candidates(body), end="\r\n"),
    stream_path="/v1beta/models/m-1:streamGenerateContent?alt=sse",
    stream_fields={},
    seed=("generationConfig", "seed"),
    failures={
        "cut_off": answer({"text": "ye"}, reason="MAX_TOKENS"),
        "filtered_answer": answer(reason="SAFETY"),
        "filtered_prompt": Sent({"promptFeedback": {"blockReason": "OTHER"}, "usageMetadata": USAGE}),
        "empty": answer(),
        "rate_limit": error(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details.",
            detail("QuotaFailure", violations=[{"quotaId": "PerMinute"}]),
            detail("RetryInfo", retryDelay="7s"),
        ),
        "overload": error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
        "bad_request": error(400, "INVALID_ARGUMENT", "Invalid value at 'generation_config.temperature'"),
        "too_long": error(
            400, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number of tokens allowed."
        ),
        "wrong_key": error(
            400, "INVALID_ARGUMENT", f"API key not valid: {KEY}.", detail("ErrorInfo", reason="API_KEY_INVALID")
        ),
        "unknown_model": error(404, "NOT_FOUND", "models/m-1 is not found for API version v1beta"),
        "schema_refused": error(
            400, "INVALID_ARGUMENT", "Unknown name \"responseJsonSchema\" at 'generation_config': Cannot find field."
        ),
        "no_answer": Sent({"responseId": "r"}),
    },
    lacks={"refusal": "a refusal is a text"},
)
