"""The file of the service: ``grants.jsonl``, one JSON value per line, as a `ChecksumChain` of lines.

    {"format": 1, "machine": …, "now": seconds, "limits": {scope: {"rests": seconds, "used": […],
     "holders": {holder: state}}}, "budget": {client: state}}
    ["limit", scope, holder, seconds, state]
    ["budget", client, state]

The first line sums up what was before. The others are written before the answer goes out that they are about. Seconds
are those of the machine's monotonic clock. After a restart of the machine, or on another one, the last lines may be
missing: then nothing is granted of a limit for a minute. (Those of a budget are on the medium before they are
answered.) A last line without its end was never answered for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from llm_datagen.errors import DatagenError
from llm_datagen.llm.errors import GrantsError
from llm_datagen.llm.grants.budget_account import BudgetAccount
from llm_datagen.llm.grants.limit_account import LimitAccount
from llm_datagen.streams.chained_file import ChainedFile
from llm_datagen.streams.checksum_chain import ChecksumChain
from llm_datagen.streams.storage.local import LOCAL_STORAGE
from llm_datagen.streams.storage.locks import HeldLock
from llm_datagen.streams.storage.owner import machine

FILE_NAME = "grants.jsonl"
_FORMAT = 1
_LARGEST_BYTES = 1 << 20


class Accounts:
    """All that the service knows.

    Args:
        window: seconds that a call counts after its end.
        slice_seconds: how long a process may use what it was granted.
    """

    def __init__(self, *, window: float, slice_seconds: float) -> None:
        self._window = window
        self._slice = slice_seconds
        self.limits: dict[str, LimitAccount] = {}
        self.budget = BudgetAccount()

    def limit(self, scope: str) -> LimitAccount:
        """Return the account of a limit, a new one when there is none."""
        if scope not in self.limits:
            self.limits[scope] = LimitAccount(window=self._window, slice_seconds=self._slice)
        return self.limits[scope]


class AccountFile:
    """What is on the disk. All methods block; one thread at a time.

    Args:
        folder: where it lies; it is made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._file = ChainedFile(self.path)
        self._lock: HeldLock | None = None
        self._noted: list[list[Any]] = []

    def take(self) -> bool:
        """Return whether it is this service's alone from now on, until `close`.

        Raises:
            GrantsError: when there can be no such file.
        """
        with self._as_error():
            self._lock = LOCAL_STORAGE.take_lock(f"{self.path}.lock")
        return self._lock is not None

    def read(self, accounts: Accounts, now: float) -> None:
        """Put what it says into new accounts.

        Raises:
            GrantsError: when it cannot be read, or is damaged.
        """
        with self._as_error():
            data = LOCAL_STORAGE.read_all(str(self.path)) or b""
        chain = ChecksumChain()
        try:
            values = [orjson.loads(chain.read(line)) for line in data.split(b"\n")[:-1]]
            if values:
                _restore(accounts, values[0], values[1:], now)
        except (ValueError, KeyError, TypeError) as error:
            raise GrantsError(
                f"{self.path} is damaged: {error!r}; restore it from a copy. Without it, nobody knows what was granted"
            ) from error

    def rewrite(self, accounts: Accounts, now: float) -> None:
        """Replace the file by a short one that says the same, and go on with it.

        Raises:
            GrantsError: when it cannot be written.
        """
        head = {
            "format": _FORMAT,
            "machine": machine(),
            "now": now,
            "limits": {
                scope: {
                    "rests": account.rests(now),
                    "used": account.used(now),
                    "holders": {name: account.state(name) for name in account.holders},
                }
                for scope, account in accounts.limits.items()
            },
            "budget": {client: accounts.budget.state(client) for client in accounts.budget.clients},
        }
        with self._as_error():
            self._file.replace([orjson.dumps(head, default=list)], sync=True)
        self._noted.clear()

    @property
    def has_grown(self) -> bool:
        """Whether it is time to replace it by a short one."""
        return self._file.size > _LARGEST_BYTES

    def note(self, *entry: Any) -> None:
        """Add a line with the next write."""
        self._noted.append(list(entry))

    def write(self, *, sync: bool) -> None:
        """Write what was noted.

        Args:
            sync: whether it has to survive the death of the machine, too.

        Raises:
            GrantsError: when it cannot be written. What was noted stays so.
        """
        if not self._noted:
            return
        with self._as_error():
            self._file.append([orjson.dumps(entry, default=list) for entry in self._noted], sync=sync)
        self._noted.clear()

    def close(self) -> None:
        """Close it, and let others have it. May be called more than once."""
        self._file.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @contextlib.contextmanager
    def _as_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, DatagenError) as error:
            raise GrantsError(
                f"{self.path}, where grants are written down, cannot be used: {error}; check the disk and the rights"
            ) from error


def _restore(accounts: Accounts, head: dict[str, Any], entries: list[list[Any]], now: float) -> None:
    if head["format"] != _FORMAT:
        raise ValueError(f"format {head['format']}, and this version knows {_FORMAT}")
    is_same_clock = bool(machine()) and head["machine"] == machine() and head["now"] <= now
    for scope, said in head["limits"].items():
        account = accounts.limit(scope)
        account.rest(head["now"] if is_same_clock else now, said["rests"])
        account.restore_used(said["used"], head["now"] if is_same_clock else now)
        for name, state in said["holders"].items():
            account.restore_holder(name, state, now)
    for client, state in head["budget"].items():
        accounts.budget.restore(client, state, now)
    for kind, *entry in entries:
        if kind == "limit":
            scope, name, then, state = entry
            accounts.limit(scope).restore(name, state, then if is_same_clock else now, now)
        else:
            client, state = entry
            accounts.budget.restore(client, state, now)
    if not is_same_clock:
        for account in accounts.limits.values():
            account.rest(now)
