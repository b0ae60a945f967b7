"""The file of the cache: a SQLite database of answers under the hashes of their requests.

It is in WAL mode with ``synchronous=NORMAL``: what `put` has returned from survives the death of the process. When the
machine dies the last answers may be gone, and are paid for again; the file stays whole.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from llm_datagen.llm.errors import CacheError

_APPLICATION_ID = 0x4C4C4D4A
_FORMAT = 2
"""2: an answer has its ending and a checksum. 1 is read, too: the ending is then found from its finish reason."""
_EARLIER = (1,)
_BUSY_SECONDS = 30.0


class CacheFile:
    """Answers by key, in a file that several processes may use at once.

    All methods block. `get` may be called from another thread than `put` and `delete`.

    Args:
        path: the file; it is made, with its folder, when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file, or make it.

        Raises:
            CacheError: when it cannot be opened, or is no cache.
        """
        with self._as_cache_error("cannot be opened"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            self._make_or_check(self._writer)
            _set_wal_mode(self._writer)
            self._writer.execute("PRAGMA synchronous = NORMAL")
            self._reader = self._connect()

    def get(self, key: bytes) -> bytes | None:
        """Return the answer of `key`, or None.

        Raises:
            CacheError: when the file cannot be read.
        """
        assert self._reader is not None
        with self._as_cache_error("cannot be read"):
            row = self._reader.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, answers: Mapping[bytes, bytes]) -> None:
        """Store answers in one transaction. A key that has an answer keeps it.

        Raises:
            CacheError: when they cannot be written; none of them is stored then.
        """
        assert self._writer is not None
        with self._as_cache_error("cannot be written"), self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.executemany("INSERT OR IGNORE INTO answers (key, answer) VALUES (?, ?)", answers.items())

    def delete(self, answers: Iterable[tuple[bytes, bytes]]) -> None:
        """Forget answers, in one transaction. A key that has another answer meanwhile keeps it.

        Raises:
            CacheError: when the file cannot be written.
        """
        assert self._writer is not None
        with self._as_cache_error("cannot be written"), self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.executemany("DELETE FROM answers WHERE key = ? AND answer = ?", answers)

    def close(self) -> None:
        """Close the file. May be called more than once."""
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    def _make_or_check(self, connection: sqlite3.Connection) -> None:
        # Looked at before anything is written: the database of another program is left as it is.
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if application == 0 and tables == 0:
                connection.execute("CREATE TABLE answers (key BLOB PRIMARY KEY, answer BLOB NOT NULL)")
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
                return
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if application == _APPLICATION_ID and version in _EARLIER:
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
                version = _FORMAT
        if application != _APPLICATION_ID:
            raise CacheError(f"{self.path} is the database of another program: give cache another path")
        if version != _FORMAT:
            raise CacheError(
                f"{self.path} is a cache of format {version}, this version of llm-datagen knows {_FORMAT}: "
                "give cache another path, or use the version that wrote it"
            )

    @contextmanager
    def _as_cache_error(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise CacheError(
                f"the cache {self.path} {what}: {error} (check the disk, the rights, and that no other program "
                "holds the file, then resume)"
            ) from error
        except sqlite3.DatabaseError as error:
            raise CacheError(
                f"{self.path} is no cache, or damaged: {error} (move it away, or give cache another path; the "
                "answers that it held are paid for again)"
            ) from error
        except OSError as error:
            raise CacheError(f"the cache {self.path} {what}: {error} (check the path and the rights)") from error


def _set_wal_mode(connection: sqlite3.Connection) -> None:
    """Set it, again and again: processes that begin at once lock each other out of it, without SQLite's own wait."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(random.uniform(0, 0.05))
        else:
            return
