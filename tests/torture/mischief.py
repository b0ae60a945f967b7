"""What operators do to their process that a run has to bear: children, pools, other folders, other signal handlers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable

SHARE = 0.01
"""Of calls."""

_ORPHAN_SECONDS = 5.0


def _leave_a_child() -> None:
    """Fork a child that lives on when this process is killed."""
    if os.fork() == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, lambda *_: None)
            time.sleep(_ORPHAN_SECONDS)
        finally:
            os._exit(0)


def _use_a_pool() -> None:
    """Start a pool of forked processes, and leave it."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]


def _change_folder() -> None:
    """Go to another working directory."""
    os.chdir(tempfile.gettempdir())


MISCHIEF: tuple[Callable[[], None], ...] = (_leave_a_child, _use_a_pool, _change_folder)
