"""Whether a message is as its class says: actors take messages from anybody who has their ref."""

from __future__ import annotations

import functools
from dataclasses import fields, is_dataclass
from typing import Any

from llm_datagen.errors import FailureRecord
from llm_datagen.messages import BlockResult, StageOutcome
from llm_datagen.runs.status import PipelineStatus

_KINDS: dict[str, tuple[type, ...]] = {
    "None": (type(None),),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "BlockResult": (BlockResult,),
    "StageOutcome": (StageOutcome,),
    "FailureRecord": (FailureRecord,),
    "PipelineStatus": (PipelineStatus,),
}
"""The types that are checked, by their names; fields of others are taken as they are."""

_MISSING = object()


def wrong_field(message: Any) -> str:
    """Return which field of a message is not what its class says, and what it must be; an empty string if none is."""
    for name, annotation, kinds in _checked(type(message)):  # type: ignore[arg-type]  # a class is hashable
        if not isinstance(getattr(message, name, _MISSING), kinds):
            return f"its {name} must be {annotation}"
    return ""


@functools.cache
def _checked(kind: type[Any]) -> list[tuple[str, str, tuple[type, ...]]]:
    """Return the fields of a class of messages that are checked, with their types."""
    if not is_dataclass(kind):
        return []
    found = []
    for field in fields(kind):
        parts = str(field.type).split(" | ")
        if all(part in _KINDS for part in parts):
            found.append((field.name, str(field.type), tuple(one for part in parts for one in _KINDS[part])))
    return found
