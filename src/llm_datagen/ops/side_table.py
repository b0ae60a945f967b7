"""A table beside the stream: rows by a key, in a temporary SQLite file that is kept in memory as far as it fits."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from typing import Any

from llm_datagen.errors import ConfigError, DiskError
from llm_datagen.ops.keys import digest_of
from llm_datagen.streams.factory import StreamFactory
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.ids import ID_FIELD

CACHE_KIB = 64 * 1024
"""Memory for the table, at most."""

_READ_ROWS = 1000


class SideTable:
    """The rows of a stream, by a key. Any thread may use it.

    Args:
        uri: the stream: JSON lines, CSV, Parquet, or any other that can be read.
        by: the columns of the key.

    Attributes:
        columns: all columns of the table but those of the key, in the order in which they first come.
        kinds: for each column of the key, the types of its values.

    Raises:
        StreamError: when it cannot be read.
        ConfigError: when a row lacks a column of the key.
    """

    def __init__(self, uri: str, by: list[str]) -> None:
        self.columns: list[str] = []
        self.kinds: list[set[str]] = [set() for _ in by]
        self._uri, self._by = uri, by
        self._lock = threading.Lock()
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        try:
            self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._db.execute("PRAGMA journal_mode = OFF")
            self._db.execute(
                "CREATE TABLE side (key TEXT, number INTEGER, row BLOB, PRIMARY KEY (key, number)) WITHOUT ROWID"
            )
            self._db.execute("BEGIN")
            self._read()
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._db.close()
            raise DiskError(None, f"{error} (the temporary table of a Join)", uri) from error
        except BaseException:
            self._db.close()
            raise

    def _read(self) -> None:
        known: dict[str, None] = {}
        number = 0
        for rows, _ in StreamFactory.create(self._uri).get_reader(follow=False).read(_READ_ROWS):
            made = []
            for row in rows:
                made.append((self._key_of(row, number), number, dumps(self._others(row, known))))
                number += 1
            self._db.executemany("INSERT INTO side VALUES (?, ?, ?)", made)
        self.columns = list(known)

    def _key_of(self, row: Any, number: int) -> str:
        for column in self._by:
            if not isinstance(row, dict) or column not in row:
                raise ConfigError(f"{self._uri}: row {number} has no column {column!r}, by which it is joined")
        key = [row[column] for column in self._by]
        for kinds, value in zip(self.kinds, key, strict=True):
            kinds.add(kind_of(value))
        return digest_of(key)

    def _others(self, row: dict[str, Any], known: dict[str, None]) -> dict[str, Any]:
        others = {name: value for name, value in row.items() if name != ID_FIELD and name not in self._by}
        known.update(dict.fromkeys(others))
        return others

    def find(self, key: Iterable[Any]) -> list[dict[str, Any]]:
        """Return the rows of a key, without its columns, in their order."""
        with self._lock:
            rows = self._db.execute(
                "SELECT row FROM side WHERE key = ? ORDER BY number", (digest_of(list(key)),)
            ).fetchall()
        return [loads_exactly(row) for (row,) in rows]

    def close(self) -> None:
        """Forget it."""
        self._db.close()


def kind_of(value: Any) -> str:
    """Return the kind of a value of a key: numbers of both types are one."""
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
