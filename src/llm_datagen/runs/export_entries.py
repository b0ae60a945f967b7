"""What a run state says of the exports of a run, as plain data: enough to show them, and nothing that makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY = "exports"
"""Where the exports stand in a run state."""


def exports_of(run_state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the exports of a run as plain data; `rows` is None of one that is not made, or is to be made again."""
    names = ("kind", "path", "rows", "failed", "parts")
    return [{name: entry.get(name) for name in names} for entry in run_state.get(KEY, ())]
