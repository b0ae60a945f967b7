"""What operators of a run on a store keep for themselves: in a folder of the machine, as they need files that grow.

Of these, what was spent of a budget is copied to the store with each save of the run state, and fetched from there by
another machine. Who has the newest one stands in the run state: ``kept_by`` tells machines and folders apart. When a
machine was lost, or was started anew, the last seconds may be missing. All other files stay on the machine.

Logs of jobs at batch APIs stay there as well: they have answers that are paid for, and no other machine goes on with
the run while there are some.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError, ResumeWarning
from llm_datagen.errors.warned import warn
from llm_datagen.runs import batch_jobs, file_names, sent_jobs
from llm_datagen.runs.status import Status
from llm_datagen.streams.storage.bucket import Version
from llm_datagen.streams.storage.local import LOCAL_STORAGE
from llm_datagen.streams.storage.object_folder import ObjectFolder
from llm_datagen.streams.storage.owner import machine_id

COPIED = ("budget.jsonl",)
"""What is copied to the store: small, and of use on another machine."""

KEPT_BY = "kept_by"
"""The key of a run state for the folder of the machine that has the newest files."""

_OWN_FILES = "own_files_on"
_JOBS, _JOBS_IN = "jobs_on", "jobs_in"
_NOT_OF_OPERATORS = {*COPIED, "hub", "calls", batch_jobs.FOLDER, sent_jobs.FOLDER}


class CopiedFiles:
    """The files of one run that lie on this machine.

    Args:
        objects: the folder of the run on the store.
        path: its folder on this machine.
        name: the run, for messages.
    """

    def __init__(self, objects: ObjectFolder, path: Path, name: str) -> None:
        self._objects = objects
        self._path = path
        self._name = name
        self._copied: dict[str, tuple[int, int]] = {}
        self._versions: dict[str, Version | None] = {}

    def begin(self, run_state: dict[str, Any]) -> None:
        """Have the newest copies here, and note in the run state that they are here. The run is locked.

        Warns:
            ResumeWarning: when operators have kept other files on another machine.

        Raises:
            ConfigError: when rows are in jobs that are written down on another machine.
            DiskError: when they cannot be fetched.
        """
        is_here = run_state.get(KEPT_BY) == self._here()
        for name in COPIED:
            found = self._objects.read(f"{file_names.KEPT}/{name}")
            self._versions[name] = None if found is None else found[1]
            path = self._path / file_names.KEPT / name
            if KEPT_BY in run_state and not (is_here and _is_newest(path, found)):
                _put(path, found)
        if is_here:
            return
        if _JOBS in run_state and run_state["status"] != Status.COMPLETED:
            host = run_state[_JOBS]
            raise ConfigError(
                f"{self._name} has rows in jobs of a batch API, which are written down on {host}, in its folder "
                f"{run_state.get(_JOBS_IN, '')}: resume it there; elsewhere they would be sent, and paid for, again"
            )
        if _OWN_FILES in run_state:
            host = run_state.pop(_OWN_FILES)
            warn(
                f"operators of {self._name} have kept files of their own on {host}; they are not here, as only the run "
                f"state and what was spent are kept on the store. They would lie in {self._path / file_names.KEPT}",
                ResumeWarning,
            )
        run_state[KEPT_BY] = self._here()

    def are_here(self, run_state: dict[str, Any]) -> bool:
        """Return whether the newest ones are in the folder of this machine."""
        return bool(run_state.get(KEPT_BY, self._here()) == self._here())

    def fetch_to(self, folder: Path) -> None:
        """Have the copies in another folder, to look at them. The run may be running, here or elsewhere.

        Raises:
            DiskError: when they cannot be fetched.
        """
        for name in COPIED:
            _put(folder / name, self._objects.read(f"{file_names.KEPT}/{name}"))

    def copy(self) -> None:
        """Copy to the store what has changed since the last time. Called when the run state was saved just now.

        A copy takes the place of the one that was there then: who has lost the run meanwhile replaces nothing.

        Raises:
            DiskError: when it cannot be copied.
        """
        for name in COPIED:
            path, kept = self._path / file_names.KEPT / name, f"{file_names.KEPT}/{name}"
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if self._copied.get(name) == (stat.st_mtime_ns, stat.st_size):
                    continue
                if name in self._versions:
                    version = self._objects.put_if(kept, path.read_bytes(), self._versions[name])
                    if version is not None:
                        self._versions[name] = version
                        self._copied[name] = stat.st_mtime_ns, stat.st_size
                        continue
                found = self._objects.read(kept)  # for the next time
                self._versions[name] = None if found is None else found[1]

    def note(self, run_state: dict[str, Any]) -> None:
        """Note in a run state whether operators have kept other files here."""
        if batch_jobs.job_logs(self._path / file_names.KEPT):
            run_state[_JOBS], run_state[_JOBS_IN] = socket.gethostname(), str(self._path)
        with contextlib.suppress(OSError):
            if set(os.listdir(self._path / file_names.KEPT)) - _NOT_OF_OPERATORS:  # noqa: PTH208
                run_state[_OWN_FILES] = socket.gethostname()

    def remove(self) -> None:
        """Remove the copies on the store.

        Raises:
            DiskError: when they cannot be removed.
        """
        for name in COPIED:
            self._objects.remove(f"{file_names.KEPT}/{name}")

    def _here(self) -> str:
        """Return what tells this folder of this machine from others."""
        return hashlib.sha256(f"{machine_id()} {socket.gethostname()} {self._path}".encode()).hexdigest()[:16]


def _is_newest(path: Path, copy: tuple[bytes, Version] | None) -> bool:
    """Return whether a file of this machine says all that its copy on the store does: a loss of power may cut it."""
    try:
        here = path.read_bytes()
    except FileNotFoundError:
        return False
    return copy is None or len(copy[0]) <= len(here) or not copy[0].startswith(here)


def _put(path: Path, found: tuple[bytes, Version] | None) -> None:
    if found is None:
        LOCAL_STORAGE.remove(str(path))
    else:
        LOCAL_STORAGE.replace(str(path), found[0], sync=False)
