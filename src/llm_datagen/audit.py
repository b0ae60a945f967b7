"""The ledger of a run, recounted from its files: what `llm-datagen verify` says.

Conservation (C1): each source row of a node is exactly one of: kept (it gave output rows), filtered, skipped,
dead-lettered, or pending. The commit log (or the seal) counts filtered, skipped and dead-lettered rows, and says which
rows are done; here the rows that are kept are counted from the output's ids, and all must agree.

Reads files only; nothing is changed. A run that is running may be looked at, but its last rows are on the move.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llm_datagen.errors import StreamError
from llm_datagen.ids import Id
from llm_datagen.lineage import numeric_source, parent_of, rows_of
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.letters import position_of, read_letters

FINDINGS_SHOWN = 20
"""Findings a node, at most; a damaged file gives one for each row."""


@dataclass(slots=True, kw_only=True)
class NodeLedger:
    """What became of the source rows of a node.

    Attributes:
        node_id: the node.
        rows_in: rows in its source that may be read now; None when the source is gone.
        covered: source rows that are done.
        kept: source rows that gave output rows, counted from the output; None when rows of whole batches
            (``first~last_k``) make that impossible.
        filtered: source rows that gave none.
        skipped: source rows that failed and were left out.
        dead: source rows that failed and are dead-lettered.
        rows_out: rows in the output.
        complete: whether the output is sealed.
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
    findings: list[str] = field(default_factory=list)

    @property
    def pending(self) -> int | None:
        """Source rows that are not done."""
        return None if self.rows_in is None else self.rows_in - self.covered

    def find(self, text: str) -> None:
        """Add a finding."""
        if len(self.findings) < FINDINGS_SHOWN:
            self.findings.append(text)


def verify(image: dict[str, Any]) -> list[NodeLedger]:
    """Recount a run from its files, checksums and all. Memory: about 100 bytes for each row of a node.

    Args:
        image: the run's image (`RunFolder.load`).
    """
    return [_verify_node(entry) for entry in image["nodes"]]


def _verify_node(entry: dict[str, Any]) -> NodeLedger:
    ledger = NodeLedger(node_id=entry["node_id"])
    source, output = StreamFactory.create(entry["input_uri"]), StreamFactory.create(entry["output_uri"])
    source_ids = _source_ids(source, ledger, is_root=entry["is_root"])
    ledger.rows_in = None if source_ids is None else len(source_ids)
    try:
        found = position_of(output)
        if found is None:
            if output.disk.size(output.path):
                ledger.find(f"{output.path} has data, but neither a seal nor a commit log: nothing accounts for it")
            return ledger
        output.verify()
        manifest = output.manifest()
        ledger.complete = manifest is not None and manifest.complete
        position = found[1]
        ledger.covered, ledger.filtered = position.coverage.rows, position.filtered
        ledger.skipped, ledger.dead, ledger.rows_out = position.skipped, position.dead, position.rows
        letters = {letter["_i"] for letter in read_letters(output)}
        if len(letters) != position.dead:
            ledger.find(f"{output.errors_path} holds {len(letters)} rows, and {position.dead} were counted")
        made = position.marks.get("made") if entry["id_scheme"] == "numeric" else None
        _recount(ledger, output, source_ids, letters, made)
    except StreamError as error:
        ledger.find(str(error))
    _check_balance(ledger)
    return ledger


def _source_ids(source: Stream, ledger: NodeLedger, *, is_root: bool) -> set[Id] | None:
    try:
        return {row_id for row_id, _, _ in rows_of(source, decode=not is_root)}
    except (StreamError, FileNotFoundError) as error:
        ledger.find(f"the source cannot be read: {error}")
        return None


def _recount(
    ledger: NodeLedger, output: Stream, source_ids: set[Id] | None, letters: set[Id], made: list[int] | None
) -> None:
    seen: set[Id] = set()
    kept: set[Id] = set()
    is_shared = False
    for row_id, _, number in rows_of(output):
        if row_id in seen:
            ledger.find(f"{output.path}, row {number}: the id {row_id!r} is there twice")
        seen.add(row_id)
        if source_ids is None:
            continue
        if isinstance(row_id, int):
            owner: Id | None = numeric_source(row_id, made)
        else:
            owner = row_id if row_id in source_ids else parent_of(row_id)
        if owner in source_ids:
            kept.add(owner)
        elif isinstance(row_id, str) and "~" in row_id:
            is_shared = True
        else:
            ledger.find(f"{output.path}, row {number}: the id {row_id!r} comes from no row of the source")
    if len(seen) != ledger.rows_out:
        ledger.find(f"{output.path} holds {len(seen)} different rows, and {ledger.rows_out} were counted")
    both = kept & letters
    if both:
        ledger.find(f"{output.errors_path}: row {min(both, key=str)!r} is dead-lettered, and in the output too")
    ledger.kept = None if is_shared or source_ids is None else len(kept)


def _check_balance(ledger: NodeLedger) -> None:
    if ledger.kept is not None:
        total = ledger.kept + ledger.filtered + ledger.skipped + ledger.dead
        if total != ledger.covered:
            ledger.find(
                f"{ledger.covered} source rows are done, but {ledger.kept} kept + {ledger.filtered} filtered + "
                f"{ledger.skipped} skipped + {ledger.dead} dead-lettered are {total}"
            )
    if ledger.pending is not None and (ledger.pending < 0 or (ledger.complete and ledger.pending)):
        ledger.find(f"the output is {'sealed' if ledger.complete else 'open'}, and {ledger.pending} rows are pending")
