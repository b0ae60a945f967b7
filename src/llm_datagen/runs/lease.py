"""The lease of a run on a store: who may run it. See `streams.storage.lease`, and `lock` for runs on this machine.

The lease says who may begin; it does not keep a process that was stopped, and wakes up, from going on for a moment.
That is what the fence is for: each holder has a larger number than all before, and it stands in the run state (see
`fenced_state`). Commits of streams on a store are fenced by their own logs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from llm_datagen.errors import ConfigError, DatagenError, PipelineBusyError, StreamError
from llm_datagen.runs.fenced_state import FencedState
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.streams.storage.lease import Lease
from llm_datagen.streams.storage.object_folder import ObjectFolder
from llm_datagen.streams.storage.owner import Owner


class RunLease(Lease):
    """The lease of one run.

    Args:
        objects: the folder of the run.
        state: its run state.
        pipeline_id: the run.
        name: the run and where it is, for messages.
    """

    busy: ClassVar[type[DatagenError]] = PipelineBusyError
    doing = "run"
    after_loss = "resume it"

    def __init__(self, objects: ObjectFolder, state: FencedState, pipeline_id: str, name: str) -> None:
        super().__init__(objects, name)
        self._state = state
        cancel = command_line("cancel", pipeline_id, objects.uri.rpartition("/")[0])
        self.hint = f"wait for it, cancel it there ({cancel}), or choose another pipeline_id"

    def owner_elsewhere(self) -> Owner | None:
        """Return who runs it on another host, unseen: nobody, as a lease is seen from everywhere."""
        return None

    def note_control(self, path: str) -> None:
        """Write down where the control socket of the run lies, while the lease is held.

        Raises:
            DiskError: when that cannot be written.
        """
        with self._putting:
            if self._lease is not None and self._lease.owner is not None:
                self._put(replace(self._lease, owner=replace(self._lease.owner, control=path)))

    def check_conditional_puts(self) -> None:
        """Check that the store refuses puts whose condition does not hold.

        Raises:
            ConfigError: when it does not.
        """
        try:
            super().check_conditional_puts()
        except StreamError as error:
            raise ConfigError(
                f"{self._name} cannot be kept there, as nothing would keep two hosts apart: {error}"
            ) from None

    def last_fence(self) -> int:
        """Return the fence in the run state."""
        return self._state.fence()

    def take_over(self) -> None:
        """Keep who had the run before from saving anything of it."""
        self._state.take_over(self.fence, self.token)
