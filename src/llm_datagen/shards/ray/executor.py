"""Runs shards on a Ray cluster, as the driver sees it."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm_datagen.config import check_count, check_flag, check_seconds, check_text
from llm_datagen.errors import ConfigError, RunError
from llm_datagen.runs.status import Status
from llm_datagen.shards.executor import ShardHandle, ShardJob, ShardOutcome
from llm_datagen.shards.ray.address import address_towards, check_that_somebody_listens
from llm_datagen.shards.ray.connection import Connection, NotYetError
from llm_datagen.shards.ray.options import Needs, RayOptions
from llm_datagen.shards.worker_process import RunningShard

LOST_SECONDS = 30.0
RECONNECT_SECONDS = 300.0

_FIRST_SECONDS = 120.0
"""How long a cluster that is there may refuse: one attempt in many fails, of ray:// addresses, after half a minute."""

_TRY_AGAIN_SECONDS = 2.0

_INSTALL = "executor='ray' needs Ray: pip install 'llm-datagen[ray]', with the same version on all nodes of the cluster"


class RayExecutor:
    """Runs shards on a Ray cluster: one actor a shard, on whichever node has room for it.

    The results folder must be the same place for all nodes: a shared folder, or a store. The package must be installed
    on all nodes, or be in `runtime_env`. A shard whose node dies is lost; the driver starts it again, elsewhere. When
    the driver dies, its shards end.

    Args:
        address: where the cluster is, as for `ray.init`: "ray://host:10001" from any machine; "host:6379" or "auto" on
            one of its nodes; "local" starts a Ray on this machine, which ends with the run. None: ``RAY_ADDRESS``, else
            a cluster that runs on this machine, else "local".
        resources: what a shard needs: ``num_cpus`` (default 1), ``num_gpus``, ``memory`` in bytes, and custom
            resources by their name.
        runtime_env: Ray's runtime environment of the shards, as for `ray.init`.
        workers: how many shards are run at once, at most; None: as many as the cluster has room for.
        lost_seconds: how long a shard may be out of reach. Then it ends by itself, and may be run elsewhere.
        reconnect_seconds: how long a head that has died may take to come back.
        shows_output: whether what the nodes print is shown here.
        host: the name of this machine as nodes reach it, for the grants service of models with limits or a budget;
            None: the address by which this machine reaches the cluster.

    Raises:
        ConfigError: when an option is wrong, or Ray is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        workers: int | None = None,
        lost_seconds: float = LOST_SECONDS,
        reconnect_seconds: float = RECONNECT_SECONDS,
        shows_output: bool = False,
        host: str | None = None,
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(_INSTALL)
        if runtime_env is not None and not isinstance(runtime_env, Mapping):
            raise ConfigError(f"runtime_env must be an object such as {{'working_dir': '.'}}, got {runtime_env!r}")
        self._options = RayOptions(
            "" if address is None else check_text("address", address),
            Needs.of(resources),
            None if runtime_env is None else dict(runtime_env),
            check_seconds("lost_seconds", lost_seconds),
            check_flag("shows_output", shows_output),
            _own_paths(),
        )
        self._workers = None if workers is None else check_count("workers", workers)
        self._host = None if host is None else check_text("host", host)
        self._reconnect_seconds = check_seconds("reconnect_seconds", reconnect_seconds)
        self._changing = threading.Lock()
        self._keys = itertools.count()
        self._connection: Connection | None = None
        self._connecting: threading.Thread | None = None
        self._is_closed = threading.Event()
        self._shards: dict[int, RunningShard] = {}
        self._waiting: list[tuple[int, ShardJob]] = []  # for a connection

    @property
    def workers(self) -> int | None:
        """How many shards are run at once, at most; None: Ray decides."""
        return self._workers

    @property
    def host(self) -> str | None:
        """The address of this machine as nodes reach it; None when they are on it."""
        if self._host is not None or self._options.address == "local":
            return self._host
        return address_towards(self._options.address or os.environ.get("RAY_ADDRESS", ""))

    def start(self, job: ShardJob) -> ShardHandle:
        """Begin to run a shard; return at once. It waits for the connection; when there is none, it fails."""
        with self._changing:
            self._is_closed.clear()
            key = next(self._keys)
            shard = self._shards[key] = RunningShard(_Actor(self, key), job.number)
            if self._connection is not None:
                self._connection.send("start", key, job)
            else:
                self._waiting.append((key, job))
                if self._connecting is None:
                    self._begin_to_connect(0.0, _FIRST_SECONDS)
        return shard

    def close(self) -> None:
        """End the shards that run, the connection, and the Ray that was started. The next `start` connects again."""
        with self._changing:
            self._is_closed.set()
            connection, self._connection = self._connection, None
            connecting = self._connecting
        if connecting is not None:
            connecting.join()
        if connection is not None:
            connection.close()
        self._end_all("the executor was closed")

    def tell(self, key: int, *message: Any) -> None:
        """Send a message about a shard. While there is no connection, nobody hears it."""
        with self._changing:
            if self._connection is not None:
                self._connection.send(message[0], key, *message[1:])

    def _begin_to_connect(self, pause: float, patience: float) -> None:
        """Have a thread connect, after a pause in seconds; again and again for so many seconds."""
        self._connecting = threading.Thread(
            target=self._connect, args=(pause, patience), name="datagen-ray-connect", daemon=True
        )
        self._connecting.start()

    def _connect(self, pause: float, patience: float) -> None:
        deadline, is_first = time.monotonic() + patience, not pause
        trouble = "this executor was closed"
        while not self._is_closed.wait(pause):
            try:
                connection, is_unfit = self._new_connection()
            except RunError as error:
                trouble = str(error)
                is_final = is_first and not isinstance(error, NotYetError)
            else:
                self._connected(connection, is_unfit=is_unfit)
                return
            if is_final or time.monotonic() > deadline:
                break
            pause = _TRY_AGAIN_SECONDS
        with self._changing:
            self._connecting = None
            given_up = [self._shards.pop(key) for key, _ in self._waiting]
            self._waiting = []
        for shard in given_up:
            shard.end(ShardOutcome(str(Status.FAILED), trouble))

    def _new_connection(self) -> tuple[Connection, bool]:
        """Return a connection, and whether no node of the cluster could run a shard, as it is now.

        Raises:
            RunError: when there is no cluster, or it refuses.
        """
        address = self._options.address or os.environ.get("RAY_ADDRESS", "")
        if address:
            check_that_somebody_listens(address)
            return self._connection_to(address)
        try:
            return self._connection_to("auto")
        except NotYetError:  # no cluster runs on this machine
            return self._connection_to("local")

    def _connection_to(self, address: str) -> tuple[Connection, bool]:
        connection = Connection(replace(self._options, address=address), self._hear, self._lost)
        return connection, connection.open(self._is_closed)

    def _connected(self, connection: Connection, *, is_unfit: bool) -> None:
        """Start the shards that wait for a connection."""
        if is_unfit:
            needs = self._options.needs
            logging.getLogger("llm_datagen").warning(
                f"no node of the Ray cluster has what a shard needs ({needs}): shards wait until one joins"
            )
        with self._changing:
            self._connecting, waiting, self._waiting = None, self._waiting, []
            if not self._is_closed.is_set():
                self._connection = connection
                for key, job in waiting:
                    connection.send("start", key, job)
                connection.listen()
                return
        connection.close()

    # What comes from the cluster, on the connection's thread.

    def _hear(self, message: Any) -> None:
        kind, key, *rest = message
        with self._changing:
            shard = self._shards.pop(key, None) if kind == "ended" else self._shards.get(key)
        if shard is None:
            return
        if kind == "ended":
            shard.end(rest[0])
        elif kind == "answer":
            shard.answered(*rest)
        elif kind == "events":
            shard.box.put(rest[0])
        else:
            shard.now = rest[0]

    def _lost(self, reason: str) -> None:
        """End all shards; connect again, once none of them can still run anywhere."""
        with self._changing:
            if self._is_closed.is_set() or self._connection is None:
                return
            connection, self._connection = self._connection, None
            self._begin_to_connect(self._options.lost_seconds, self._reconnect_seconds)
        connection.close()
        self._end_all(f"the connection to Ray was lost: {reason}")

    def _end_all(self, reason: str) -> None:
        with self._changing:
            waiting = {key for key, _ in self._waiting}
            ended = [self._shards.pop(key) for key in list(self._shards) if key not in waiting]
        for shard in ended:
            shard.end(ShardOutcome(str(Status.FAILED), f"shard {shard.number}: {reason}", is_lost=True))


class _Actor:
    """An actor, as what a shard is run by. Any thread may use it.

    Args:
        executor: knows the way to it.
        key: what it is called there.
    """

    def __init__(self, executor: RayExecutor, key: int) -> None:
        self._executor = executor
        self._key = key

    def send(self, *message: Any) -> None:
        """Send it a message."""
        self._executor.tell(self._key, *message)

    def kill(self) -> None:
        """End it at once."""
        self._executor.tell(self._key, "kill")


def _own_paths() -> tuple[str, ...]:
    """Return where this process finds modules, besides its own Python: the script's folder, PYTHONPATH."""
    python = tuple(str(Path(prefix)) for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix})
    paths = dict.fromkeys(str(Path(entry).absolute()) for entry in sys.path)
    return tuple(path for path in paths if not path.startswith(python))
