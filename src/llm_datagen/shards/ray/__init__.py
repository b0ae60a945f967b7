"""Shards on a Ray cluster: one actor a shard, which runs it in a process of its own.

    driver's process                       its own process             nodes of the cluster
    RayExecutor, Connection  ──pipes──►    Broker  ──────Ray──────►    ShardActor ──pipes──► worker process
    `executor`, `connection`               `broker`, `watched`         `actor`                `shards.worker`

The driver's process does not know Ray: it is not taken along when the cluster dies, and connects again.
"""

from llm_datagen.shards.ray.executor import RayExecutor

__all__ = ["RayExecutor"]
