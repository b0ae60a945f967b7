"""Verify: the account of a run, recounted from its files. `llm-datagen verify` shows it.

Conservation (C1): each source row of a node is exactly one of: kept (it gave output rows), filtered, skipped,
dead-lettered, or pending. The commit log (or the seal) counts filtered, skipped and dead-lettered rows, and says which
rows are done; here the rows that are kept are counted from the output's ids, and all must agree.

It only reads. A running run can be verified, too: up to where it was when that began, or a little later.
"""

from __future__ import annotations

from typing import Any

from llm_datagen.runs.account import NodeAccount
from llm_datagen.runs.moving_output import check_state_of, rows_until
from llm_datagen.runs.node_kinds import is_id_stripper
from llm_datagen.runs.sharded import refuse_whole
from llm_datagen.runs.status import Status
from llm_datagen.runs.unneeded import unneeded_nodes
from llm_datagen.runs.unsettled import unsettled
from llm_datagen.runs.versions import MADE_FROM, VERSION_OF
from llm_datagen.streams import Place, StreamFactory
from llm_datagen.streams.commit_log import flaws_of
from llm_datagen.streams.coverage import Coverage
from llm_datagen.streams.dead_letters import read_dead_letters
from llm_datagen.streams.dispatch_log import abandoned
from llm_datagen.streams.ids import Id, numeric_source, parent_of, root_names
from llm_datagen.streams.inputs.file_set import FileSet
from llm_datagen.streams.position import END, STATE, Position
from llm_datagen.streams.recovery import done_of, position_of
from llm_datagen.streams.rejected import read_rejected
from llm_datagen.streams.scan import rows_of
from llm_datagen.streams.source import size_of, streams_of
from llm_datagen.streams.tails import Tails
from llm_datagen.streams.target_mark import TargetMark

_COUNTED = {
    "rows_in": "covered",
    "rows_out": "rows_out",
    "filtered": "filtered",
    "rejected": "rejected",
    "skipped": "skipped",
    "dead_letters": "dead",
}
"""Counts of a node in the run state, and their names here."""


def verify(run_state: dict[str, Any]) -> list[NodeAccount]:
    """Recount a run from its files, checksums and all. Memory: about 250 bytes per row of a node.

    A stream may be missing if its node has not begun, or if its process has ended (``memory://``): then the counts are
    None, and nothing is wrong.

    Args:
        run_state: the run state (`RunFolder.load`).

    Raises:
        ConfigError: when it is that of a run in shards.
    """
    refuse_whole(run_state, "llm_datagen.shards.verify_whole.verify_whole")
    written = {StreamFactory.create(entry["output_uri"]).place for entry in run_state["nodes"]}
    is_over = run_state["status"] == Status.COMPLETED
    left_out = unsettled(run_state)
    unneeded_ids = unneeded_nodes(run_state)
    return [
        NodeAccount(node_id=entry["node_id"], unsettled=True)
        if entry["node_id"] in left_out
        else _Check(
            entry,
            written,
            is_over=is_over,
            is_kept=VERSION_OF in run_state,
            is_needed=entry["node_id"] not in unneeded_ids,
        ).account
        for entry in run_state["nodes"]
    ]


