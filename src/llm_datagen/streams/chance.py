"""Chance that is the same in every run: it comes from a seed and a row's id, number or value."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from llm_datagen.streams.formats.json_text import dumps

_RANGE = 2**64


def number_of(*parts: Any) -> int:
    """Return a number from 0 to 2**64 - 1 for plain data: evenly spread, the same in every process and version."""
    return int.from_bytes(blake2b(dumps(parts), digest_size=8).digest(), "big")


def fraction_of(*parts: Any) -> float:
    """Return a number from 0 to below 1 for plain data."""
    return (number_of(*parts) >> 11) / (_RANGE >> 11)
