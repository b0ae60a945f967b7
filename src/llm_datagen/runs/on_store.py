"""The folder of a run on a store: its run state, fenced by its lease, and what is copied there with each save."""

from __future__ import annotations

import errno
import logging
import time
from pathlib import Path
from typing import Any

from llm_datagen.errors import DiskError
from llm_datagen.runs import file_names
from llm_datagen.runs.copied_files import CopiedFiles
from llm_datagen.runs.fenced_state import FENCE, HOLDER, FencedState
from llm_datagen.runs.lease import RunLease
from llm_datagen.runs.state_file import serialize
from llm_datagen.streams.storage.object_folder import ObjectFolder
from llm_datagen.streams.storage.waiting import Interrupted

SAVE_SECONDS = 5.0
"""How often a run state is saved while rows move: each save takes time and costs money."""

PATIENCE_SECONDS = 30.0
"""How long a run goes on while a store does not take its run state."""

_RETRY_SECONDS = 1.0


class RunOnStore:
    """What of a run lies on a store.

    Args:
        uri: its folder there.
        path: its folder on this machine.
        name: the run, for messages.

    Attributes:
        lock: its lease, which says who may run it.
        copied: the files of this machine that are copied there.
        checkpoint: what is put with the run state that is saved next; None: nothing.
    """

    def __init__(self, uri: str, path: Path, name: str) -> None:
        self._name = name
        self._objects = ObjectFolder(uri)
        self._state = FencedState(self._objects, name)
        self.lock = RunLease(self._objects, self._state, path.name, name)
        self.copied = CopiedFiles(self._objects, path, name)
        self.checkpoint: bytes | None = None
        self._failing_since: float | None = None
        self._is_given_up = False

    def read(self, name: str) -> bytes | None:
        """Return what a small object holds; None when there is none.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        if name == file_names.RUN_STATE:
            return self._state.read()
        found = self._objects.read(name)
        return None if found is None else found[0]

    def write(self, name: str, data: bytes) -> None:
        """Replace a small object.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        self._objects.replace(name, data)

    def save(self, run_state: dict[str, Any], *, may_wait: bool) -> bool:
        """Replace the run state, and what belongs to it; see `RunFolder.save`.

        Args:
            run_state: the run state. This process has the lease.
            may_wait: whether it is saved again soon.
        """
        self.lock.check()
        run_state[FENCE], run_state[HOLDER] = self.lock.fence, self.lock.token
        self.copied.note(run_state)
        while not (self._is_given_up and may_wait):
            began = time.monotonic()
            try:
                self._state.replace(serialize(run_state), self.lock.fence, self.lock.token)
                if self.checkpoint is not None:
                    self._objects.replace(file_names.CHECKPOINT, self.checkpoint)
                self.copied.copy()
            except Interrupted:
                self._give_up()
                return False
            except DiskError as error:
                self._failing_since = self._failing_since or began
                if error.errno != errno.EIO or time.monotonic() - self._failing_since >= PATIENCE_SECONDS:
                    raise
                if may_wait:
                    return False
                time.sleep(_RETRY_SECONDS)
            else:
                self.checkpoint = self._failing_since = None
                return True
        return False

    def _give_up(self) -> None:
        """Record that the run was cancelled while the store did not answer; log it once."""
        if not self._is_given_up:
            logging.getLogger("llm_datagen").warning(
                f"{self._name} was cancelled, and the store has not taken its state in time; what is committed is "
                "kept, and a resume counts it again"
            )
        self._is_given_up = True

    def forget(self) -> None:
        """Remove the run state and the checkpoint.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        self._state.forget()
        self._objects.remove(file_names.CHECKPOINT)
