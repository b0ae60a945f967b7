"""What the answers of models depend on, for the fingerprint of an operator."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from inspect import signature
from typing import Any, get_args

from llm_datagen.llm.endpoints import Endpoint
from llm_datagen.llm.import_string import imported, is_import_path
from llm_datagen.operators.fingerprint import Parts, parts_of
from llm_datagen.operators.fingerprint.data import data_digest, data_part

_LONG = {"prompt", "system", "examples", "images", "text", "query", "rubric"}
"""Texts of users' own, of which only a digest is kept."""


def identity_parts(
    arguments: Mapping[str, Any],
    endpoints: Sequence[Endpoint],
    output: Any,
    *,
    init: Callable[..., None],
    templates: Container[str] = (),
) -> Parts:
    """Return the parts, by the names of the operator's arguments.

    Args:
        arguments: arguments as the user gave them; each field of `params` is a part of its own.
        endpoints: where calls go. Of each, the model, its own params and the adapter count.
        output: what an answer must look like, as the user gave it.
        init: whose arguments these are. What has its default is no part, so an argument that is new changes nothing.
        templates: the fields of `params` that are made of each row.
    """
    params: Mapping[str, Any] = arguments.get("params") or {}
    parts = given_parts({name: value for name, value in arguments.items() if name != "params"}, init=init)
    for name, value in params.items():
        # A run of a version that knew no templates has sent their texts as they are.
        part = f"params.{name}, a template" if name in templates else f"params.{name}"
        parts[part] = _part(name, value, shows_text=True)
    parts["model"] = " | ".join(sorted({each.model for each in endpoints}))
    parts.update(_output_parts(imported(output, what="output") if is_import_path(output) else output))
    own = sorted(str(data_digest([each.model, _plain(each.params)])) for each in endpoints if each.params)
    if own:
        parts["params of endpoints"] = data_digest(own)
    engines = sorted({each.engine_identity for each in endpoints if each.engine_identity})
    if engines:
        parts["engine"] = data_digest(engines)
    adapters = [each.address.adapter for each in endpoints]
    parts["adapter"] = " | ".join(sorted({type(adapter).__qualname__ for adapter in adapters}))
    for adapter in adapters:
        parts.update({f"adapter: {name}": value for name, value in parts_of(adapter).items()})
    return parts


def given_parts(arguments: Mapping[str, Any], *, init: Callable[..., None]) -> Parts:
    """Return a part for each argument that does not have its default, so that one that is new changes nothing.

    Args:
        arguments: as the user gave them.
        init: whose arguments these are.
    """
    defaults = {parameter.name: _plain(parameter.default) for parameter in signature(init).parameters.values()}
    return {
        name: _part(name, value, shows_text=name not in _LONG)
        for name, value in arguments.items()
        if _plain(value) != defaults[name]
    }


def _part(name: str, value: Any, *, shows_text: bool) -> str | None:
    return data_part(name, _plain(value), shows_text=shows_text)


def _output_parts(output: Any) -> Parts:
    if isinstance(output, str | Mapping):
        return {"output": data_digest(_plain(output))}
    from pydantic import TypeAdapter

    # A type that pydantic knows, such as a model or a list of one: its schema, and the code of its validators.
    parts: dict[str, str | None] = {"output": data_digest(TypeAdapter(output).json_schema())}
    for model in (output,) if isinstance(output, type) else get_args(output):
        parts.update({f"output: {key}": value for key, value in parts_of(model).items()})
    return parts


def _plain(value: Any) -> Any:
    """Return JSON data as dicts and lists, whatever kinds of mappings and sequences it was given as."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(part) for part in value]
    return value
