"""The streams that users name: files and memory."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Any

from llm_datagen.config import check_path
from llm_datagen.errors import ConfigError, StreamError
from llm_datagen.streams.formats.base import Codec
from llm_datagen.streams.formats.csv import CsvCodec
from llm_datagen.streams.formats.json_array import JsonArrayCodec
from llm_datagen.streams.formats.json_file import HEAD_BYTES, JsonFileCodec, beginning_of, why_no_lines
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.formats.text import TextCodec
from llm_datagen.streams.storage.base import Place, Storage
from llm_datagen.streams.storage.local import LOCAL_STORAGE, LocalStorage
from llm_datagen.streams.storage.memory import MemoryStorage
from llm_datagen.streams.stream import Stream

CODECS: dict[str, Codec] = {
    ".jsonl": JsonlCodec(),
    ".ndjson": JsonlCodec(),
    ".json": JsonFileCodec(),
    ".csv": CsvCodec(),
    ".txt": TextCodec(),
}
"""The formats by file extension."""

_LONGEST_NAME = 240
"""Bytes of a file's name: file systems take 255, and ``.dispatched.tmp`` comes behind it."""


class FileStream(Stream):
    """A stream in a file; the format follows from the extension.

    A subclass that overrides the property `path` makes a new protocol: register it with
    `StreamFactory.register("name", TheClass)`. The path that it returns should be absolute.
    """

    storage: Storage = LOCAL_STORAGE

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._path = check_path(f"the path of {uri}", self.shown)
        if "codec" not in self.__dict__ and not hasattr(type(self), "codec"):
            self.codec = self._codec_by_extension()

    @property
    def path(self) -> str:
        """Where the data lies: as it was given, or absolute, once a node is bound to it."""
        return self._path

    def anchor(self) -> None:
        """Make its path absolute: from here on, the program may change its working directory."""
        self._path = str(Path(self._path).absolute())

    @property
    def format_path(self) -> PurePath:
        """The path whose ending names the format."""
        return PurePath(self.path)

    @property
    def spill_folder(self) -> str | None:
        """The folder that it lies in."""
        return str(Path(self.path).parent)

    def uri_beside(self, ending: str) -> str:
        """Return the URI of JSON lines beside it, with `ending` behind its name; relative where it is."""
        is_as_shown = str(Path(self.shown).absolute()) == self.path
        return f"jsonl://{self.shown if is_as_shown else self.path}.{ending}"

    def place_of(self, path: str) -> Place:
        """Return what the file at `path` is, however it is spelled."""
        return type(self.storage).__name__, os.path.realpath(path)

    def can_move_to(self, target: Stream) -> bool:
        """Return whether `move_to` can give the stream the place of `target`: both are files of one format."""
        same = (
            isinstance(target, FileStream) and self.storage is target.storage and isinstance(self.storage, LocalStorage)
        )
        return same and type(self.codec) is type(target.codec) and self.compression == target.compression

    def move_to(self, target: Stream) -> None:
        """Give the stream, with all that belongs to it, another place, where nothing is. When cut short, do it again.

        Raises:
            StreamBusyError: when it is being written.
            DiskError: when the operating system refuses.
        """
        storage = self.storage
        assert isinstance(storage, LocalStorage)
        self.check_free()
        for path, new in zip(self.files, target.files, strict=True):
            if storage.size(path) is not None:
                storage.move(path, new)

    def can_share_with(self, target: Stream) -> bool:
        """Return whether `share_with` can have the stream at the place of `target`, too."""
        return self.can_move_to(target)

    def share_with(self, target: Stream) -> None:
        """Have the stream, with all that belongs to it, at another place, too. When cut short, do it again.

        The data of a sealed one is shared, where the file system can: who writes to it next makes a copy first.

        Raises:
            DiskError: when the operating system refuses.
        """
        storage = self.storage
        assert isinstance(storage, LocalStorage)
        is_sealed = self.is_sealed()
        for path, new in zip(self.files, target.files, strict=True):
            if storage.size(path) is not None:
                storage.share(path, new, by_link=is_sealed and path == self.path)

    def check_path(self) -> None:
        """Check that the path is a regular file's, or could be.

        Raises:
            StreamError: when there is something else, or the name is too long for the files beside it.
            DiskError: when the system refuses the path.
        """
        self._refuse_only_read()
        path = Path(self.path)
        if len(os.fsencode(path.name)) > _LONGEST_NAME:
            raise StreamError(
                f"the name of {self.path} is too long: {len(os.fsencode(path.name))} bytes, and {_LONGEST_NAME} are "
                f"possible, because the files beside it are named after it (….errors.jsonl); choose a shorter one"
            )
        if self.size() is not None and self._is_special():
            raise StreamError(
                f"{self.path} is not a regular file, so it is neither written nor deleted; choose another path, and "
                "hand it on when the run has ended"
            )

    def _refuse_only_read(self) -> None:
        why = getattr(self.codec, "why_only_read", None)
        if why is not None:
            raise StreamError(f"{self.uri} is only read: {why}; write to jsonl://, and convert it in the end")

    def check_source(self) -> None:
        """Check that what is there can be read as rows, at offsets.

        Raises:
            StreamError: when it is no regular file, or is one JSON value and not one per line.
            DiskError: when the system refuses the path.
        """
        if self.size() is None or isinstance(self.storage, MemoryStorage):
            return
        self.refuse_special()
        if isinstance(self.codec, JsonlCodec) and not (self.is_sealed() or self.storage.size(self.commits_path)):
            self._refuse_whole_json()

    def refuse_special(self) -> None:
        """Refuse to read what is no regular file.

        Raises:
            StreamError: when it is something else.
        """
        if self._is_special():
            raise StreamError(
                f"{self.path} is not a regular file (a pipe, a folder, or a device): rows are read at offsets, so that "
                "a run can go on where it was; write it to a file first, such as with cat > in.jsonl, and give that"
            )

    def _is_special(self) -> bool:
        """Return whether what is there is no file with a name of its own: what /dev/stdout is, may differ each time."""
        if not isinstance(self.storage, LocalStorage):
            return False
        of_the_process = self.path.startswith(("/dev/", "/proc/")) and not self.path.startswith("/dev/shm/")
        return of_the_process or not Path(self.path).is_file()

    def _refuse_whole_json(self) -> None:
        head, is_all = self._head()
        is_json = isinstance(self.codec, JsonFileCodec)
        why = why_no_lines(head, PurePath(self.path).name, is_all=is_all, is_json=is_json)
        if why is not None:
            raise StreamError(f"{self.path} {why}")

    def codec_to_read(self) -> Codec:
        """Return the format as it is read: of a `.json` file that others have written, its beginning tells it."""
        codec = super().codec_to_read()
        if isinstance(codec, JsonFileCodec) and not self.is_accounted_for() and self.size() is not None:
            return codec.codec_of(self._head()[0])
        return codec

    def _head(self) -> tuple[bytes, bool]:
        """Return the beginning of the data, up to where it has something, and whether that is all."""
        file, length = self.open_data(), HEAD_BYTES
        try:
            while True:
                head = file.read_at(0, length)
                if len(head) < length or beginning_of(head):
                    return head, len(head) < length
                length *= 2
        finally:
            file.close()

    def _codec_by_extension(self) -> Codec:
        extension = self.format_path.suffix.lower()
        if extension not in CODECS:
            raise ConfigError(
                f"{self.uri}: the extension {extension!r} names no format; use one of {', '.join(CODECS)}, or say "
                "the format with jsonl://, csv://, json:// or text://"
            )
        return CODECS[extension]