class _Check:
    """The recount of one node.

    Args:
        entry: the node, in the run state.
        written: the places of all streams that nodes of the run write.
        is_over: whether the run is completed.
        is_kept: whether it is an earlier version, which never goes on.
        is_needed: whether anybody needs what the node has not done.
    """

    def __init__(
        self, entry: dict[str, Any], written: set[Place], *, is_over: bool, is_kept: bool, is_needed: bool
    ) -> None:
        self.account = NodeAccount(node_id=entry["node_id"], unneeded=is_over and not is_needed)
        self._entry = entry
        self._is_over, self._is_kept = is_over, is_kept
        self._source = StreamFactory.input_of(entry)
        self._output = StreamFactory.output_of(entry)
        self._is_own_source = written.issuperset(self._source.places)
        self._has_begun = bool(entry.get("rows_in")) or entry.get("status") == Status.COMPLETED
        found: tuple[str, Position] | None = None
        with self.account.finding_errors():
            found = position_of(self._output)
        is_as_read = found is None or self._is_as_read(found[1])
        self._ids = self._source_ids() if is_as_read else None  # rows of what was changed tell nothing of those read
        if found is not None:
            self._count(*found)
        elif not self.account.findings:
            self._explain_nothing()

    def _is_as_read(self, position: Position) -> bool:
        """Return whether the source is still what was read of it; else, a finding says what is not."""
        if self._is_own_source or size_of(self._source) is None:
            return True
        with self.account.finding_errors():
            self._source.check_fingerprint(self._entry.get("input_fingerprint"), position.coverage, follow=False)
            Tails.check(self._source, position.marks, position.coverage)
            return True
        return False

    def _explain_nothing(self) -> None:
        """Add findings for an output without seal and commit log."""
        path, storage = self._output.path, self._output.storage
        size, done = storage.size(path), self._entry.get("rows_in", 0)
        if self._output.is_sealed() and (size or self._has_begun):
            self.account.find(f"{self._output.done_path} is not the seal of a node: nothing accounts for {path}")
        elif size:
            self.account.find(f"{path} has data, but neither a seal nor a commit log: nothing accounts for it")
        elif self._has_begun and not self._output.is_in_memory:
            what = f"{path} is gone, with" if size is None else f"{path} is empty, without"
            self.account.find(f"{what} its commit log and its seal, and {done} source rows were done; restore it")

    def _source_ids(self) -> dict[Id, int] | None:
        """Return the rows of the source, numbers by ids; None when it cannot be read."""
        source = self._source
        if not all(stream.exists() for stream in streams_of(source)) and self._may_be_absent():
            return None
        with self.account.finding_errors("the source cannot be read: "):
            # A file of another program may have lines that are no rows; a node's output may not.
            root = root_names(self._entry)
            until = done_of(self._output) if any(stream.is_endless for stream in streams_of(source)) else None
            rows = rows_of(source, decode=root is None, strict=self._is_own_source, until=until)
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
        account.rejected = position.rejected
        account.skipped, account.dead, account.rows_out = position.skipped, position.dead, position.rows
        with account.finding_errors():
            seal = output.read_seal()
            account.complete = seal is not None and seal.complete
            self._check_papers()
            self._check_target(position)
        with account.finding_errors():
            abandoned(output, position)
        with account.finding_errors():
            if STATE in position.marks:
                check_state_of(output, position)
        with account.finding_errors():
            output.verify()
        if made_from != self._entry.get(MADE_FROM, self._source.uri):
            account.find(f"{output.path} was made from {made_from!r}, and the run state says from {self._source.uri!r}")
        dead_letters: set[Id] = set()
        with account.finding_errors():
            dead_letters = self._dead_letters(position)
        rejected: set[Id] = set()
        with account.finding_errors():
            rejected = self._rejected(position, dead_letters)
        with account.finding_errors():
            self._recount(position, dead_letters, rejected)
        self._check_balance(position.coverage, seal.source_size if seal else None)
        if self._is_over and not account.complete and not account.unneeded:
            account.find(
                f"runtime.json says that the run is completed, and {output.path} is not sealed; resume the run"
            )
        elif self._is_over:
            self._check_run_state()

    def _check_target(self, position: Position) -> None:
        """Check that there are as many rows as the target says, exactly, where it has ended the node."""
        account, mark, wanted = self.account, TargetMark.of(position.marks), self._entry.get("target")
        account.target_rows, account.beyond_target, account.cut_rows = mark.rows, mark.beyond, mark.cut
        if (mark.rows is not None and position.rows != mark.rows) or (wanted and position.rows > wanted):
            account.find(f"{self._output.path} has {position.rows} rows, and its target is {mark.rows or wanted}")

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

    def _rejected(self, position: Position, dead_letters: set[Id]) -> set[Id]:
        """Return the ids of the rejected rows that are kept, which must be rows of the source that are done."""
        account, output, path = self.account, self._output, self._output.rejected_path
        if position.rejected > position.filtered:
            account.find(f"{path}: {position.rejected} rows were rejected, and only {position.filtered} filtered")
        found: set[Id] = set()
        for number, rejected in enumerate(read_rejected(output, position=position, checked=True), start=1):
            row_id = rejected["_i"]
            if row_id in found:
                account.find(f"{path}, line {number}: row {row_id!r} is rejected twice")
            found.add(row_id)
            if self._ids is not None and self._ids.get(row_id, -1) not in position.coverage:
                account.find(f"{path}, line {number}: row {row_id!r} is rejected, and not done")
            if row_id in dead_letters:
                account.find(f"{path}, line {number}: row {row_id!r} is rejected, and dead-lettered too")
        size = output.storage.size(path) or 0
        if account.complete and size != position.rejected_bytes:
            account.find(f"{path} has {size} bytes, but {position.rejected_bytes} when the output was sealed")
        if len(found) > position.rejected:
            account.find(f"{path} holds {len(found)} rows, and {position.rejected} were counted")
        return found

    def _recount(self, position: Position, dead_letters: set[Id], rejected: set[Id]) -> None:
        account, output, ids = self.account, self._output, self._ids
        if is_id_stripper(self._entry):  # no row has an id, and each comes from one row of the source
            count = sum(1 for _ in rows_until(output, position, decode=False))
            if count != account.rows_out:
                account.find(f"{output.path} holds {count} rows, and {account.rows_out} were counted")
            account.kept = None if ids is None else count
            return
        made = position.marks.get("made") if self._entry["id_scheme"] == "numeric" else None
        done = position.coverage
        end = position.rows - position.marks.get(END, [0])[0]  # behind it are rows that stand for no row of the source
        seen: set[Id] = set()
        kept: set[Id] = set()
        is_shared = False
        for row_id, _, number in rows_until(output, position):
            if row_id in seen:
                account.find(f"{output.path}, row {number}: the id {row_id!r} is there twice")
            seen.add(row_id)
            if ids is None or number >= end:
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
        for row_id in sorted(kept & rejected, key=str):
            account.find(f"{output.rejected_path}: row {row_id!r} is rejected, and in the output too")
        account.kept = None if is_shared or ids is None else len(kept)

    def _check_balance(self, covered: Coverage, source_size: int | None) -> None:
        account = self.account
        if account.kept is not None:
            total = account.kept + account.filtered + account.skipped + account.dead
            # Of a batch that was cut at the target, some source rows may have no row left.
            if not 0 <= account.covered - total <= account.cut_rows:
                output = self._output
                where = output.done_path if output.is_sealed() else output.commits_path
                account.find(
                    f"{where}: {account.covered} source rows are done, but {account.kept} kept + "
                    f"{account.filtered} filtered + {account.skipped} skipped + {account.dead} dead-lettered are "
                    f"{total} rows"
                )
        is_whole = account.complete and account.target_rows is None
        if account.pending is not None and (account.pending < 0 or (is_whole and account.pending)):
            has_grown = account.pending > 0 and source_size is not None and self._source.has_grown(covered, source_size)
            if has_grown and self._is_kept:  # rows that came later are the business of the latest version
                return
            why = f": {self._source.path} has grown since; a resume does them" if has_grown else self._why_unread()
            state = "sealed" if account.complete else "open"
            account.find(f"the output is {state}, and {account.pending} rows are pending{why}")

    def _why_unread(self) -> str:
        """Return what a resume does not read, as the check of the source has found."""
        sets = (stream for stream in streams_of(self._source) if isinstance(stream, FileSet))
        told = [f"{stream.shown}: {stream.noted.changes.unread}" for stream in sets if stream.noted.changes.unread]
        return f": {'; '.join(told)}" if told else ""

    def _check_run_state(self) -> None:
        """Check that the run state of a completed run has the same counts (R1)."""
        for name, here in _COUNTED.items():
            stored, found = self._entry.get(name), getattr(self.account, here)
            if stored != found and (name in self._entry or found):  # older runs have not counted all of them
                self.account.find(
                    f"runtime.json says of {self.account.node_id}: {name} {stored}; its files say {found}"
                )
