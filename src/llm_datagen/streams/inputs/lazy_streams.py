"""The streams of many files, each made when it is wanted: a run of 10,000 files begins with one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llm_datagen.streams.storage.compression import ending_of
from llm_datagen.streams.stream import Stream


class LazyStreams:
    """The streams of some files, by their numbers. Any thread may use it.

    Args:
        paths: the paths of the files.
        make: makes the stream of a path.
        first: the number of the first one.

    Attributes:
        paths: the paths.
        first: the number of the first one.

    Raises:
        ConfigError: when the name of one tells no format: of each kind of name, one is made at once.
    """

    def __init__(self, paths: Sequence[str], make: Callable[[str], Stream], first: int = 0) -> None:
        self.paths = paths
        self.first = first
        self._make = make
        self._made: dict[int, Stream] = {}
        kinds: dict[str, str] = {}
        for path in paths:
            kinds.setdefault(_format_name(path), path)
        for path in kinds.values():
            make(path)

    def __len__(self) -> int:
        return len(self.paths)

    def __contains__(self, number: int) -> bool:
        return self.first <= number < self.first + len(self.paths)

    def path(self, number: int) -> str:
        """Return the path of a file, by its number."""
        return self.paths[number - self.first]

    def made(self, number: int) -> Stream:
        """Return the stream of a file, by its number, which is not kept here."""
        return self._make(self.path(number))

    def __getitem__(self, number: int) -> Stream:
        found = self._made.get(number)
        return self._made.setdefault(number, self._make(self.path(number))) if found is None else found


def _format_name(path: str) -> str:
    """Return the ending that tells the format, and that of a compression."""
    compression = ending_of(path) or ""
    return path[: len(path) - len(compression)].rpartition(".")[2] + compression
