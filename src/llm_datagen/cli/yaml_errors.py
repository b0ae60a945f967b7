"""What is wrong with a YAML file: the path of the key, what was given, what was expected, what may be meant."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llm_datagen.errors.advice import did_you_mean

_PLAIN_WORDS = {
    "a valid string": "text",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid list": "a list",
}


def describe(error: ValidationError, model: type[BaseModel], elsewhere: Mapping[str, str]) -> str:
    """Return all problems as text: one as a sentence, several as a line each.

    Args:
        error: what pydantic found.
        model: the model of the whole file.
        elsewhere: what to do with keys at its top that belong elsewhere.
    """
    found = [_sentence(problem, model, elsewhere) for problem in error.errors()]
    if len(found) == 1:
        return found[0]
    return f"{len(found)} things are wrong\n" + "\n".join(f"  {line}" for line in found)


def key_path(keys: Sequence[str | int]) -> str:
    """Return the path of a key as people write it, such as ``operators[1].with.model``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".") or "the file"


def _sentence(problem: ErrorDetails, model: type[BaseModel], elsewhere: Mapping[str, str]) -> str:
    keys = problem["loc"]
    if problem["type"] == "invalid_key" or keys[-1] == "[key]":  # the key itself is wrong, not what it holds
        holder = keys[:-1] if problem["type"] == "invalid_key" else keys[:-2]
        return f"{key_path(holder)}: keys must be text, not {problem['input']!r}"
    return f"{key_path(keys)}: {_what(problem, model, elsewhere)}"


def _what(problem: ErrorDetails, model: type[BaseModel], elsewhere: Mapping[str, str]) -> str:
    given = problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            holder = _model_at(model, problem["loc"][:-1])
            known = [field.alias or name for name, field in holder.model_fields.items()] if holder else []
            *above, key = problem["loc"]
            return f"this key is not known; {did_you_mean(str(key), known, None if above else elsewhere)}"
        case "missing":
            return "this key is missing"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must hold keys and values, not {given!r}"
        case "setting":  # as its table of settings says it
            return problem["msg"]
        case "too_short" | "string_too_short":
            return "must not be empty"
        case _:
            text = problem["msg"].removeprefix("Input should be ")
            return f"must be {_PLAIN_WORDS.get(text, text)}, not {given!r}"


def _model_at(model: type[BaseModel], keys: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model at a path."""
    annotation: Any = model
    for key in keys:
        if isinstance(key, str):
            fields = annotation.model_fields
            annotation = next(f.annotation for name, f in fields.items() if key in {name, f.alias})
        annotation = _unwrapped(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _unwrapped(annotation: Any) -> Any:
    """Return the model within ``list[…]``, ``Annotated[…]``, ``… | None``; anything else as it is."""
    while get_origin(annotation) in {list, Annotated, Union, types.UnionType}:
        annotation = get_args(annotation)[0]
    return annotation