class JsonlStream(FileStream):
    """JSON lines in a file."""

    codec: Codec = JsonlCodec()
    extension = "jsonl"


class CsvStream(FileStream):
    """CSV in a file."""

    codec: Codec = CsvCodec()
    extension = "csv"


class JsonArrayStream(FileStream):
    """One JSON array in a file, which is only read: each element is a row."""

    codec: Codec = JsonArrayCodec()
    extension = "json"


class TextStream(FileStream):
    """Text in a file, which is only read: each line is a row."""

    codec: Codec = TextCodec()
    extension = "txt"


class MemoryStream(Stream):
    """A stream in this process's memory. Streams of the same name are the same stream until it is deleted.

    Args:
        uri: ``memory://name``.
        rows: rows to begin with; the stream is sealed after them.
    """

    storage: Storage = MemoryStorage()
    codec: Codec = JsonlCodec()
    extension = "mem"

    def __init__(self, uri: str, rows: list[Any] | None = None) -> None:
        super().__init__(uri)
        if rows is not None:
            self.delete()
            with self.get_writer() as writer:
                writer.write(rows)

    def rows(self) -> list[Any]:
        """Return the rows that are committed now, decoded."""
        found: list[Any] = []
        if self.exists():
            for rows, _ in self.get_reader(follow=False).read(1024):
                found.extend(rows)
        return found
