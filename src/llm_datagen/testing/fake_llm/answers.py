"""Answers of a fake endpoint: a given text, or an answer that is valid against the request's schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from llm_datagen.streams.formats.json_text import dumps

Answer = str | Callable[[Sequence[Mapping[str, Any]]], Any] | None
"""A text; a function from the messages to a text, to JSON data, or to `ToolCalls`; or None: by the schema of the
request."""


class ToolCalls:
    """An answer that calls tools.

    Args:
        *calls: the name of a tool and its arguments, each.
    """

    def __init__(self, *calls: tuple[str, Mapping[str, Any]]) -> None:
        self._calls = calls

    def message(self, before: int) -> dict[str, Any]:
        """Return the message, with ids for the calls.

        Args:
            before: messages that came before.
        """
        made = [
            {
                "id": f"call_{before}_{number}",
                "type": "function",
                "function": {"name": name, "arguments": dumps(dict(arguments)).decode()},
            }
            for number, (name, arguments) in enumerate(self._calls)
        ]
        return {"role": "assistant", "content": None, "tool_calls": made}


_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "jetty", "knoll", "larch")
_FORMATS = {
    "date": "2024-05-17",
    "date-time": "2024-05-17T09:30:00Z",
    "time": "09:30:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "7d0f5a0e-93a1-4a5c-8a54-0f6d8f2f1c11",
    "ipv4": "192.0.2.1",
}
_SHALLOW = 5
_DEEPEST = 30


def answer_of(answer: Answer, request: Mapping[str, Any], seed: int | bytes) -> str | ToolCalls:
    """Return the text of an answer, or the calls of tools that it makes.

    Args:
        answer: what the server was given as ``answer``.
        request: the body of the request.
        seed: for what is made by the schema; the same seed gives the same answer.

    Raises:
        ValueError: when the request's schema asks for what cannot be made here.
    """
    if isinstance(answer, str):
        return answer
    if answer is not None:
        made = answer(request["messages"])
        return made if isinstance(made, str | ToolCalls) else dumps(made).decode()
    wanted = request.get("response_format") or {}
    schema = (wanted.get("json_schema") or {}).get("schema")
    tool = forced_tool(request)
    if tool is not None:
        schema = tool.get("parameters", {"type": "object"})
    if schema is not None:
        return dumps(value_of(schema, Random(seed))).decode()
    return "{}" if wanted.get("type") == "json_object" else _words(Random(seed), 5)


def forced_tool(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the function that the model has to call, if the request says so."""
    choice = request.get("tool_choice")
    name = choice["function"]["name"] if isinstance(choice, Mapping) else None
    named = [tool["function"] for tool in request.get("tools") or () if tool["function"]["name"] == name]
    return named[0] if named else None


def structured_mode(request: Mapping[str, Any]) -> str | None:
    """Return how a request asks for JSON, in the words of ``LLMOperator(structured=…)``; None when it does not."""
    if forced_tool(request) is not None:
        return "tool"
    kind = (request.get("response_format") or {}).get("type")
    return kind if isinstance(kind, str) and kind != "text" else None


def value_of(schema: Any, random: Random) -> Any:
    """Return JSON data that is valid against a schema of the kind that structured outputs know.

    Raises:
        ValueError: on a schema that needs more than this, such as ``pattern``; give such a server an `answer`.
    """
    return _Maker(schema, random).make(schema, 0)


class _Maker:
    def __init__(self, root: Any, random: Random) -> None:
        self._root = root
        self._random = random

    def make(self, schema: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("the schema has no end: give the server an answer of your own")
        if schema is True or schema == {}:
            return None
        if "$ref" in schema:
            return self.make(self._resolved(schema["$ref"]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self.make(self._chosen(schema[word], depth), depth + 1)
        for word in ("pattern", "not", "if", "patternProperties", "contains"):
            if word in schema:
                raise ValueError(f"no answer can be made for {word!r} in a schema: give the server an answer")
        if "allOf" in schema:
            return self.make(self._merged(schema), depth + 1)
        return self._of_type(schema, depth)

    def _of_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = self._random.choice([each for each in kind if each != "null"] if depth < _SHALLOW else kind[-1:])
        match kind:
            case "object":
                return {name: self.make(part, depth + 1) for name, part in schema.get("properties", {}).items()}
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer" | "number":
                return self._number(schema, is_whole=kind == "integer")
            case "boolean":
                return self._random.random() < 0.5
            case "null":
                return None
        raise ValueError(f"no answer can be made for type {kind!r} in a schema: give the server an answer")

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", max(least, 3))
        made = [self.make(part, depth + 1) for part in schema.get("prefixItems", [])]
        wanted = (
            least
            if depth > _SHALLOW
            else self._random.randint(max(least, min(1, most)), max(least, min(most, least + 3)))
        )
        for _ in range(20 * wanted):
            if len(made) >= wanted:
                return made
            item = self.make(schema.get("items", {}), depth + 1)
            if not schema.get("uniqueItems") or item not in made:
                made.append(item)
        if len(made) < least:
            raise ValueError(f"no {least} different items can be made for a schema: give the server an answer")
        return made

    def _string(self, schema: Mapping[str, Any]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = _words(self._random, 2)
        while len(text) < schema.get("minLength", 0):
            text += " " + _words(self._random, 2)
        return text[: schema.get("maxLength", len(text))]

    def _number(self, schema: Mapping[str, Any], *, is_whole: bool) -> int | float:
        step = schema.get("multipleOf", 1 if is_whole else 0.5)
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        if low is None:
            low = 0 if high is None or high >= 0 else high - 100 * step
        if high is None:
            high = low + 100 * step
        first = -(-low // step)
        first += first * step == schema.get("exclusiveMinimum")
        last = high // step
        last -= last * step == schema.get("exclusiveMaximum")
        if first > last:  # narrower than a step: a number between
            if is_whole or "multipleOf" in schema:
                raise ValueError(f"no number from {low} to {high} is a multiple of {step}")
            return float((low + high) / 2)
        number = self._random.randint(int(first), int(last)) * step
        return int(number) if is_whole else number

    def _chosen(self, branches: Sequence[Any], depth: int) -> Any:
        if depth > _SHALLOW:  # a recursive schema ends in its plain branches
            branches = [each for each in branches if "$ref" not in each] or branches
        return self._random.choice(branches)

    def _merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            resolved = self._resolved(part["$ref"]) if "$ref" in part else part
            properties = {**merged.get("properties", {}), **resolved.get("properties", {})}
            merged = {**merged, **resolved} | ({"properties": properties} if properties else {})
        return merged

    def _resolved(self, reference: str) -> Any:
        found = self._root
        for name in reference.removeprefix("#").strip("/").split("/"):
            if name:
                try:
                    found = found[name.replace("~1", "/").replace("~0", "~")]
                except (KeyError, TypeError):
                    raise ValueError(f"the schema refers to {reference!r}, which is not in it") from None
        return found


def _words(random: Random, count: int) -> str:
    return " ".join(random.choice(_WORDS) for _ in range(count))
