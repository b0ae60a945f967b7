"""The state of a run that is to be resumed again and again: what it had written, put back before each time."""

from __future__ import annotations

import shutil
from pathlib import Path


class State:
    """What lies in a folder now.

    Of the streams only the length is kept, because they only grow; everything else is copied.

    Args:
        folder: where a run was left.
        kept: an empty folder for the copies.
        stream: the stream in `folder` that only grows.
    """

    def __init__(self, folder: Path, kept: Path, stream: Path) -> None:
        self._folder = folder
        self._kept = kept
        self._stream = stream
        self._size = stream.stat().st_size
        shutil.copytree(folder, kept, ignore=lambda at, names: [stream.name] if Path(at) == folder else [])

    def restore(self) -> None:
        """Put everything back."""
        for path in self._folder.iterdir():
            if path == self._stream:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        shutil.copytree(self._kept, self._folder, dirs_exist_ok=True)
        with self._stream.open("r+b") as file:
            file.truncate(self._size)
