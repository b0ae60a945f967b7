"""What becomes of rows that fail: four of a node's settings, together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from llm_datagen.config.choices import OnError
from llm_datagen.config.node import NodeSettings
from llm_datagen.config.setting import settings_in

_OF_NODE = settings_in(NodeSettings)

SHARE_ROWS = 100
"""A share of rows that fail (`max_errors` as a fraction) counts when so many rows are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """What becomes of a row whose operator raises, or that cannot be parsed (M24): four of a node's settings.

    Attributes:
        on_error: "fail", "skip" or "dead_letter".
        max_errors: how many rows may be skipped or dead-lettered: a number, a share of the rows done, or any number.
        retries: how often a call that raised is made again first. Rows that cannot be parsed are not tried again.
        retry_wait: seconds before the first retry, about.
    """

    on_error: OnError = _OF_NODE["on_error"].default
    max_errors: int | float | None = _OF_NODE["max_errors"].default
    retries: int = _OF_NODE["retries"].default
    retry_wait: float = _OF_NODE["retry_wait"].default

    def __post_init__(self) -> None:
        for each in fields(self):
            _OF_NODE[each.name].check(each.name, getattr(self, each.name))

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Return the policy that a node's settings say."""
        return cls(**{each.name: settings[each.name] for each in fields(cls)})

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return asdict(self)

    def is_exceeded(self, errors: int, rows: int) -> bool:
        """Return whether `errors` among `rows` that are done are too many."""
        if self.max_errors is None:
            return False
        if isinstance(self.max_errors, float):
            return rows >= SHARE_ROWS and errors > self.max_errors * rows
        return errors > self.max_errors
