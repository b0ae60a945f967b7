"""Which shard this process is to run, where others start one process for each: Slurm arrays, Kubernetes Jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import advice
from llm_datagen.runs.sharded import SHARDS

SLURM = "SLURM_ARRAY_TASK_ID"
KUBERNETES = "JOB_COMPLETION_INDEX"


def shard_given(text: str) -> tuple[int, int]:
    """Return the number of a shard, and how many there are, of ``3/16``.

    Raises:
        ConfigError: when the text is no shard.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None:
        raise ConfigError(f"--shard {text}: must be K/N, such as 3/16, the first one 0/16; or env")
    return _checked(f"--shard {text}", int(found[1]), int(found[2]))


def shard_of_environment(environment: Mapping[str, str], shards: int | None) -> tuple[int, int] | None:
    """Return the number of a shard, and how many there are, as a Slurm array or a Kubernetes Job says; None: neither.

    Args:
        environment: the variables of the environment.
        shards: how many shards there are; None when only the environment may say so, as Slurm does.

    Raises:
        ConfigError: when what they say is no shard.
    """
    if SLURM in environment:
        first, step = _number(environment, "SLURM_ARRAY_TASK_MIN", 0), _number(environment, "SLURM_ARRAY_TASK_STEP", 1)
        number, rest = divmod(_number(environment, SLURM) - first, max(1, step))
        if rest:
            raise ConfigError(f"{SLURM}={environment[SLURM]} is none of the array's tasks")
        count = _number(environment, "SLURM_ARRAY_TASK_COUNT", 0)
        if shards is not None and count and count != shards:
            raise ConfigError(
                f"the Slurm array has {count} tasks, and there are {shards} shards: give --array=0-{shards - 1}"
            )
        return _checked(SLURM, number, _known(shards or count, SLURM))
    if KUBERNETES in environment:
        return _checked(KUBERNETES, _number(environment, KUBERNETES), _known(shards, KUBERNETES))
    return None


def _known(shards: int | None, name: str) -> int:
    if not shards:
        raise ConfigError(f"{name} says which shard this is, and not how many there are: give --shards N")
    return shards


def _checked(name: str, number: int, count: int) -> tuple[int, int]:
    if not 0 <= number < count:
        raise ConfigError(f"{name}: shard {number} of {count}; shards are numbered from 0 to {count - 1}")
    return number, count


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise ConfigError(f"{name} must be a number, not {text!r}") from None


def check_same(given: Mapping[str, Any], run_state: Mapping[str, Any]) -> None:
    """Check that a task means the run that is there: its number of shards, and its merge.

    Args:
        given: what the task says of `shards` and `merge`, as far as it says it.
        run_state: the run state of the whole.

    Raises:
        ConfigError: when it says another one; says what the run has.
    """
    known = run_state.get(SHARDS)
    if known is None:
        return  # a run that is not in shards is refused as such
    name, count, merge = run_state["pipeline_id"], known["count"], known["merge"]
    if given.get("shards", count) != count:
        ways = advice(f"shards={count}", f"--shards {count}, or --shard K/{count}")
        raise ConfigError(f"run {name!r} has {count} shards, not {given['shards']}; give {ways}, or choose another id")
    if given.get("merge", merge) != merge:
        raise ConfigError(
            f"run {name!r} was made with merge={merge!r}, not {given['merge']!r}; leave it out, or choose another id"
        )
