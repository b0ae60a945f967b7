"""Inputs whose rows are computed (`Generate`, `Cycle`), as a pipeline is given them, also as a dict in YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.pipeline.memory_rows import check_rows
from llm_datagen.streams import Cycle, Generate, Source, StreamFactory
from llm_datagen.streams.inputs.generated import only
from llm_datagen.streams.source import streams_of


def check_input_rows(name: str, value: Any) -> Any:
    """Return the rows of an input, or what they are computed from.

    Args:
        name: the setting.
        value: rows; `Generate` or `Cycle`; or, as YAML says it, ``{"generate": {"topic": […]}, "n": …, "seed": …}``, or
            ``{"cycle": uri, "times": …, "n": …}``.

    Raises:
        ConfigError: when it is none of these.
    """
    if isinstance(value, Generate | Cycle):
        return value
    if not isinstance(value, Mapping):
        return check_rows(name, value)
    try:
        if "generate" in value:
            given = only(value, ("generate", "n", "seed"))
            return Generate(given.pop("generate"), **given)
        if "cycle" in value:
            given = only(value, ("cycle", "times", "n"))
            return Cycle(given.pop("cycle"), **given)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    raise ConfigError(
        f"{name} must be rows: a list or an iterator of dicts; or {{generate: columns with their values, n: …}}; "
        f"or {{cycle: URI, times: …}}, not dict with other keys ({', '.join(map(str, value))})"
    )


def refuse_endless(input_uri: str, rows: Any, readers: int, *, streaming: bool) -> None:
    """Refuse an input without end where a node waits for the end of the one before it.

    Args:
        input_uri: the URI of an input.
        rows: what it is made from, if it is not there yet.
        readers: how many nodes read what its reader writes.
        streaming: whether they run at once.

    Raises:
        ConfigError: when that is so.
    """
    if streaming or not readers:
        return
    source = StreamFactory.source(input_uri)
    if (isinstance(rows, Generate) and rows.n is None) or (not isinstance(rows, Generate) and is_endless(source)):
        raise no_end()


def no_end() -> ConfigError:
    """Return the error of an input without end where a node waits for the end of the one before it."""
    return ConfigError(
        "the input has no end, and nodes that run one after the other wait for it: give streaming=True, or a "
        "number of rows (n=…)"
    )


def is_endless(source: Source) -> bool:
    """Return whether a source is there and has no end."""
    streams: Sequence[Any] = streams_of(source)
    return any(stream.is_there() and stream.is_endless for stream in streams)
