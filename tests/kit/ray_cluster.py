"""A Ray cluster of this machine: a head and nodes that are killed as machines are, with all that runs on them.

Each is started by `ray start`, in a session of its own (in the sense of `setsid`). All that it starts is in that
session, too: so everything of a node is found, and nothing is left behind. A token keeps others out.
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
from collections.abc import Sequence
from contextlib import suppress

import psutil

_START = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start"]
_START_SECONDS = 100.0
_END_SECONDS = 20.0
_STORE_BYTES = 80_000_000


class RayCluster:
    """A head without room for shards, and nodes with one shard's room each, unless they are given more.

    Attributes:
        environment: what a process needs in its environment to use it.
        address: where it is, for processes of this machine.
        client_address: where it is, for processes of any machine.
    """

    def __init__(self) -> None:
        self._sessions: dict[str, set[int]] = {}  # of each node, and of those before it with its name
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
        folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: sockets lie in it
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

    def add_missing(self, names: Sequence[str]) -> None:
        """Start those of these nodes that do not run."""
        for name in names:  # one after the other: two that are started at once on one machine get the same ports
            if not self.processes(name, "raylet/raylet"):
                self.add_node(name)

    def kill(self, name: str) -> None:
        """Kill everything that runs on a node, or on the head ("head"), at once, as a power failure does."""
        _kill(self._sessions.pop(name, set()))

    def processes(self, name: str, word: str) -> list[psutil.Process]:
        """Return the processes of a node whose command line holds a word."""
        found = []
        for process in _of(self._sessions.get(name, set())):
            with suppress(psutil.NoSuchProcess):
                found += [process] if word in " ".join(process.cmdline()) else []
        return found

    def close(self) -> None:
        """Leave nothing of it."""
        _kill({session for sessions in self._sessions.values() for session in sessions})
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, name: str, *options: str) -> None:
        environment = {
            **os.environ, **self.environment,
            "RAY_worker_niceness": "0",
            "RAY_enable_metrics_collection": "0",
        }  # fmt: skip
        command = [
            *_START, *options, "--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0",
            f"--object-store-memory={_STORE_BYTES}",
        ]  # fmt: skip
        with tempfile.TemporaryFile() as said:  # what it starts keeps a pipe open
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
            self._sessions.setdefault(name, set()).add(process.pid)
            status = process.wait(_START_SECONDS)
            said.seek(0)
            assert status == 0, said.read().decode(errors="replace")


def _kill(sessions: set[int]) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while found := _of(sessions):
        assert time.monotonic() < deadline, found
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=1.0)


def _of(sessions: set[int]) -> list[psutil.Process]:
    """Return the living processes of sessions."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
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
