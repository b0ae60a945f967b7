"""What file sets have in common whose files are not on this machine: their address is what they are."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from llm_datagen.streams.inputs.file_set import FileSet


class RemoteFileSet(FileSet):
    """Files at an address, such as in an object store or on the hub, that are read as one, and never written."""

    @property
    def path(self) -> str:
        """Its address, as it is shown."""
        return self.shown

    @property
    def files_read(self) -> Sequence[str]:
        """Nothing: no file of this machine that something else may write."""
        return ()

    def anchor(self) -> None:
        """Do nothing: an address is not relative to anything."""

    def _noted_pattern(self) -> dict[str, str]:
        """Return nothing: names in the list do not depend on what is there."""
        return {}

    def exact_fingerprint(self) -> Any:
        """Return the list of files, each with its version."""
        return copy(self).fingerprint(follow=False)
