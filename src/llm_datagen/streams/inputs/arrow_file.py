"""Arrow IPC files as inputs: the file format (Feather), and the stream format, in which `datasets` keeps its data."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llm_datagen.errors import DatagenError, StreamError
from llm_datagen.streams.arrow_library import arrow
from llm_datagen.streams.inputs.arrow_rows import RowMaker, batch_rows, chosen, read_batches
from llm_datagen.streams.inputs.table import TableStream

_MAGIC = b"ARROW1"


class ArrowStream(TableStream):
    """The rows of an Arrow IPC file. It is only read."""

    extension = "arrow"

    def open_table(self) -> ArrowTable:
        """Open the file.

        Raises:
            StreamError: when it is no Arrow file, is cut short, or has columns that rows cannot hold.
            ConfigError: when pyarrow is not installed.
        """
        return ArrowTable(self.path, self.columns, self.open_file)


class ArrowTable:
    """An open Arrow IPC file, mapped into memory where it is a file of this machine. One thread at a time uses it.

    Of the file format, the footer tells where batches lie; a stream is looked through once, without reading its data.

    Args:
        path: its path.
        columns: which columns to read; None: all.
        open_file: returns what pyarrow opens, where that is no file of this machine; None: its path.
    """

    def __init__(self, path: str, columns: Sequence[str] | None, open_file: Callable[[], Any] | None = None) -> None:
        self._path = path
        self._ipc: Any = arrow("pyarrow.ipc")
        self._map: Any = None
        try:
            source = open_file() if open_file is not None else path
            self._map = arrow().memory_map(path) if isinstance(source, str) else arrow().PythonFile(source, "r")
            is_file = self._map.read(len(_MAGIC)) == _MAGIC
            self._map.seek(0)
            self._reader: Any = (self._ipc.open_file if is_file else self._ipc.open_stream)(self._map)
            self._size = self._map.size()
            self._ends = self._ends_of_file() if is_file else self._ends_of_stream()
        except DatagenError:
            self.close()
            raise  # of the store that the file is in: the file is not at fault
        except (arrow().ArrowException, OSError) as error:
            self.close()
            raise StreamError(
                f"{path} cannot be read as Arrow: {error}; replace it with a whole file, or rename it"
            ) from error
        self._is_file = is_file
        try:
            schema = self._reader.schema
            self._columns = chosen(path, schema, columns)
            self._maker = RowMaker(arrow().schema([schema.field(name) for name in self._columns]), path)
        except BaseException:
            self.close()
            raise

    @property
    def has_long_numbers(self) -> bool:
        """Whether its rows may hold whole numbers of more than 64 bits."""
        return self._maker.has_json

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self._ends[-1] if self._ends else 0

    @property
    def parts(self) -> list[int]:
        """The numbers of the rows at which batches begin."""
        return [0, *self._ends]

    def batches(self, start: int) -> Iterator[list[Any]]:
        """Yield all rows from number `start` on, as records.

        Raises:
            ValueError: when the file is damaged.
        """
        for batch in read_batches(self._slices(start), self._path):
            yield self._maker.records(batch)

    def _slices(self, start: int) -> Iterator[Any]:
        begin = 0
        if not self._is_file:
            self._map.seek(0)
            self._reader = self._ipc.open_stream(self._map)
        for number, end in enumerate(self._ends):
            if end > start or not self._is_file:
                self._check_size()
                batch = self._reader.get_batch(number) if self._is_file else self._reader.read_next_batch()
                batch = batch.select(self._columns)
                rows = batch_rows(batch.nbytes, batch.num_rows)
                for at in range(max(start - begin, 0), batch.num_rows, rows):
                    yield batch.slice(at, rows)
            begin = end

    def close(self) -> None:
        """Close the file."""
        if self._map is not None:
            self._map.close()

    def _ends_of_file(self) -> list[int]:
        return _sums(self._reader.get_batch(number).num_rows for number in range(self._reader.num_record_batches))

    def _ends_of_stream(self) -> list[int]:
        ends = _sums(batch.num_rows for batch in self._reader)
        if (end := self._map.tell()) < self._size:
            raise OSError(f"its stream ends at byte {end}, and {self._size - end} bytes stand behind it")
        return ends

    def _check_size(self) -> None:
        """Check that the file was not cut: to touch what is mapped and gone would kill the process."""
        with contextlib.suppress(FileNotFoundError):  # it has no name any more, and is whole
            if (now := os.stat(self._path).st_size) < self._size:  # noqa: PTH116
                raise OSError(f"it was cut to {now} bytes while it was read, and had {self._size}")


def _sums(counts: Iterator[int]) -> list[int]:
    ends: list[int] = []
    for count in counts:
        ends.append(count + (ends[-1] if ends else 0))
    return ends
