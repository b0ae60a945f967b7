"""Telling a run of another process on this machine what to do, through its control socket: pause, reconfigure, cancel.

Where it has no socket, a cancel is a SIGTERM: only a process that holds the run's lock is ever sent one. Each command
returns what happened, in a sentence that goes on behind the name of the run.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from llm_datagen.errors import ConfigError, ControlError
from llm_datagen.pipeline.open_jobs import rows_in_jobs
from llm_datagen.runs import RunFolder
from llm_datagen.runs.chosen_nodes import chosen_nodes
from llm_datagen.runs.control_client import ask
from llm_datagen.runs.lock import RunLock
from llm_datagen.runs.sharded import is_sharded
from llm_datagen.runs.store import run_ids
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.shards.run_view import RunView, read_run

_LOOK_SECONDS = 0.1


def running_parts(folder: RunFolder) -> list[RunFolder]:
    """Return what is to be told a command: the run; of one in shards that nobody runs as a whole, the running shards.

    Args:
        folder: the run's folder.
    """
    if folder.lock.is_held() or not folder.exists() or not is_sharded(folder.load()):
        return [folder]
    from llm_datagen.shards.spec import shards_folder

    shards = shards_folder(folder).location
    parts = [RunFolder(shards, run) for run in sorted(run_ids(shards))]
    return [part for part in parts if part.lock.is_held()] or [folder]


def pause_run(folder: RunFolder) -> str:
    """Begin no further calls of operators, and return what happened.

    Raises:
        PipelineNotFoundError: when there is no such run.
        ControlError: when it cannot be reached.
    """
    folder.load()
    ask(folder, "pause")
    return "paused. No new calls; running calls finish and are saved"


def unpause_run(folder: RunFolder) -> str:
    """Begin calls again, and return what happened.

    Raises:
        PipelineNotFoundError: when there is no such run.
        ControlError: when it cannot be reached.
    """
    folder.load()
    return f"{ask(folder, 'unpause')['status']}, not paused"


def reconfigure_run(
    folder: RunFolder,
    node: str | None,
    *,
    parallel_size: int | None = None,
    batch_size: int | None = None,
    rate: float | None = None,
) -> str:
    """Change a node of a run, and its run state; return what it has now.

    Args:
        folder: the run's folder.
        node: a node, as `chosen_nodes` takes it; None when there is only one.
        parallel_size: batches in its operator at once, at most; None leaves it.
        batch_size: items per batch; None leaves it.
        rate: rows per second, at most; 0 removes the limit, None leaves it.

    Raises:
        ConfigError: when there is no such node, or it cannot be changed so; nothing is changed then.
        ControlError: when the run cannot be reached.
    """
    entries = chosen_nodes(folder.load(), node)
    if len(entries) > 1:
        raise ConfigError(f"say which node, by --node: {', '.join(entry['node_id'] for entry in entries)}")
    node = entries[0]["node_id"]
    now = ask(folder, "reconfigure", node_id=node, parallel_size=parallel_size, batch_size=batch_size, rate=rate)
    limit = f", {now['rate']:g} rows per second at most" if now["rate"] else ""
    return f"{now['node_id']} has parallel_size {now['parallel_size']}, batch_size {now['batch_size']}{limit}"


def send_cancel(folder: RunFolder, reason: str = "", *, keep_jobs: bool) -> int:
    """Tell the process that runs `folder` to cancel; return its id.

    Args:
        folder: the run's folder.
        reason: why. A process that can only be sent a signal gives that as its reason.
        keep_jobs: whether jobs at batch APIs go on, for a resume to collect; after a signal, they do.

    Raises:
        PipelineNotFoundError: when there is no such run.
        ControlError: when nobody runs it, nobody whom a signal from here would reach, or its control socket does not
            answer.
    """
    run = read_run(folder)
    name = f"run {folder.pipeline_id!r}"
    if not folder.lock.is_held() and not run.is_live:
        jobs = rows_in_jobs(folder.files_path)
        typed = command_line("jobs", folder.pipeline_id, folder.results_dir, options=["--cancel"])
        hint = f" but its jobs at the provider: {typed}" if jobs else ""
        raise ControlError(f"{name} is not running (it is {run.status}): there is nothing to cancel{hint}")
    host, pid = run.state.get("host"), run.state.get("pid")
    if host != socket.gethostname():
        raise ControlError(f"{name} runs on {host}, and this is {socket.gethostname()}: cancel it there")
    owner = folder.lock.owner()
    if owner is not None and owner.control and not owner.is_elsewhere:
        ask(folder, "cancel", reason=reason, keep_jobs=keep_jobs)
        return owner.pid
    if not isinstance(pid, int) or pid <= 1 or not (isinstance(folder.lock, RunLock) and _holds(pid, folder.lock.path)):
        raise ControlError(
            f"{name} is running, but not in process {pid}, which its run state names. Try again: it may be starting"
        )
    if not _takes_sigterm(pid):
        raise ControlError(
            f"{name} is run by process {pid}, which would not save at a SIGTERM, but die of it (the run was not "
            "started by run() in its main thread); let that program call cancel()"
        )
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        raise ControlError(f"{name}: process {pid} has ended just now") from None
    except PermissionError:
        raise ControlError(f"{name} is run by process {pid} of another user: cancel it as that user") from None
    return pid


def wait_for_end(folder: RunFolder, timeout: float, clock: Callable[[], float] = time.monotonic) -> RunView | None:
    """Wait until nobody runs `folder`.

    Args:
        folder: the run's folder.
        timeout: seconds to wait at most.
        clock: seconds that only grow.

    Returns:
        The run as it is then; None when it is still running.
    """
    deadline = clock() + timeout
    while folder.lock.is_held():
        if clock() >= deadline:
            return None
        time.sleep(1.0 if folder.is_on_store else _LOOK_SECONDS)  # there, each look is a request
    return read_run(folder)


def _holds(pid: int, lock: Path) -> bool:
    """Return whether a process has the lock's file open; if that cannot be seen, whether it may."""
    files = Path(f"/proc/{pid}/fd")
    if not Path("/proc/self/fd").exists():
        command = ["ps", "-p", str(pid), "-o", "command="]
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout.lower()
        return "python" in shown or "datagen" in shown
    wanted = lock.stat()
    try:
        for file in files.iterdir():
            try:
                found = file.stat()
            except OSError:
                continue
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    except PermissionError:
        return True  # another user's: the signal will be refused by the system
    except OSError:
        return False
    return False


def _takes_sigterm(pid: int) -> bool:
    """Return whether a process handles SIGTERM, as `run()` in a main thread does; True if that cannot be seen."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), None)
    return caught is None or bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
