"""What the entry of a node in a run state says it is. Whoever only shows runs starts here: no stream is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Entry = Mapping[str, Any]
"""The entry of a node in a run state."""

MARK = "is_output"
"""The key of the node whose stream a pipeline file calls the output (`to: output`); a run without has none."""


def is_id_stripper(entry: Entry) -> bool:
    """Return whether it copies rows to an output without `_i`."""
    return "id_column" in entry
