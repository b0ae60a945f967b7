"""What is wrong with a YAML file: the path of the key, what was given, what was expected, what may be meant."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import did_you_mean

_PLAIN_WORDS = {
    "a valid string": "text",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid list": "a list",
}


class SpecError(ConfigError):
    """Raised when several things are wrong with a file.

    Args:
        problems: a sentence each, which begins with the path of the key.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def problems_in(error: ConfigError) -> Sequence[str]:
    """Return what an error says is wrong, a sentence each."""
    return error.problems if isinstance(error, SpecError) else [str(error)]


@dataclass(frozen=True, slots=True)
class Hints:
    """What to do with keys that belong elsewhere, or are missing.

    Attributes:
        top: of keys at the top of a file.
        inner: of keys of a node.
    """

    top: Mapping[str, str]
    inner: Mapping[str, str] = field(default_factory=dict)


def problems_of(error: ValidationError, model: type[BaseModel], hints: Hints) -> list[str]:
    """Return all problems, a sentence each, which begins with the path of the key.

    Args:
        error: what pydantic found.
        model: the model of the whole file.
        hints: what to do with some keys.
    """
    return [_sentence(problem, model, hints) for problem in error.errors()]


def key_path(keys: Sequence[str | int]) -> str:
    """Return the path of a key as people write it, such as ``operators[1].with.model``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".") or "the file"


def _sentence(problem: ErrorDetails, model: type[BaseModel], hints: Hints) -> str:
    keys = problem["loc"]
    if problem["type"] == "invalid_key" or keys[-1] == "[key]":  # the key itself is wrong, not what it holds
        holder = keys[:-1] if problem["type"] == "invalid_key" else keys[:-2]
        return f"{key_path(holder)}: keys must be text, not {problem['input']!r}: quote it"
    return f"{key_path(keys)}: {_what(problem, model, hints)}"


def _what(problem: ErrorDetails, model: type[BaseModel], hints: Hints) -> str:
    given = problem["input"]
    *above, key = problem["loc"]
    known_elsewhere = hints.inner if len(above) == 2 and above[0] == "nodes" else {} if above else hints.top
    match problem["type"]:
        case "extra_forbidden":
            holder = _model_at(model, problem["loc"][:-1])
            known = [field.alias or name for name, field in holder.model_fields.items()] if holder else []
            return f"this key is not known; {did_you_mean(str(key), known, known_elsewhere)}"
        case "missing":
            hint = known_elsewhere.get(str(key))
            return f"this key is missing{f'; {hint}' if hint else ''}"
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
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        elif isinstance(key, str):
            fields = annotation.model_fields
            annotation = next(f.annotation for name, f in fields.items() if key in {name, f.alias})
        annotation = _unwrapped(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _unwrapped(annotation: Any) -> Any:
    """Return the model within ``list[…]``, ``Annotated[…]``, ``… | None``; anything else as it is."""
    while get_origin(annotation) in {list, Annotated, Union, types.UnionType}:
        annotation = get_args(annotation)[0]
    return annotation
