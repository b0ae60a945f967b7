"""Runs that end when all that is in flight waits in jobs at a provider."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.operators.call import has_jobs
from llm_datagen.runs.batch_jobs import DETACH_VARIABLE


def detach(operators: Iterable[Any], *, is_in_shards: bool) -> None:
    """Let the run of some operators in this process end when all that is in flight waits at a provider.

    Args:
        operators: those of the run.
        is_in_shards: whether it is a run in shards.

    Raises:
        ConfigError: when none of them has jobs, or the run is in shards.
    """
    if is_in_shards:
        raise ConfigError("--detach is not for runs in shards: a shard that ends early would end the others")
    if not any(map(has_jobs, operators)):
        raise ConfigError("--detach is for operators with batch_api, and this run has none")
    os.environ[DETACH_VARIABLE] = "1"
