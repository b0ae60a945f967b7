"""The file of what a run spends: ``budget.jsonl``, one JSON value per line, as a `ChecksumChain` of lines.

    {"format": 2, "spent": [picodollars, tokens], "lost": [picodollars, tokens]}
    ["reserve", call, picodollars, tokens]
    ["settle", call, picodollars, tokens]
    ["lose", call] or ["lose", call, 1]
    ["ask", number, token, picodollars, tokens]
    ["grant", number, picodollars, tokens]

The last two are of a run that shares its budget by a grants service: what it asks for, and keeps until it is answered;
and what it was granted, in all, before it is spent. Then the first line has format 3, and an entry "grants".

The first line sums up what was before; `lost` is the part of `spent` that went to calls of which nobody knows what they
did cost. Those of them that were answered, and whose answer does not say it, have a 1 behind `lose`, and their sum is
`untold` in the first line, if there are some: what an older version wrote of them counts as never answered.

A `reserve` is written before anything else happens, and survives the death of the process. (Not that of the machine,
where the last lines may be missing.) What makes room is written with the next `reserve`: when it is missing, the call
counts in full. A last line without its end was never answered for, and is left out. Any other line that was changed,
removed, doubled or moved is refused. Format 1, whose lines have no checksums, is read, too.

Why this is no SQLite database, as the cache is: files of earlier runs have to be read on, so `read` and the chain stay,
and the database would come on top: more lines, not fewer. A reservation is one short append before its call, on the
event loop (5 µs, measured; a transaction: 75 µs). And there is nothing for a database to lock: one process has the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from llm_datagen.errors import DatagenError
from llm_datagen.llm.cost.budget import Amount
from llm_datagen.llm.errors import BudgetError
from llm_datagen.runs import batch_jobs
from llm_datagen.streams.chained_file import ChainedFile
from llm_datagen.streams.checksum_chain import ChecksumChain

FILE_NAME = "budget.jsonl"
_FORMAT = 2
_SHARED_FORMAT = 3
_LARGEST_BYTES = 1 << 20


class Spending(NamedTuple):
    """What the file says, or a job log.

    Attributes:
        spent: in all, without what is in flight.
        lost: the part of it of which nobody knows whether it was that much: the answers never came, or do not say.
        in_flight: the most that calls can cost which are in flight, or were when the process died; of a job log, rows
            that wait for their answers.
        untold: the part of `lost` that went to calls whose answer came.
    """

    spent: Amount
    lost: Amount
    in_flight: Amount
    untold: Amount = Amount()


class GrantNotes(NamedTuple):
    """What the file says of a budget that is shared by a grants service.

    Attributes:
        client: what the service knows the run by.
        number: of the latest request.
        token: of that request; empty when it was answered.
        granted: what the run holds of the budget, with what it has spent of it.
        inherited: what it has spent that another run holds, of which it is a copy.
    """

    client: str
    number: int = 0
    token: str = ""
    granted: Amount = Amount()
    inherited: Amount = Amount()


class SpendFile:
    """What is on the disk. All methods block; one thread at a time.

    Args:
        folder: where it lies, `INodeContext.folder`; it is made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self.grants: GrantNotes | None = None
        self._file = ChainedFile(self.path)
        self._noted: list[bytes] = []

    def read(self) -> Spending:
        """Return what it says.

        Raises:
            BudgetError: when the file cannot be read.
        """
        data = b""
        with self._as_budget_error(), contextlib.suppress(FileNotFoundError):
            data = self.path.read_bytes()
        lines = data.split(b"\n")[:-1]
        chain = ChecksumChain()
        try:
            if not data.startswith(b"{"):  # format 1 did
                lines = [chain.read(line) for line in lines]
            head, *entries = lines or [b""]
            return self._summed(head, entries)
        except (ValueError, KeyError, TypeError) as error:
            raise BudgetError(
                f"{self.path} is damaged: {error!r}; restore it, or delete it: then what was spent is forgotten"
            ) from error

    def rewrite(self, sums: Spending, in_flight: Mapping[int, Amount], grants: GrantNotes | None = None) -> None:
        """Replace the file by a short one that says the same, and go on with it.

        Raises:
            BudgetError: when it cannot be written.
        """
        head: dict[str, Any] = {"format": _FORMAT, "spent": list(sums.spent), "lost": list(sums.lost)}
        if any(sums.untold):
            head["untold"] = list(sums.untold)
        if grants is not None:
            head |= {"format": _SHARED_FORMAT, "grants": [list(e) if isinstance(e, Amount) else e for e in grants]}
        entries = (["reserve", call, *need] for call, need in in_flight.items())
        with self._as_budget_error():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file.replace([orjson.dumps(value) for value in (head, *entries)], sync=False)
        self._noted.clear()

    @property
    def has_grown(self) -> bool:
        """Whether it is time to replace it by a short one."""
        return self._file.size > _LARGEST_BYTES

    def note(self, *entry: Any) -> None:
        """Add a line with the next write."""
        self._noted.append(orjson.dumps(entry))

    def write(self, *entry: Any) -> None:
        """Add a line now, after those that were noted; without an entry, only these.

        Raises:
            BudgetError: when it cannot be written; the file is as it was then, or mended by the next write. What was
                noted stays so.
        """
        with self._as_budget_error():
            self._file.append([*self._noted, orjson.dumps(entry)] if entry else self._noted)
        self._noted.clear()

    def close(self) -> None:
        """Write what was noted, if that can be, and close it. May be called more than once."""
        if self._file.is_open:
            with contextlib.suppress(BudgetError):
                self.write()
            self._file.close()

    def read_all(self) -> Spending:
        """Return what it says together with the job logs that lie beside it; rows in jobs are in flight.

        Raises:
            BudgetError: when one of the files cannot be read.
        """
        found = self.read()
        for money in money_of_jobs(self.path.parent).values():
            found = Spending(*(one.plus(other) for one, other in zip(found, money, strict=True)))
        return found

    def _summed(self, head: bytes, entries: list[bytes]) -> Spending:
        if not head:
            return Spending(Amount(), Amount(), Amount())
        start = orjson.loads(head)
        if start["format"] not in {1, _FORMAT, _SHARED_FORMAT}:
            raise BudgetError(f"{self.path} has format {start['format']}, and this version knows {_SHARED_FORMAT}")
        grants = None
        if start["format"] == _SHARED_FORMAT:
            client, number, token, granted, inherited = start["grants"]
            grants = GrantNotes(client, number, token, Amount(*granted), Amount(*inherited))
        spent, lost, untold = Amount(*start["spent"]), Amount(*start["lost"]), Amount(*start.get("untold", ()))
        open_calls: dict[int, Amount] = {}
        for kind, call, *amount in map(orjson.loads, entries):
            if kind == "reserve":
                open_calls[call] = Amount(*amount)
                continue
            if kind in {"ask", "grant"} and grants is not None:
                token = amount.pop(0) if kind == "ask" else ""
                grants = grants._replace(number=call, token=token, granted=Amount(*amount))
                continue
            need = open_calls.pop(call)
            if kind == "lose":
                spent, lost = spent.plus(need), lost.plus(need)
                untold = untold.plus(need) if amount else untold
            else:
                spent = spent.plus(Amount(*amount))
        self.grants = grants
        in_flight = Amount()
        for need in open_calls.values():
            in_flight = in_flight.plus(need)
        return Spending(spent, lost, in_flight, untold)

    @contextlib.contextmanager
    def _as_budget_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, DatagenError) as error:
            raise BudgetError(
                f"{self.path}, where spending is written down, cannot be used: {error}; check the disk and the "
                "rights, then resume"
            ) from error


def money_of_jobs(folder: Path) -> dict[Path, Spending]:
    """Return what the jobs of each job log in a folder cost.

    Raises:
        BudgetError: when one cannot be read.
    """
    if not (folder / batch_jobs.FOLDER).is_dir():
        return {}
    try:
        found = {path: batch_jobs.money_of(path) for _, path in batch_jobs.job_logs(folder)}
    except DatagenError as error:
        raise BudgetError(f"what jobs have cost is not known: {error}") from error
    return {path: Spending(*(Amount(*each) for each in money)) for path, money in found.items()}
