"""What the requests of a fake endpoint ask about, and its answers in vectors and scores."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import orjson


def texts_in(body: Any) -> list[str]:
    """Return what a request asks about: the last message, each text that wants a vector, or the query.

    Raises:
        TypeError, LookupError, AttributeError: when it is no such request.
    """
    if "input" in body:
        texts = [body["input"]] if isinstance(body["input"], str) else list(body["input"])
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("input is no text, and no list of texts")
        return texts
    if "documents" in body:
        return [str(body["query"])]
    content = body["messages"][-1]["content"]
    return [content if isinstance(content, str) else orjson.dumps(content).decode()]


def vectors_of(body: Mapping[str, Any], length: int, fault: str | None) -> tuple[dict[str, Any], int]:
    """Return the answer to a request for vectors, and the tokens of its texts.

    Texts with common words have vectors that are near to one another.

    Args:
        body: the request; ``dimensions`` and ``encoding_format`` are understood.
        length: of the vectors, if the request does not say.
        fault: what is wrong with the answer, by the name of the share in `LLMFaults`.
    """
    texts = texts_in(body)
    length = body.get("dimensions") or length
    vectors = [_vector(text, length + (fault == "wrong_length")) for text in texts]
    if fault == "not_a_number":
        vectors[-1][0] = math.nan
    if body.get("encoding_format") == "base64":
        sent: list[Any] = [base64.b64encode(struct.pack(f"<{len(each)}f", *each)).decode() for each in vectors]
    else:
        sent = list(vectors)
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(sent)]
    tokens = sum(max(1, len(text) // 4) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": body.get("model", ""), "data": _spoilt(data, fault), "usage": usage}, tokens


def scores_of(body: Mapping[str, Any], fault: str | None) -> tuple[dict[str, Any], int]:
    """Return the answer to a request for scores, the best first, and the tokens of its texts.

    The score of a document is the share of the words of the query that it has.

    Args:
        body: the request; ``top_n`` is understood.
        fault: what is wrong with the answer, by the name of the share in `LLMFaults`.
    """
    documents = [each if isinstance(each, str) else str(each["text"]) for each in body["documents"]]
    words = set(str(body["query"]).lower().split())
    scores = [len(words & set(text.lower().split())) / max(1, len(words)) for text in documents]
    if fault == "not_a_number":
        scores[-1] = math.nan
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.get("top_n") or len(scores)]
    results = [{"index": index, "relevance_score": scores[index]} for index in best]
    tokens = sum(max(1, len(text) // 4) for text in (str(body["query"]), *documents))
    return {
        "model": body.get("model", ""),
        "results": _spoilt(results, fault),
        "usage": {"total_tokens": tokens},
    }, tokens


def json_of(value: Any) -> bytes:
    """Return the JSON of an answer, with ``NaN``, which JSON does not know, as some servers send it."""
    return json.dumps(value, separators=(",", ":")).encode()


def _vector(text: str, length: int) -> list[float]:
    vector = [0.0] * length
    vector[0] = 0.01
    for word in text.lower().split():
        digest = int.from_bytes(blake2b(word.encode(), digest_size=8).digest())
        vector[digest % length] += 1.0 if digest >> 32 & 1 else -1.0
    size = math.hypot(*vector)
    return [each / size for each in vector]


def _spoilt(entries: list[dict[str, Any]], fault: str | None) -> list[dict[str, Any]]:
    match fault:
        case "too_few":
            return entries[:-1]
        case "too_many":
            return [*entries, {**entries[-1], "index": len(entries)}]
        case "twice":
            return [{**each, "index": 0} for each in entries] if len(entries) > 1 else [*entries, *entries]
        case "reordered":
            return entries[::-1]
    return entries
