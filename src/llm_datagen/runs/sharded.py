"""Runs in shards, as all who look at runs know them: by a key of the run state. What they are, `shards` knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import advice

SHARDS = "shards"
"""The folder of the shards within that of their run; and the key of its run state that says how many there are."""


def is_sharded(run_state: Mapping[str, Any]) -> bool:
    """Return whether a run state is that of a run in shards."""
    return SHARDS in run_state


def refuse_sharded(run_state: Mapping[str, Any], verb: str) -> None:
    """Refuse to go on with a run in shards as if it were one run.

    Args:
        run_state: its run state.
        verb: what was to be done with it: "resume", "replay", "create".

    Raises:
        ConfigError: when it is one.
    """
    if not is_sharded(run_state):
        return
    pipeline_id = run_state["pipeline_id"]
    raise ConfigError(
        f"run {pipeline_id!r} is in shards: "
        + advice(
            f"ShardedPipeline(pipeline).{verb}({pipeline_id!r}) goes on with it",
            f"give --shards {run_state[SHARDS]['count']}: a run keeps the shards that it was made with",
        )
    )


def refuse_unsharded(run_state: Mapping[str, Any]) -> None:
    """Refuse to go on in shards with a run that is not in shards.

    Raises:
        ConfigError: when it is not.
    """
    if not is_sharded(run_state):
        raise ConfigError(
            f"run {run_state['pipeline_id']!r} was not made in shards, and a run stays what it is: resume it without "
            "shards, or create another one"
        )


def refuse_whole(run_state: Mapping[str, Any], use: str) -> None:
    """Refuse to look at a run in shards as if its streams were its own: they are those of its shards.

    Args:
        run_state: its run state.
        use: what looks at all shards.

    Raises:
        ConfigError: when it is one.
    """
    if is_sharded(run_state):
        raise ConfigError(f"run {run_state['pipeline_id']!r} is in shards: {use} looks at all of them")


def no_diff(pipeline_id: str) -> ConfigError:
    """Return the error that refuses to compare a run in shards with the code."""
    return ConfigError(
        f"run {pipeline_id!r} is in shards, of which there is no diff: a resume refuses operators that were edited, "
        "says which, and changes nothing"
    )
