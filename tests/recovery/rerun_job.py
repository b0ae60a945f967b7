"""Does runs again with edited operators, each in a forked process that is killed (SIGKILL) at a step on the disk."""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import structlog  # noqa: F401 - before any fork: each child would import it

from llm_datagen.streams.storage.local import LocalStorage

from ..support import Bench
from .edited_steps import line, steps

STEPS = ("open_file", "write", "truncate", "rename", "unlink")


def kill_at(at: int) -> None:
    """Let this process die before its disk step of that number."""
    numbers = itertools.count()

    def deadly(plain: Any) -> Any:
        def step(*args: Any, **options: Any) -> Any:
            if next(numbers) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*args, **options)

        return step

    for name in STEPS:
        setattr(LocalStorage, name, deadly(getattr(LocalStorage, name)))


def main() -> None:
    """Take a job from each line of the standard input, and answer with its exit status."""
    gc.freeze()
    for request in sys.stdin:
        folder, dead_letters, at = json.loads(request)
        pid = os.fork()
        if pid == 0:
            try:
                kill_at(at)
                line(Bench(Path(folder)), steps(dead_letters)).resume("a", on_change="rerun").run()
                os._exit(0)
            finally:
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
