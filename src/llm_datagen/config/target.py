"""Targets: how many rows a node writes, exactly, before it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_datagen.config.checks import check_choice, check_count
from llm_datagen.config.choices import TargetRows
from llm_datagen.config.constructor import refuses_unknown
from llm_datagen.config.setting import object_of


@refuses_unknown
@dataclass(frozen=True, slots=True)
class Target:
    """How many rows a node writes, exactly, before it ends.

    Attributes:
        count: how many.
        rows: which rows count: "accepted", those in the output of the node. Rows that it filters do not, nor rows that
            fail, whether they are skipped or dead-lettered.

    Raises:
        ConfigError: when a value is wrong.
    """

    count: int
    rows: TargetRows = "accepted"

    def __post_init__(self) -> None:
        check_count("Target.count", self.count)
        check_choice("Target.rows", self.rows, TargetRows)


def check_target(name: str, value: Any) -> int:
    """Return the number of rows of a target: a whole number of at least 1, a `Target`, or a dict of its fields.

    Raises:
        ConfigError: when it is none of them.
    """
    if isinstance(value, Target | Mapping):
        return object_of(Target, name, value).count
    return check_count(name, value)
