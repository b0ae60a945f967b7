"""Inputs that are made of another one: its rows again and again (`cycled`), or some of them (`part`)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from llm_datagen.errors import StreamError
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.storage.base import Place
from llm_datagen.streams.stream import Stream


class DerivedStream(Stream):
    """Rows that come of a file, or of files, which it is for all who ask where it lies. It is only read.

    Args:
        uri: its URI.
        base: the file, or the files.

    Attributes:
        base: the file, or the files.
    """

    def __init__(self, uri: str, base: Stream) -> None:
        super().__init__(uri)
        self.base = base
        self.storage = base.storage

    @property
    @abstractmethod
    def why_only_read(self) -> str:
        """Why it is only read, for people."""

    @property
    def data(self) -> Stream:
        """The file, or the files."""
        return self.base

    @property
    def shown(self) -> str:
        """Where the file lies, as it was given."""
        return self.base.shown

    @property
    def path(self) -> str:
        """Where the file lies."""
        return self.base.path

    @property
    def files_read(self) -> Sequence[str]:
        """The paths of the files."""
        return self.base.files_read

    @property
    def place(self) -> Place:
        """What is read: the file."""
        return self.base.place

    def place_of(self, path: str) -> Place:
        """Return what the file at `path` is, however it is spelled."""
        return self.base.place_of(path)

    def anchor(self) -> None:
        """Make its path absolute."""
        self.base.anchor()

    def size(self) -> int | None:
        """Return the bytes of the file."""
        return self.base.size()

    def is_there(self) -> bool:
        """Return whether there is such a file."""
        return self.base.is_there()

    def exists(self) -> bool:
        """Return whether there is such a file."""
        return self.base.exists()

    def read_seal(self) -> Seal | None:
        """Return the seal of the file."""
        return self.base.read_seal()

    def check_source(self) -> None:
        """Check that the file can be read as rows."""
        self.base.check_source()

    def check_path(self) -> None:
        """Refuse to write.

        Raises:
            StreamError: always.
        """
        raise StreamError(f"{self.uri} is only read: {self.why_only_read}; write to jsonl://")
