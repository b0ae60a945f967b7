"""A script that runs a pipeline, killed in the middle of it."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from ..kit import programs
from ..kit.programs import Program
from ..kit.support import eventually


def run_killed_three_times(script: Path, folder: Path, output: Path, *, seed: int) -> None:
    """Run ``script folder create``, then ``resume``: three are killed when `output` has grown, a fourth ends."""
    chance = random.Random(seed)
    for action in ("create", "resume", "resume"):
        size = output.stat().st_size if output.exists() else 0
        job = Program([script, folder, action])
        eventually(lambda size=size: output.exists() and output.stat().st_size > size)  # type: ignore[misc]
        time.sleep(chance.random() * 0.05)
        job.send_signal(signal.SIGKILL)
        job.wait()
    programs.run([script, folder, "resume"], check=True)
