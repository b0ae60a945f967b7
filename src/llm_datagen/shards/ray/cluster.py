"""A Ray cluster, as the process that is connected to it sees it: connecting, its nodes, making actors."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import tempfile
import time
from typing import Any

from llm_datagen.shards.executor import ShardJob
from llm_datagen.shards.ray.options import RayOptions

_NAMES_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.1
_LOCAL_STORE_BYTES = 100_000_000
"""The object store of a Ray that is started here: no row is ever in it. Ray wants 75 MB at least."""


class Cluster:
    """The cluster. Any thread may use it, once it is connected.

    Args:
        options: where it is, and what a shard needs.
    """

    def __init__(self, options: RayOptions) -> None:
        self._options = options
        self._folder_of_ours: str | None = None
        self._runs: set[str] = set()

    def connect(self) -> None:
        """Connect; start a Ray of this machine, if that is what is wanted.

        Raises:
            Exception: whatever Ray raises when it cannot.
        """
        if self._options.address == "local":
            self._start_one()
        else:
            self._init(self._options.address)

    def leave(self) -> None:
        """Leave it; end what was started."""
        import ray

        with contextlib.suppress(Exception):
            ray.shutdown()
        if self._folder_of_ours is not None:
            shutil.rmtree(self._folder_of_ours, ignore_errors=True)

    def own_node(self) -> str:
        """Return the id of the node that this process goes over."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def nodes(self) -> set[str]:
        """Return the ids of the nodes that live."""
        import ray

        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}

    def is_unfit(self) -> bool:
        """Return whether no node could run a shard, whatever else runs there."""
        import ray

        return not any(node["Alive"] and self._options.needs.fit(node["Resources"]) for node in ray.nodes())

    def make_actor(self, job: ShardJob) -> Any:
        """Have an actor made, where there is room, for a shard of a run. Returns at once, if the head answers."""
        import ray

        from llm_datagen.shards.ray.actor import ShardActor

        namespace = f"llm-datagen {job.folder}"
        if namespace not in self._runs:
            self._end_those_before(namespace)
            self._runs.add(namespace)
        options = self._options
        return (
            ray.remote(ShardActor)
            .options(
                name=f"shard {job.number} {secrets.token_hex(4)}",
                namespace=namespace,
                max_concurrency=8,
                max_restarts=0,  # the driver starts a shard again, with any executor
                runtime_env=options.runtime_env,
                **options.needs.actor_options(),
            )
            .remote(options.paths, options.lost_seconds)
        )

    def _init(self, address: str, **options: Any) -> None:
        import ray

        ray.init(address, log_to_driver=self._options.shows_output, logging_level=logging.ERROR, **options)

    def _start_one(self) -> None:
        """Start a Ray of this machine, which only this process may use, and which ends with it.

        Ray reads its environment when it is imported: nothing has done so before.
        """
        if "RAY_AUTH_MODE" not in os.environ:
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # its workers are why it is there
        self._folder_of_ours = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short, as Ray's own: sockets lie in it
        self._init(
            "local",
            include_dashboard=False,
            object_store_memory=_LOCAL_STORE_BYTES,
            _temp_dir=self._folder_of_ours,
        )

    @staticmethod
    def _end_those_before(namespace: str) -> None:
        """End the actors that a driver has left which died. This driver has the run: no other one runs its shards."""
        import ray
        from ray.util import list_named_actors

        deadline = time.monotonic() + _NAMES_SECONDS
        while time.monotonic() < deadline:
            left = [one["name"] for one in list_named_actors(all_namespaces=True) if one["namespace"] == namespace]
            if not left:
                return
            for name in left:
                with contextlib.suppress(ValueError):  # it has ended meanwhile
                    ray.kill(ray.get_actor(name, namespace))
            time.sleep(_LOOK_AGAIN_SECONDS)
