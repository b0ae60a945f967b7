"""A script that runs a pipeline, killed in the middle of it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from ..support import eventually


def run_killed_three_times(script: Path, folder: Path, output: Path, *, seed: int) -> None:
    """Run ``script folder create``, then ``resume``: three are killed when `output` has grown, a fourth ends."""
    chance = random.Random(seed)
    for action in ("create", "resume", "resume"):
        size = output.stat().st_size if output.exists() else 0
        job = subprocess.Popen([sys.executable, script, folder, action])
        eventually(lambda size=size: output.exists() and output.stat().st_size > size)  # type: ignore[misc]
        time.sleep(chance.random() * 0.05)
        job.send_signal(signal.SIGKILL)
        job.wait()
    subprocess.run([sys.executable, script, folder, "resume"], check=True)
