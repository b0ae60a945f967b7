"""The account of a run, recounted from its files: what `llm-datagen verify` says.

Conservation (C1): each source row of a node is exactly one of: kept (it gave output rows), filtered, skipped,
dead-lettered, or pending. The commit log (or the seal) counts filtered, skipped and dead-lettered rows, and says which
rows are done; here the rows that are kept are counted from the output's ids, and all must agree.

Reads files only; nothing is changed. A run that is running may be looked at, but its last rows are on the move.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.errors import StreamError
from llm_datagen.runs.export import is_export
from llm_datagen.runs.graph import unsettled
from llm_datagen.runs.status import Status
from llm_datagen.streams import Fingerprint, Place, StreamFactory
from llm_datagen.streams.commit_log import flaws_of
from llm_datagen.streams.dead_letters import read_dead_letters
from llm_datagen.streams.dispatch_log import abandoned
from llm_datagen.streams.ids import Id, numeric_source, parent_of, root_names
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import position_of
from llm_datagen.streams.scan import rows_of
from llm_datagen.streams.source import size_of, streams_of
from llm_datagen.streams.tails import Tails

FINDINGS_SHOWN = 20
"""Findings a node, at most; a damaged file gives one for each row."""

_COUNTED = {
    "rows_in": "covered",
    "rows_out": "rows_out",
    "filtered": "filtered",
    "skipped": "skipped",
    "dead_letters": "dead",
}
"""What the run state counts of a node, and what it is called here."""


@dataclass(slots=True, kw_only=True)
class NodeAccount:
    """What became of the source rows of a node.

    Attributes:
        node_id: the node.
        rows_in: rows in its source that may be read now; None when that cannot be counted: the source is not there
            (yet), or cannot be read.
        covered: source rows that are done.
        kept: source rows that gave output rows, counted from the output; None when rows of whole batches
            (``first~last_k``) make that impossible, or source or output cannot be read.
        filtered: source rows that gave none.
        skipped: source rows that failed and were left out.
        dead: source rows that failed and are dead-lettered.
        rows_out: rows in the output.
        complete: whether the output is sealed.
        unsettled: whether a `rerun` that was cut short has still to delete or to move what it reads or writes: then
            nothing of it was looked at, and a resume finishes that first.
        findings: what is wrong; empty when nothing is.
    """

    node_id: str
    rows_in: int | None = None
    covered: int = 0
    kept: int | None = None
    filtered: int = 0
    skipped: int = 0
    dead: int = 0
    rows_out: int = 0
    complete: bool = False
    unsettled: bool = False
    findings: list[str] = field(default_factory=list)

    @property
    def pending(self) -> int | None:
        """Source rows that are not done; None when the source cannot be counted."""
        return None if self.rows_in is None else self.rows_in - self.covered

    def find(self, text: str) -> None:
        """Add a finding."""
        if len(self.findings) < FINDINGS_SHOWN and text not in self.findings:
            self.findings.append(text)

    @contextmanager
    def finding_errors(self, what: str = "") -> Iterator[None]:
        """Make findings of the errors that say what is wrong with a file; then the rest is looked at, too."""
        try:
            yield
        except (StreamError, FileNotFoundError) as error:
            self.find(f"{what}{error}")


def verify(run_state: dict[str, Any]) -> list[NodeAccount]:
    """Recount a run from its files, checksums and all. Memory: about 250 bytes for each row of a node.

    What is not there yet, because its node has not begun, and what has gone with the memory of its process
    (``memory://``), is nothing wrong: then the counts are None.

    Args:
        run_state: the run state (`RunFolder.load`).
    """
    written = {StreamFactory.create(entry["output_uri"]).place for entry in run_state["nodes"]}
    is_over = run_state["status"] == Status.COMPLETED
    left_out = unsettled(run_state)
    return [
        NodeAccount(node_id=entry["node_id"], unsettled=True)
        if entry["node_id"] in left_out
        else _Check(entry, written, is_over=is_over).account
        for entry in run_state["nodes"]
    ]


class _Check:
    """The recount of one node.

    Args:
        entry: the node, in the run state.
        written: the places of all streams that nodes of the run write.
        is_over: whether the run is completed.
    """

    def __init__(self, entry: dict[str, Any], written: set[Place], *, is_over: bool) -> None:
        self.account = NodeAccount(node_id=entry["node_id"])
        self._entry = entry
        self._is_over = is_over
        self._source = StreamFactory.input_of(entry)
        self._output = StreamFactory.output_of(entry)
        self._is_own_source = written.issuperset(self._source.places)
        self._has_begun = bool(entry.get("rows_in")) or entry.get("status") == Status.COMPLETED
        found: tuple[str, Position] | None = None
        with self.account.finding_errors():
            found = position_of(self._output)
        self._ids = self._source_ids()
        if found is not None:
            self._count(*found)
        elif not self.account.findings:
            self._explain_nothing()

    def _explain_nothing(self) -> None:
        """There is neither a seal nor a commit log."""
        path, storage = self._output.path, self._output.storage
        size, done = storage.size(path), self._entry.get("rows_in", 0)
        if self._output.is_sealed() and (size or self._has_begun):
            self.account.find(f"{self._output.done_path} is no seal that a node wrote: nothing accounts for {path}")
        elif size:
            self.account.find(f"{path} has data, but neither a seal nor a commit log: nothing accounts for it")
        elif self._has_begun and not self._output.is_in_memory:
            what = f"{path} is gone, with" if size is None else f"{path} is empty, without"
            self.account.find(f"{what} its commit log and its seal, and {done} source rows were done; restore it")

    def _source_ids(self) -> dict[Id, int] | None:
        """Return the rows of the source: their ids, and their numbers; None when they cannot be had."""
        source = self._source
        if not all(stream.exists() for stream in streams_of(source)) and self._may_be_absent():
            return None
        with self.account.finding_errors("the source cannot be read: "):
            # What another program wrote may have lines that are no rows; what a node wrote, not.
            root = root_names(self._entry)
            rows = rows_of(source, decode=root is None, strict=self._is_own_source)
            numbers: dict[Id, int] = {}
            count = 0
            for row_id, _, number in rows:
                numbers[root.name(number) if root else row_id] = number
                count += 1
            self.account.rows_in = count
            return numbers
        return None

    def _may_be_absent(self) -> bool:
        if any(stream.is_in_memory for stream in streams_of(self._source)):
            return True
        is_to_come = self._is_own_source or bool(self._entry.get("follow_input"))
        return is_to_come and not self._has_begun and not self._output.exists()

    def _count(self, made_from: str, position: Position) -> None:
        account, output = self.account, self._output
        account.covered, account.filtered = position.coverage.rows, position.filtered
        account.skipped, account.dead, account.rows_out = position.skipped, position.dead, position.rows
        with account.finding_errors():
            seal = output.read_seal()
            account.complete = seal is not None and seal.complete
            self._check_papers()
        with account.finding_errors():
            abandoned(output, position)
        with account.finding_errors():
            output.verify()
        if made_from != self._source.uri:
            account.find(f"{output.path} was made from {made_from!r}, and the run state says from {self._source.uri!r}")
        if not self._is_own_source and self._ids is not None:
            with account.finding_errors():
                known = self._entry.get("input_fingerprint")
                Fingerprint.check_input(self._source, known, position.coverage, follow=False)
                Tails.check(self._source, position.marks, position.coverage)
        dead_letters: set[Id] = set()
        with account.finding_errors():
            dead_letters = self._dead_letters(position)
        with account.finding_errors():
            self._recount(position, dead_letters)
        self._check_balance(seal.source_size if seal else None)
        if self._is_over and not account.complete:
            account.find(
                f"runtime.json says that the run is completed, and {output.path} is not sealed; resume the run"
            )
        elif self._is_over:
            self._check_run_state()

    def _check_papers(self) -> None:
        """Check that the seal, or else the commit log, is as it was written."""
        output = self._output
        output.check_seal()
        if not output.is_sealed():
            for flaw in flaws_of(output.storage, output.commits_path):
                self.account.find(flaw)

    def _dead_letters(self, position: Position) -> set[Id]:
        """Return the ids of the dead letters, which must be rows of the source that are done."""
        found: set[Id] = set()
        path, done = self._output.errors_path, position.coverage
        for number, dead_letter in enumerate(read_dead_letters(self._output, position=position, checked=True), start=1):
            row_id = dead_letter["_i"]
            if row_id in found:
                self.account.find(f"{path}, line {number}: row {row_id!r} is dead-lettered twice")
            found.add(row_id)
            if dead_letter["source"][0] not in done:
                self.account.find(f"{path}, line {number}: row {row_id!r} is dead-lettered, and not done")
            if self._ids is not None and self._ids.get(row_id) != dead_letter["source"][0]:
                self.account.find(
                    f"{path}, line {number}: row {row_id!r} is not row {dead_letter['source'][0]} of the source"
                )
        size = self._output.storage.size(path) or 0
        if self.account.complete and size != position.errors_bytes:
            self.account.find(f"{path} has {size} bytes, but {position.errors_bytes} when the output was sealed")
        if len(found) != position.dead:
            self.account.find(f"{path} holds {len(found)} rows, and {position.dead} were counted")
        return found

    def _recount(self, position: Position, dead_letters: set[Id]) -> None:
        account, output, ids = self.account, self._output, self._ids
        if is_export(self._entry):  # no row has an id, and each comes from one row of the source
            count = sum(1 for _ in rows_of(output, decode=False))
            if count != account.rows_out:
                account.find(f"{output.path} holds {count} rows, and {account.rows_out} were counted")
            account.kept = None if ids is None else count
            return
        made = position.marks.get("made") if self._entry["id_scheme"] == "numeric" else None
        done = position.coverage
        seen: set[Id] = set()
        kept: set[Id] = set()
        is_shared = False
        for row_id, _, number in rows_of(output):
            if row_id in seen:
                account.find(f"{output.path}, row {number}: the id {row_id!r} is there twice")
            seen.add(row_id)
            if ids is None:
                continue
            if isinstance(row_id, int):
                owner: Id | None = numeric_source(row_id, made)
            else:
                owner = row_id if row_id in ids else parent_of(row_id)
            if owner in ids:
                kept.add(owner)
                if ids[owner] not in done:
                    account.find(f"{output.path}, row {number}: the id {row_id!r} comes from a row that is not done")
            elif isinstance(row_id, str) and "~" in row_id:
                is_shared = True
            else:
                account.find(f"{output.path}, row {number}: the id {row_id!r} comes from no row of the source")
        if len(seen) != account.rows_out:
            account.find(f"{output.path} holds {len(seen)} different rows, and {account.rows_out} were counted")
        for row_id in sorted(kept & dead_letters, key=str):
            account.find(f"{output.errors_path}: row {row_id!r} is dead-lettered, and in the output too")
        account.kept = None if is_shared or ids is None else len(kept)

    def _check_balance(self, source_size: int | None) -> None:
        account = self.account
        if account.kept is not None:
            total = account.kept + account.filtered + account.skipped + account.dead
            if total != account.covered:
                output = self._output
                where = output.done_path if output.is_sealed() else output.commits_path
                account.find(
                    f"{where}: {account.covered} source rows are done, but {account.kept} kept + "
                    f"{account.filtered} filtered + {account.skipped} skipped + {account.dead} dead-lettered are "
                    f"{total} rows"
                )
        if account.pending is not None and (account.pending < 0 or (account.complete and account.pending)):
            size = size_of(self._source) or 0
            has_grown = source_size is not None and size > source_size and account.pending > 0
            account.find(
                f"the output is {'sealed' if account.complete else 'open'}, and {account.pending} rows are pending"
                + (f": {self._source.path} has grown since; a resume does them" if has_grown else "")
            )

    def _check_run_state(self) -> None:
        """Check that of a run that has ended well, the run state says the same (R1)."""
        for name, here in _COUNTED.items():
            told, found = self._entry.get(name), getattr(self.account, here)
            if told != found:
                self.account.find(f"runtime.json says of {self.account.node_id}: {name} {told}; its files say {found}")
