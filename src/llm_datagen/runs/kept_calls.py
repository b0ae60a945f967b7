"""The model calls of a run whose nodes are done again: its earlier version has them, and the run those of today.

Files of calls are written once, by the process that has made them. So a run and its earlier versions may share them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from llm_datagen.runs.browse.calls import FOLDER, IDS, LINES, PACKED, name_of
from llm_datagen.runs.store import RunFolder


def share_calls(folder: RunFolder, version: RunFolder) -> None:
    """Have all calls of a run in the folder of its earlier version, too. When cut short, do it again.

    Raises:
        DiskError: when the operating system refuses.
    """
    for path in _files_in(folder):
        if path.name.endswith((LINES, PACKED, IDS)):
            folder.storage.share(str(path), str(version.files_path / FOLDER / path.name), by_link=True)


def forget_calls(folder: RunFolder, node_ids: Iterable[str]) -> None:
    """Remove the calls that some nodes of a run have made.

    Raises:
        DiskError: when the operating system refuses.
    """
    begins = tuple(map(name_of, node_ids))
    for path in _files_in(folder):
        if path.name.startswith(begins):
            folder.storage.remove(str(path))


def _files_in(folder: RunFolder) -> Iterator[Path]:
    return iter(sorted((folder.files_path / FOLDER).glob("*")))
