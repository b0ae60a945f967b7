"""Who has a run, or a place that is written to: a host and a process of it."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has something, or had it when its process died.

    Attributes:
        host: the machine's name.
        pid: the process.
        since: when it took it, in UTC.
        token: made up each time that somebody takes it.
        control: where its control socket lies; empty when it has none.
        machine: what tells machines, and containers, of one name apart; empty where that is not known.
    """

    host: str
    pid: int
    since: str
    token: str = ""
    control: str = ""
    machine: str = ""

    @classmethod
    def of_this_process(cls) -> Owner:
        """Return a new owner: this process, from now on."""
        return cls(**whoami(), since=now_text(), token=secrets.token_hex(8), machine=machine())

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since[:19].replace('T', ' ')} UTC"

    @property
    def is_alive(self) -> bool:
        """Whether a process of that number is alive on this machine; not when it has ended, and its parent waits."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return not _is_zombie(self.pid)

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is of another machine: then its process id says nothing here."""
        return self.host != socket.gethostname()

    @property
    def is_this_process(self) -> bool:
        """Whether it is this process."""
        return bool(self.machine) and self.machine == machine() and self.pid == os.getpid()

    @property
    def is_dead(self) -> bool:
        """Whether it is known to be dead: it was a process of this very machine, since its last start."""
        return bool(self.machine) and self.machine == machine() and not self.is_alive


def whoami() -> dict[str, Any]:
    """Return what a run state says of the process that runs it."""
    return {"pid": os.getpid(), "host": socket.gethostname()}


def _is_zombie(pid: int) -> bool:
    """Return whether a process has ended, and its parent has not asked for its exit status; False if nobody knows."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    return False


@functools.cache
def machine() -> str:
    """Return what tells this machine, since its last start, and this container from others; empty if nothing does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


@functools.cache
def machine_id() -> str:
    """Return what tells this machine from others, also over its starts; empty if nothing does."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError):
            return Path(path).read_text().strip()
    return ""


def now_text() -> str:
    """Return the time, in UTC, as ISO 8601."""
    return time_text(datetime.now(UTC))


def time_text(moment: datetime) -> str:
    """Return a time as ISO 8601."""
    return moment.isoformat(timespec="milliseconds")
