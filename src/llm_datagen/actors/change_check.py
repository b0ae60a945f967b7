"""What `Reconfigure` may change of a node: the same rules for one run, and for a run in shards."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from llm_datagen.config import check_count, check_rate
from llm_datagen.errors import ConfigError
from llm_datagen.messages import Reconfigure


def check_change(command: Reconfigure, batch_sizes: Mapping[str, int], batched: Collection[str]) -> None:
    """Check that a node may be changed so. Nothing is changed.

    Args:
        command: the change.
        batch_sizes: how many rows a batch has, by the id of each node of the run.
        batched: the ids of nodes whose operators take batches.

    Raises:
        ConfigError: when it may not.
    """
    node_id = command.node_id
    if node_id not in batch_sizes:
        raise ConfigError(f"there is no node {node_id!r}; the nodes are {', '.join(batch_sizes)}")
    if command.parallel_size is None and command.batch_size is None and command.rate is None:
        raise ConfigError("nothing to change: say parallel_size, batch_size or rate")
    if command.parallel_size is not None:
        check_count("parallel_size", command.parallel_size)
    if command.rate:
        check_rate("rate", command.rate)
    if command.batch_size is not None:
        check_count("batch_size", command.batch_size)
        if node_id in batched and command.batch_size != batch_sizes[node_id]:
            raise ConfigError(
                f"the operator of {node_id} takes batches: which rows share a call, and the ids of what it makes of "
                f"them, depend on batch_size={batch_sizes[node_id]}, which stays as it is for the whole run"
            )
