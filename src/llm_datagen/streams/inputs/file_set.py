"""File sets: many files that are read as one, one after the other: a pattern (``data/*.jsonl.gz``), or a folder.

The files are in the order of their paths. Rows are numbered through all of them, so their ids are unique. File k has
the addresses from ``k * FILE_STRIDE`` on. A run keeps the list of files, with the size and a checksum of each. So a
resume, a rerun, and whoever looks up rows, read them in the same order (`pin`): files that have come since are added at
the end. One that is gone, or was changed though it had been begun, is refused by name, and keeps its place until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from llm_datagen.config import DataConfig
from llm_datagen.errors import ConfigError, RowFormatError, StreamError, StreamMissingError
from llm_datagen.streams.coverage import START, Coverage, Segment, Span
from llm_datagen.streams.fingerprint import check_kind, is_kind
from llm_datagen.streams.formats.base import Codec
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.inputs.file_changes import changes_of, not_as_listed
from llm_datagen.streams.inputs.file_set_cursor import FILE_STRIDE, FileSetCursor
from llm_datagen.streams.inputs.found_files import FilePattern
from llm_datagen.streams.inputs.lazy_streams import LazyStreams
from llm_datagen.streams.inputs.noted_files import NotedFiles
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
        self._pattern = FilePattern.of(without_columns(self.shown))
        self._columns = self.uri.partition("?columns=")[1:]
        self._files: LazyStreams | None = None
        self._window: tuple[int, int | None] = (0, None)
        self._firsts: dict[int, int] = {}  # of files that were begun: what number the first row has
        self.noted = NotedFiles()

    def with_data(self, data: DataConfig) -> Self:
        """Return the files as they are read by other settings than the defaults."""
        changed = self._afresh()
        changed._data = data
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
        known = None if offset else self.noted.known.get(self._name(path))
        if known is not None and self.is_changed_now(path, known):
            raise self.noted.refusal(self.streams[number].shown, is_gone=self.storage.size(path) is None)
        if self.source_column is not None and number not in self._firsts:
            self._firsts[number] = row - (self.streams[number].rows_before(offset) if offset else 0)

    def anchor(self) -> None:
        """Make its path absolute: from here on, the program may change its working directory."""
        self._pattern = self._pattern.anchored()

    @property
    def path(self) -> str:
        """The pattern, or the folder."""
        return self._pattern.text

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
            in_order = self.noted.in_order(self._there(), self._path)
            self._files = LazyStreams(in_order[begin:end], self._stream, begin)
        return self._files

    def narrowed(self, begin: int, end: int) -> Self:
        """Return the set, of which only some files are looked at, which keep their numbers.

        Args:
            begin: the number of the first one.
            end: the number behind the last one.
        """
        narrowed = self._afresh()
        narrowed._window = (begin, end)
        return narrowed

    def _afresh(self) -> Self:
        """Return a copy that knows nothing of a run, nor of the files that are there."""
        changed = copy(self)
        changed._files, changed._firsts, changed.noted = None, {}, NotedFiles()
        return changed

    def take(self, known: Any) -> None:
        """Read the files that a run has noted (`fingerprint`) of a set that is narrowed; they are not looked for."""
        self.pin(known)
        self._files = LazyStreams([self._path(name) for name, *_ in known["files"]], self._stream, self._window[0])

    def changed_since(self, known: Any) -> str | None:
        """Return the names of files that are not what they were, with what they are; None when all are.

        Args:
            known: what `fingerprint` has returned before, of the same files.
        """
        self._read_as(known)
        listed = {name: values for name, *values in known["files"]}
        return not_as_listed(self.storage, self.is_changed, listed, {name: self._path(name) for name in listed})

    def know_first_row(self, number: int, row: int) -> None:
        """Take the number of the first row of a file, which else is counted when it is read from its middle."""
        self._firsts[number] = row

    def reads(self, path: str) -> bool:
        """Return whether a file at this path, once it is there, would be one of the files."""
        return self._pattern.may_find(path)

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
            self._read_as(known)
            self.noted = NotedFiles({name: values for name, *values in known["files"]})
            self._files = None

    def lost(self) -> str:
        """Return what became of files that the run has noted, for people; empty when all are there as they were."""
        known = self.noted.known
        return changes_of(self.storage, self.is_changed, known, {}, self._there()).lost if known else ""

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
        known = (self.noted.known.get(self._name(path), [0])[0] for path in self.streams.paths)
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
        found = ((name, self.noted.passed.get(name) or self.known_of(path)) for name, path in names.items())
        known = {name: values for name, values in found if values is not None}
        self.noted = replace(self.noted, known=known, is_of_reader=True)
        return {"files": [[name, *values] for name, values in known.items()], **self._noted_pattern()}

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
        self._read_as(known)
        there = self._there()
        listed = {name: values for name, *values in known["files"]}
        begun = dict(list(listed.items())[: end // FILE_STRIDE + 1]) if end else {}
        changes = changes_of(self.storage, self.is_changed, listed, begun, there)
        self.noted = replace(self.noted, changes=changes)
        if end and changes.lost:
            raise changes.refusal(self.path)
        self.noted = NotedFiles.resumed(listed, begun, there, changes)
        in_order = {name: there[name] for name in listed if name in there} | there
        self._files = LazyStreams(list(in_order.values()), self._stream)

    def what_changed(self, known: Any, done: Iterable[Span], *, follow: bool) -> list[str]:
        """Return what became of each file that was read and is not what it was, for people."""
        found = super().what_changed(known, done, follow=follow)
        return [f"{self.shown}: {text}" for text in self.noted.changes.all()] or found

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
        what = "pattern" if self._pattern.rest else "folder"
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
        return self._pattern.found()

    def _there(self) -> dict[str, str]:
        """Return the paths of the files that are there now, by their names."""
        return {self._name(path): path for path in self._found()}

    def _read_as(self, known: Any) -> None:
        """Read the pattern as a run has, whose names begin in its folder, though that has come or gone since."""
        if is_kind(known, "files", "pattern"):
            self._pattern = FilePattern.of(self._pattern.text, known["pattern"])

    def _noted_pattern(self) -> dict[str, str]:
        """Return what a run notes of a pattern that can be read otherwise when a folder has come or gone."""
        return {"pattern": self._pattern.rest} if self._pattern.is_ambiguous else {}

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
        return self._pattern.name_of(path)

    def _path(self, name: str) -> str:
        """Return the path of a file that the list has under a name."""
        return self._pattern.path_of(name)
