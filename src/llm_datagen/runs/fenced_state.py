"""The run state of a run on a store: an object that only the latest holder of the run's lease can replace.

Each holder has a number, the fence, that is larger than all before; and a random token, as numbers begin again when a
run was removed. Both stand in the run state. So who reads others than its own has lost the run; and who takes the run
over puts its own there first: from then on, whoever had it before replaces a version that is gone, and is refused by
the store.
"""

from __future__ import annotations

from typing import Any

from llm_datagen.errors import LeaseLostError, PipelineBusyError, RunStateError
from llm_datagen.runs import file_names
from llm_datagen.runs.state_file import OPTIONS, parse
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.streams.checksums import with_check
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.storage.bucket import Version
from llm_datagen.streams.storage.object_folder import ObjectFolder

FENCE = "fence"
HOLDER = "holder"
"""The token of who saved it last."""

_TRIES = 5


class FencedState:
    """The object of a run state. One thread at a time calls it.

    Args:
        objects: the folder of the run.
        name: the run, for messages.
    """

    def __init__(self, objects: ObjectFolder, name: str) -> None:
        self._objects = objects
        self._name = name
        self._version: Version | None = None

    def read(self) -> bytes | None:
        """Return the run state as it is now; None when there is none.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        found = self._objects.read(file_names.RUN_STATE)
        self._version = None if found is None else found[1]
        return None if found is None else found[0]

    def fence(self) -> int:
        """Return the fence of who saved it last; 0 when there is none."""
        data = self.read()
        return 0 if data is None else _fence_in(data)

    def take_over(self, fence: int, holder: str) -> None:
        """Put a fence and a token into the run state, so that no holder before can replace it any more.

        Raises:
            PipelineBusyError: when others replace it all the time.
            DiskError: when the store refuses, or cannot be reached.
        """
        for _ in range(_TRIES):
            data = self.read()
            if data is None or self._version is None:
                return
            try:
                run_state = parse(data, self._objects.uri)
            except RunStateError:
                return  # whoever loads it is told
            taken = with_check(dumps({**run_state, FENCE: fence, HOLDER: holder}, option=OPTIONS))
            self._version = self._objects.put_if(file_names.RUN_STATE, taken, self._version)
            if self._version is not None:
                return
        raise PipelineBusyError(f"{self._name} is being changed by others; try again")

    def replace(self, data: bytes, fence: int, holder: str) -> None:
        """Replace the run state as it was last read or replaced here.

        Args:
            data: the new one, which holds both.
            fence: the number of the holder.
            holder: its token.

        Raises:
            LeaseLostError: when another holder has replaced it, or it is gone.
            DiskError: when the store refuses, or cannot be reached.
        """
        for _ in range(_TRIES):
            version = self._objects.put_if(file_names.RUN_STATE, data, self._version)
            if version is not None:
                self._version = version
                return
            had, now = self._version, self.read()
            if now is None and had is not None:
                raise LeaseLostError(f"{self._name} was removed while it ran, so nothing of it is saved any more")
            # One that holds both is our own: the answer to that request was lost.
            if now is not None and (_value_in(now, FENCE), _value_in(now, HOLDER)) != (fence, holder):
                self._version = had
                results_dir, _, pipeline_id = self._objects.uri.rpartition("/")
                raise LeaseLostError(
                    f"{self._name} was taken over by another process, so this one can save nothing of it any more. "
                    "Whatever it had committed is kept; look at the run: "
                    f"{command_line('status', pipeline_id, results_dir)}"
                )
        raise LeaseLostError(f"{self._name}: its run state is being changed by others; resume it")

    def forget(self) -> None:
        """Remove the run state.

        Raises:
            DiskError: when the store refuses, or cannot be reached.
        """
        self._objects.remove(file_names.RUN_STATE)
        self._version = None


def _fence_in(data: bytes) -> int:
    fence = _value_in(data, FENCE)
    return fence if isinstance(fence, int) else 0


def _value_in(data: bytes, name: str) -> Any:
    try:
        return parse(data, "").get(name)
    except RunStateError:
        return None
