"""Who has a run, or had it when its process died: what is in ``owner.json``."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has a run, or had it when its process died.

    Attributes:
        host: the machine's name.
        pid: the process.
        since: when it took the run, in UTC.
        token: made up each time that somebody takes the run.
        control: where its control socket lies; empty when it has none.
    """

    host: str
    pid: int
    since: str
    token: str = ""
    control: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since[:19].replace('T', ' ')} UTC"

    @property
    def is_alive(self) -> bool:
        """Whether a process of that number is alive on this machine."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is of another machine: then its process id says nothing here."""
        return self.host != socket.gethostname()


def whoami() -> dict[str, Any]:
    """Return what a run state says of the process that runs it."""
    return {"pid": os.getpid(), "host": socket.gethostname()}
