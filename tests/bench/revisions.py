"""Revisions of the engine: this tree, and others checked out beside it for a while."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .measure import ROOT


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextlib.contextmanager
def checked_out(revision: str, root: Path = ROOT) -> Iterator[Path]:
    """Check a revision of the repository `root` out, as long as the block lasts; gives its `src`."""
    commit = _git(root, "rev-parse", "--verify", f"{revision}^{{commit}}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tree = Path(folder, "tree")
        _git(root, "worktree", "add", "--detach", str(tree), commit)
        try:
            yield tree / "src"
        finally:
            _git(root, "worktree", "remove", "--force", str(tree))


def machine() -> dict[str, Any]:
    """Return where and what was measured."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "load": os.getloadavg()[0],
        "revision": _git(ROOT, "describe", "--always", "--dirty") if (ROOT / ".git").exists() else "unknown",
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
