"""File sets: many files that are read as one, one after the other: a pattern (``data/*.jsonl.gz``), or a folder.

The files are in the order of their paths. Rows are numbered through all of them, so their ids are unique. File k has
the addresses from ``k * FILE_STRIDE`` on. A run keeps the list of files, with the size and a checksum of each. So a
resume, a rerun, and whoever looks up rows, read them in the same order (`pin`): files that have come since are added at
the end. One that is gone, or was changed though it had been begun, is refused by name, and keeps its place until then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

from llm_datagen.config import DataConfig
from llm_datagen.errors import ConfigError, RowFormatError, StreamChangedError, StreamError, StreamMissingError
from llm_datagen.streams.coverage import START, Coverage, Segment, Span
from llm_datagen.streams.fingerprint import check_kind, is_kind
from llm_datagen.streams.formats.base import Codec
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.inputs.file_changes import FileChanges, Noted, changes_of, shown_names
from llm_datagen.streams.inputs.file_set_cursor import FILE_STRIDE, FileSetCursor
from llm_datagen.streams.inputs.found_files import found_files, is_pattern, may_find, name_in, path_in
from llm_datagen.streams.inputs.lazy_streams import LazyStreams
from llm_datagen.streams.inputs.table import without_columns
from llm_datagen.streams.inputs.whole_file import difference, fingerprint_at
from llm_datagen.streams.read_limit import ReadLimit
from llm_datagen.streams.source_column import Origin
from llm_datagen.streams.storage.base import Place, Storage
from llm_datagen.streams.storage.local import LOCAL_STORAGE
from llm_datagen.streams.stream import Stream

_PARTS = 2
_PART_BYTES = 4096


class FileSet(Stream):
    """Many files that are read as one, and never written.

    Args:
        uri: its URI: a protocol, or none, and a pattern or a folder.
        create: makes the stream of a file, of its URI.
    """

    storage: Storage = LOCAL_STORAGE
    codec: Codec = JsonlCodec()
    has_tails: bool = False
    has_seek_marks: bool = True

    def __init__(self, uri: str, create: Callable[[str], Stream]) -> None:
        super().__init__(uri)
        protocol, separator, _ = uri.partition("://")
        self._protocol = f"{protocol}://" if separator else ""
        self._create = create
        self._data = DataConfig()
        self._pattern, self._columns = without_columns(self.shown), self.uri.partition("?columns=")[1:]
        self._files: LazyStreams | None = None
        self._window: tuple[int, int | None] = (0, None)
        self._firsts: dict[int, int] = {}  # of files that were begun: what number the first row has
        self._noted: Noted = {}
        self._passed: Noted = {}  # those that were read to their end before others were begun
        self.added: list[str] = []  # names of files that have come since the run began, as a resume has found
        self.changes = FileChanges()  # what became of files that were begun, or of all if none was; the same

    def with_data(self, data: DataConfig) -> Self:
        """Return the files as they are read by other settings than the defaults."""
        changed = copy(self)
        changed._data, changed._files, changed._firsts, changed._noted = data, None, {}, {}
        return changed

    def origin(self, offset: int) -> Origin:
        """Return the file in which the row at `offset` lies."""
        number = offset // FILE_STRIDE
        return Origin(self._name(self.streams.path(number)), self._firsts[number])

    def begin(self, number: int, row: int, offset: int) -> None:
        """Note that a file is read on from a row: its number among all, and its address in the file.

        In the middle of a file that no commit has noted, the rows before it are counted.

        Raises:
            StreamChangedError: when a file that begins is not what it was when the run began, or was resumed.
        """
        path = self.streams.path(number)
        noted = None if offset else self._noted.get(self._name(path))
        if noted is not None and self.is_changed_now(path, noted):
            what = "is gone" if self.storage.size(path) is None else "was changed"
            raise StreamChangedError(
                f"{self.streams[number].shown} {what} since the run listed it; restore it if rows of it were read: ids "
                "go by its rows; else resume the run, which reads it as it is now"
            )
        if self.source_column is not None and number not in self._firsts:
            self._firsts[number] = row - (self.streams[number].rows_before(offset) if offset else 0)

    def anchor(self) -> None:
        """Make its path absolute: from here on, the program may change its working directory."""
        end = os.sep if self._pattern.endswith(os.sep) else ""
        self._pattern = str(Path(self._pattern).absolute()) + end

    @property
    def path(self) -> str:
        """The pattern, or the folder."""
        return self._pattern

    def place_of(self, path: str) -> Place:
        """Return what the files are."""
        return "files", str(Path(path).absolute())

    @property
    def files_read(self) -> Sequence[str]:
        """The paths of the files."""
        return self.streams.paths

    @property
    def streams(self) -> LazyStreams:
        """The files, in their order.

        Raises:
            ConfigError: when the name of one tells no format.
        """
        if self._files is None:
            begin, end = self._window
            self._files = LazyStreams(self._in_order()[begin:end], self._stream, begin)
        return self._files

    def narrowed(self, begin: int, end: int) -> Self:
        """Return the set, of which only some files are looked at, which keep their numbers.

        Args:
            begin: the number of the first one.
            end: the number behind the last one.
        """
        narrowed = copy(self)
        narrowed._window, narrowed._files = (begin, end), None
        narrowed._firsts, narrowed._noted = {}, {}
        return narrowed

    def take(self, known: Any) -> None:
        """Read the files that a run has noted (`fingerprint`) of a set that is narrowed; they are not looked for."""
        self.pin(known)
        self._files = LazyStreams([self._path(name) for name, *_ in known["files"]], self._stream, self._window[0])

    def changed_since(self, known: Any) -> str | None:
        """Return the names of files that are not what they were, with what they are; None when all are.

        Args:
            known: what `fingerprint` has returned before, of the same files.
        """
        gone = [name for name, *_ in known["files"] if self.known_of(self._path(name)) is None]
        if gone:
            return f"{shown_names(gone)}: gone"
        files = ((name, self._path(name), values) for name, *values in known["files"])
        changed = [
            name
            for name, path, values in files
            if self.storage.size(path) != values[0] or self.is_changed(path, values)
        ]
        return f"{shown_names(changed)}: not what {'it was' if len(changed) == 1 else 'they were'}" if changed else None

    def know_first_row(self, number: int, row: int) -> None:
        """Take the number of the first row of a file, which else is counted when it is read from its middle."""
        self._firsts[number] = row

    def reads(self, path: str) -> bool:
        """Return whether a file at this path, once it is there, would be one of the files."""
        return may_find(self._pattern, path)

    @property
    def sizes(self) -> list[int]:
        """The bytes of each file."""
        return [self.storage.size(path) or 0 for path in self.streams.paths]

    def known_of(self, path: str) -> list[Any] | None:
        """Return what tells later whether a file was changed; None when it is not there."""
        return fingerprint_at(self.storage, path, _PARTS, _PART_BYTES)

    def is_changed(self, path: str, known: list[Any]) -> bool:
        """Return whether a file is not what it was, by what `known_of` has returned before."""
        return difference(self.storage, path, known, _PARTS, _PART_BYTES) is not None

    def is_changed_now(self, path: str, known: list[Any]) -> bool:
        """Return whether a file that is about to be read is not what it was."""
        return self.is_changed(path, known)

    def pin(self, known: Any) -> None:
        """Take what a run has noted of the files, and read them in its order."""
        if is_kind(known, "files"):  # else it was no set, which `check_fingerprint` says
            self._noted = {name: values for name, *values in known["files"]}
            self._files = None

    def size(self) -> int | None:
        """Return the bytes of all files; None when there is no file."""
        sizes = [size for path in self.streams.paths if (size := self.storage.size(path)) is not None]
        return sum(sizes) if sizes else None

    def is_there(self) -> bool:
        """Return whether there is a file. None is looked at."""
        return bool(self._found() if self._files is None else self._files.paths)

    def exists(self) -> bool:
        """Return whether there is a file."""
        return bool(len(self.streams))

    def size_after(self, done: Coverage) -> int:
        """Return the bytes of all files; of one that has become shorter, those that it had: it hides no other one."""
        known = (self._noted.get(self._name(path), [0])[0] for path in self.streams.paths)
        return sum(map(max, self.sizes, known))

    def read_as_is(self, *, follow: bool) -> list[Stream]:
        """Return the set: its files are read as they are."""
        return [self]

    def readable(self, *, follow: bool = True) -> ReadLimit | None:
        """Return that all may be read; None when there is no file."""
        size = self.size()
        return None if size is None else ReadLimit(size, ended=True)

    def open_cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> FileSetCursor:
        """Return a cursor over some segments."""
        return FileSetCursor(self, segments)

    def fingerprint(self, *, follow: bool) -> Any:
        """Return the list of files, each with its size and a checksum of its beginning and its end."""
        names = {self._name(path): path for path in self.streams.paths}
        known = ((name, self._passed.get(name) or self.known_of(path)) for name, path in names.items())
        self._noted = {name: values for name, values in known if values is not None}
        return {"files": [[name, *values] for name, values in self._noted.items()]}

    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that the files that were begun are as they were; read those that are known first, in their order.

        When none was begun, those that are there are read as they are now.

        Raises:
            StreamChangedError: naming files that are gone, or were changed.
        """
        end = max((span.offset_end for span in done), default=0)
        if known is None or not (end or is_kind(known, "files")):
            return
        check_kind(self.path, known, "files")
        there = {self._name(path): path for path in self._found()}
        noted = {name: values for name, *values in known["files"]}
        begun = dict(list(noted.items())[: end // FILE_STRIDE + 1]) if end else {}
        self.changes = changes_of(self.storage, self.is_changed, noted, begun, there)
        if end and self.changes.lost:
            raise StreamChangedError(
                f"{self.path}: {self.changes.lost}, and the run has begun to read these files, whose rows are kept, "
                "and could be others now; restore what was there, or, if it was damaged and is mended, start afresh "
                "with if_exists='overwrite', which does all rows again"
            )
        self.added = [name for name in there if name not in noted]
        names = [*(name for name in noted if name in there), *self.added]
        self._files = LazyStreams([there[name] for name in names], self._stream)
        self._noted = begun  # the others are read as they are now
        self._passed = dict(list(begun.items())[:-1])

    def what_changed(self, known: Any, done: Iterable[Span], *, follow: bool) -> list[str]:
        """Return what became of each file that was read and is not what it was, for people."""
        found = super().what_changed(known, done, follow=follow)
        return [f"{self.shown}: {text}" for text in self.changes.all()] or found

    def check_resumable(self, done: Coverage) -> None:
        """Do nothing: the fingerprint tells whether files were changed."""

    def check_source(self) -> None:
        """Check that the first file can be read; the others are looked at when it is their turn.

        Raises:
            StreamMissingError: when there is none.
            StreamError: when it cannot.
        """
        if not len(self.streams):
            raise self.missing()
        self.streams[self.streams.first].check_source()

    def missing(self) -> StreamMissingError:
        """Return the error that says that there is no file."""
        what = "pattern" if is_pattern(self._pattern) else "folder"
        return StreamMissingError(
            f"there is no file in {self.path}; check the {what} (relative paths count from the working directory, "
            f"{Path.cwd()}; files whose names begin with . or _ are left out of folders)"
        )

    def check_path(self) -> None:
        """Refuse to write.

        Raises:
            StreamError: always.
        """
        raise StreamError(f"{self.uri} means many files, and an output is one; give the path of a file")

    def seek_mark(self, offset: int) -> list[int] | None:
        """Return what helps to find the row at `offset` again in its file."""
        number, local = divmod(offset, FILE_STRIDE)
        mark = self.streams[number].seek_mark(local) if number in self.streams else None
        if self.source_column is not None:
            first = self._firsts.get(number)
            return None if first is None else [number, first, *(mark or ())]
        return None if mark is None else [number, *mark]

    def use_seek_mark(self, mark: list[int]) -> None:
        """Take what an earlier process knew of a file."""
        number, *of_file = mark
        if self.source_column is not None:
            self._firsts[number], *of_file = of_file
        if of_file:
            self.streams[number].use_seek_mark(of_file)

    def line_place(self, offset: int) -> str:
        """Return the path of the file, and the line of the row that begins there."""
        return self.streams[offset // FILE_STRIDE].line_place(offset % FILE_STRIDE)

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        """Return the error that says which line of which file cannot be parsed, and why."""
        return self.streams[offset // FILE_STRIDE].row_error(error, offset % FILE_STRIDE)

    def _found(self) -> list[str]:
        """Return the paths of the files that are there now, in order."""
        return found_files(self._pattern)

    def _in_order(self) -> list[str]:
        """Return the paths of the files: first those that the run has noted, in its order, also if they are gone."""
        found = self._found()
        if not self._noted or not found:
            return found
        noted = {name: self._path(name) for name in self._noted} | {self._name(path): path for path in found}
        return list(noted.values())

    def _stream(self, path: str) -> Stream:
        return self._made(f"{self._protocol}{path}{''.join(self._columns)}")

    def _made(self, uri: str) -> Stream:
        """Return the stream of a file."""
        try:
            return self._create(uri).with_data(self._data)
        except ConfigError as error:
            raise ConfigError(
                f"{error}; it is one of the files of {self.uri}: use a pattern that leaves it out"
            ) from error

    def _name(self, path: str) -> str:
        """Return the path of a file as the list has it: from the folder that the pattern begins with."""
        return name_in(self._pattern, path)

    def _path(self, name: str) -> str:
        """Return the path of a file that the list has under a name."""
        return path_in(self._pattern, name)
