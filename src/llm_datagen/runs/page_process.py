"""The page of a run beside it: a server in a process of its own, so that the run does not get slower by it.

It reads the run's folder and speaks to its control socket, as a page does that somebody starts by hand. It goes on when
the run has ended, as long as somebody looks at it; see `web.beside_run`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec

from llm_datagen.errors import ConfigError
from llm_datagen.runs.store import RunFolder

_MODULE = "llm_datagen.web.beside_run"
_NEEDED = ("aiohttp", "rich")
_LAST_LINES = 3


def check_page() -> None:
    """Check that what the page needs is installed.

    Raises:
        ConfigError: when it is not.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"the page needs {', '.join(missing)}; install it with: pip install 'llm-datagen[web]'")


def start_page(folder: RunFolder) -> str:
    """Start the page of a run that is about to begin; return its address, with the token that opens it.

    Args:
        folder: the run's folder.

    Raises:
        ConfigError: when it cannot be started.
    """
    check_page()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE, folder.results_dir, folder.pipeline_id],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl+C is for the run
        )
        assert process.stdout is not None
        with process.stdout as told:
            url = told.readline().decode().strip()
        if url:
            _running.append(process)
            return url
        process.wait()
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
    raise ConfigError(f"the page could not be started: {' '.join(lines[-_LAST_LINES:])}")


_running: list[subprocess.Popen[bytes]] = []
"""Kept, as an object that goes before its process has ended warns."""
