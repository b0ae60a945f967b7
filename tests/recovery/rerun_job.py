"""Does a run again with edited operators, in a process that is killed (SIGKILL) at a step on the disk."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from llm_datagen.streams.storage.local import LocalStorage

from ..kit.support import Bench
from .edited_steps import line, steps

STEPS = ("open_file", "write", "truncate", "rename", "link", "unlink")


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


if __name__ == "__main__":
    folder, marks, at, *verb = sys.argv[1:]
    kill_at(int(at))
    pipeline = line(Bench(Path(folder)), steps(marks))
    getattr(pipeline, verb[0] if verb else "resume")("a", on_change="rerun").run()
