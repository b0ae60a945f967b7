"""A Ray cluster of this machine: a head and nodes that are killed as machines are, with all that runs on them.

Each is started as `ray start` starts it, with a word of its own in its environment. All that it starts has that word,
too: so everything of a node is found, and nothing is left behind. A token keeps others out.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_MARK = "LLM_DATAGEN_TEST_NODE"
_START = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start"]
_START_SECONDS = 100.0
_STORE_BYTES = 80_000_000


class RayCluster:
    """A head without room for shards, and nodes with one shard's room each, unless they are given more.

    Attributes:
        environment: what a process needs in its environment to use it.
        address: where it is, for processes of this machine.
        client_address: where it is, for processes of any machine.
    """

    def __init__(self) -> None:
        self._mark = secrets.token_hex(8)
        self._folders: list[str] = []
        self._port, self._client_port = _free_ports(2)
        host = _host()
        self.address = f"{host}:{self._port}"
        self.client_address = f"ray://{host}:{self._client_port}"
        self.environment = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        self.start_head()

    def start_head(self) -> None:
        """Start a head: the first one, or anew at the same address, with nothing of what the one before it knew."""
        folder = tempfile.mkdtemp(prefix="ray-")  # short: sockets lie in it
        self._folders.append(folder)
        self._start(
            "head", "--head", f"--port={self._port}", f"--ray-client-server-port={self._client_port}", "--num-cpus=0",
            "--include-dashboard=false", "--no-monitor", f"--temp-dir={folder}",
        )  # fmt: skip

    def add_node(self, name: str, *, cpus: int = 1, resources: str = "{}") -> None:
        """Start a node.

        Args:
            name: what the tests call it.
            cpus: the room that it has.
            resources: others that it has, as JSON.
        """
        self._start(name, f"--address={self.address}", f"--num-cpus={cpus}", f"--resources={resources}")

    def kill(self, name: str) -> None:
        """Kill everything that runs on a node, or on the head ("head"), at once, as a power failure does."""
        _kill(f"{self._mark}.{name}")

    def processes(self, name: str, word: str) -> list[psutil.Process]:
        """Return the processes of a node whose command line holds a word."""
        return [process for process in _of(f"{self._mark}.{name}") if word in " ".join(process.cmdline())]

    def close(self) -> None:
        """Leave nothing of it."""
        _kill(self._mark)
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, name: str, *options: str) -> None:
        environment = {
            **os.environ, **self.environment,
            _MARK: f"{self._mark}.{name}",
            "RAY_worker_niceness": "0",
            "RAY_enable_metrics_collection": "0",
        }  # fmt: skip
        command = [
            *_START, *options, "--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0",
            f"--object-store-memory={_STORE_BYTES}",
        ]  # fmt: skip
        with tempfile.TemporaryFile() as said:  # what it starts keeps a pipe open
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False,
                timeout=_START_SECONDS,
            )  # fmt: skip
            said.seek(0)
            assert done.returncode == 0, said.read().decode(errors="replace")


@contextmanager
def ray_cluster(nodes: Mapping[str, int]) -> Iterator[RayCluster]:
    """Have a cluster.

    Args:
        nodes: how many cores each of its nodes has, by name.
    """
    cluster = None
    try:
        cluster = RayCluster()
        for name, cpus in nodes.items():
            cluster.add_node(name, cpus=cpus)
        yield cluster
    finally:
        if cluster is not None:
            cluster.close()


def _kill(mark: str) -> None:
    deadline = time.monotonic() + 20.0
    while found := _of(mark):
        assert time.monotonic() < deadline, found
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=1.0)


def _of(mark: str) -> list[psutil.Process]:
    """Return the living processes that have a word in their environment: exactly it, or it and more."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            word = process.environ().get(_MARK, "")
            if (word == mark or word.startswith(f"{mark}.")) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now, out of the range that systems give to others."""
    found: list[int] = []
    while len(found) < count:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            found.append(port)
    return found


def _host() -> str:
    """Return the address that Ray gives this machine: never a loopback one."""
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


if __name__ == "__main__":  # how long it takes
    begun = time.monotonic()
    with ray_cluster({"a": 1, "b": 1}) as shown:
        print(f"{shown.address}: {time.monotonic() - begun:.1f} s for a head and two nodes")
        print(Path(shown._folders[0]).exists(), len(_of(shown._mark)), "processes")
