"""A seed for every sample of every row, so that a resume, and a run anew, ask the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from llm_datagen.config import check_whole
from llm_datagen.errors import ConfigError
from llm_datagen.llm.cache.scope import row_key
from llm_datagen.streams.ids import ID_FIELD

SEED = "seed"
"""The field of a request; adapters send it under the name of their API."""
_BITS = 31
"""What all APIs take that take a seed."""


class Speaker(Protocol):
    """An adapter."""

    takes_seed: bool


def checked_seed(seed: int | None, adapters: Iterable[Speaker], params: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the seed of an operator; None for None.

    Args:
        seed: as the user gave it.
        adapters: of all endpoints.
        params: of the operator, and of its endpoints.

    Raises:
        ConfigError: when it is no whole number, an API takes no seeds, or `params` have one as well.
    """
    if seed is None:
        return None
    check_whole(SEED, seed)
    for adapter in adapters:
        if not adapter.takes_seed:
            raise ConfigError(f"{type(adapter).__name__} speaks an API that takes no seeds: leave seed out")
    if any(SEED in each for each in params):
        raise ConfigError("a seed is in params and in seed: give one; that in params is the same for all rows")
    return seed


def seed_of(seed: int, row: Mapping[str, Any], sample: int) -> int:
    """Return the seed of a sample of a row: by the row's id; of a row that has none, by its fields."""
    row_id = row.get(ID_FIELD)
    of = json.dumps([seed, row_key(row) if row_id is None else row_id, sample], default=str)
    return int.from_bytes(hashlib.blake2b(of.encode(), digest_size=8).digest()) >> (64 - _BITS)
