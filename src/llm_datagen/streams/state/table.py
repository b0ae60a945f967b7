"""The table of a state: its keys and values, in a SQLite file, as they were at one point of the state log.

SQLite finds keys in a file that may be far larger than memory. The file says up to which byte of the state log it holds
the changes, in the same transaction as they. It is never ahead of what is on the medium of the stream's own files.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from llm_datagen.errors import DiskError, StreamCorruptError
from llm_datagen.streams.state.key_filter import KeyFilter

CACHE_KIB = 32 * 1024
"""Memory for pages of the file."""

_WAL_PAGES = 16_384
_MISSES_BEFORE_FILTER = 50_000
"""Keys that were asked for in vain before all keys of a file that was there are read, to know those that are new."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (applied INTEGER NOT NULL, times INTEGER NOT NULL);
"""


class StateTable:
    """The keys and values. One thread at a time may use it.

    Args:
        path: the file; None: a temporary one, which goes with the process.

    Raises:
        DiskError: when it cannot be opened.
        StreamCorruptError: when it is no such file.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path or "", check_same_thread=False, isolation_level=None)
        except sqlite3.Error as error:
            raise _named(error, path) from error
        try:
            self._run(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._run("PRAGMA journal_mode = WAL")
            self._run("PRAGMA synchronous = NORMAL")  # the medium is waited for by `sync`
            self._run(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            self._db.executescript(_SCHEMA)
            row = self._run("SELECT applied FROM log").fetchone()
            applied = _applied_in(row, path)
            if row is None:
                self._run("INSERT INTO log VALUES (0, 0)")
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.Error):
                raise _named(error, path) from error
            raise
        self.applied = applied
        """The byte of the state log up to which it holds the changes. Any thread may read it."""
        self._misses = 0
        self._filter = KeyFilter() if row is None else None
        """The keys; None: not known yet."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key; None when there is none."""
        if self._filter is not None and key not in self._filter:
            return None
        row = self._run("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        if row is not None:
            found: bytes = row[0]
            return found
        if self._filter is None:
            self._misses += 1
            if self._misses >= _MISSES_BEFORE_FILTER:
                self._learn_keys()
        return None

    def _learn_keys(self) -> None:
        known = KeyFilter()
        try:
            known.add(key for (key,) in self._run("SELECT key FROM state"))
        except sqlite3.Error as error:
            raise _named(error, self.path) from error
        self._filter = known

    def items(self, begin: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values in the order of the keys, from `begin` to before `end`."""
        if end is None:
            rows = self._run("SELECT key, value FROM state WHERE key >= ? ORDER BY key", (begin,))
        else:
            rows = self._run("SELECT key, value FROM state WHERE key >= ? AND key < ? ORDER BY key", (begin, end))
        try:
            yield from rows
        except sqlite3.Error as error:
            raise _named(error, self.path) from error

    def __len__(self) -> int:
        """Return how many keys there are; it counts them."""
        return int(self._run("SELECT count(*) FROM state").fetchone()[0])

    def apply(self, changes: Mapping[bytes, bytes | None], applied: int) -> None:
        """Take changes, all or none of them.

        Args:
            changes: keys and their values; None deletes the key.
            applied: the byte of the state log up to which they go.
        """
        in_order = sorted(changes.items())  # so that neighbours in the file are written together
        sets = [change for change in in_order if change[1] is not None]
        deletes = [(key,) for key, value in in_order if value is None]
        try:
            self._db.execute("BEGIN")
            try:
                self._db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", sets)
                self._db.executemany("DELETE FROM state WHERE key = ?", deletes)
                self._db.execute("UPDATE log SET applied = ?, times = times + 1", (applied,))
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _named(error, self.path) from error
        self.applied = applied
        if self._filter is not None:
            self._filter.add(key for key, _ in sets)

    def sync(self) -> None:
        """Return when all that was taken is on the medium."""
        self._run("PRAGMA synchronous = FULL")
        self.apply({}, self.applied)  # a transaction of its own puts the file of changes on the medium
        self._run("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Close the file. May be called more than once."""
        self._db.close()

    def _run(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise _named(error, self.path) from error


def _named(error: sqlite3.Error, path: str | None) -> Exception:
    """Return an error of SQLite as one that names the file."""
    where = path or "the temporary file of a state"
    if isinstance(error, sqlite3.OperationalError):
        return DiskError(None, f"{error} (the state of a node; make room or mend it, then resume)", where)
    return StreamCorruptError(f"{where}: {error}; restore the file, or start afresh with if_exists='overwrite'")


def _applied_in(row: tuple[Any, ...] | None, path: str | None) -> int:
    """Return what the row of the table `log` says; a file that was cut may have nulls where none can be.

    Raises:
        StreamCorruptError: when it is no number.
    """
    if row is None:
        return 0
    if not isinstance(row[0], int):
        raise _named(sqlite3.DatabaseError("a value is missing: the file was cut"), path)
    return row[0]


class TableReader:
    """A table as it is at one moment, also of a process that goes on with it. Only reads. A context manager.

    Args:
        path: the file, which is there.

    Attributes:
        applied: up to which byte of the state log it holds the changes; 0 when its process died before there were any.

    Raises:
        DiskError, StreamCorruptError: when it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(
                f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise _named(error, path) from error
        try:
            self._db.execute("BEGIN")
            self._is_made = bool(self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'log'").fetchone())
            row = self._db.execute("SELECT applied FROM log").fetchone() if self._is_made else None
            self.applied = _applied_in(row, path)
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.Error):
                raise _named(error, path) from error
            raise

    def flaw(self) -> str | None:
        """Return what SQLite itself finds wrong with the file; None for nothing.

        Raises:
            DiskError: when it cannot be read.
        """
        try:
            found: str = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok" or not self._is_made:
                return None if found == "ok" else " ".join(found.split())
            of_others = "SELECT 1 FROM state WHERE typeof(key) != 'blob' OR typeof(value) != 'blob' LIMIT 1"
            return "a value has become one of another type" if self._db.execute(of_others).fetchone() else None
        except sqlite3.OperationalError as error:
            raise _named(error, self._path) from error
        except sqlite3.DatabaseError as error:
            return str(error)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield all keys and values in the order of the keys.

        Raises:
            DiskError, StreamCorruptError: when they cannot be read.
        """
        try:
            yield from self._db.execute("SELECT key, value FROM state ORDER BY key") if self._is_made else ()
        except sqlite3.Error as error:
            raise _named(error, self._path) from error

    def close(self) -> None:
        """Close the file. May be called more than once."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def applied_of(path: str) -> int | None:
    """Return up to which byte of the state log the table at `path` goes; None when there is no such file. Only reads.

    Raises:
        DiskError, StreamCorruptError: when it cannot be read.
    """
    if not Path(path).exists():
        return None
    with TableReader(path) as table:
        return table.applied
