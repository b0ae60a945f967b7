"""The ledger of a run, recounted from its files: what `llm-datagen verify` and `trace` say.

Conservation (C1): each source row of a node is exactly one of: kept (it gave output rows), filtered, skipped,
dead-lettered, or pending. The commit log (or the seal) counts filtered, skipped and dead-lettered rows, and says which
rows are done; here the rows that are kept are counted from the output's ids, and all must agree.

Reads files only; nothing is changed. A run that is running may be looked at, but its last rows are on the move.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.errors import StreamError
from llm_datagen.ids import NUMERIC_WIDTH, Id
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.letters import position_of, read_letters
from llm_datagen.streams.rows import item_of

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
        _recount(ledger, output, source_ids, letters, numeric=entry["id_scheme"] == "numeric")
    except StreamError as error:
        ledger.find(str(error))
    _check_balance(ledger)
    return ledger


def _source_ids(source: Stream, ledger: NodeLedger, *, is_root: bool) -> set[Id] | range | None:
    try:
        if is_root:
            return range(sum(1 for _ in _rows(source, decode=False)))
        return {row_id for row_id, _, _ in _rows(source)}
    except (StreamError, FileNotFoundError) as error:
        ledger.find(f"the source cannot be read: {error}")
        return None


def _recount(
    ledger: NodeLedger, output: Stream, source_ids: set[Id] | range | None, letters: set[Id], *, numeric: bool
) -> None:
    seen: set[Id] = set()
    kept: set[Id] = set()
    is_shared = False
    for row_id, _, number in _rows(output):
        if row_id in seen:
            ledger.find(f"{output.path}, row {number}: the id {row_id!r} is there twice")
        seen.add(row_id)
        if source_ids is None:
            continue
        parent = parent_of(row_id, numeric=numeric)
        owner = row_id if row_id in source_ids else parent
        if owner is not None and owner in source_ids:
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


def parent_of(row_id: Id, *, numeric: bool = False) -> Id | None:
    """Return the id of the row that `row_id` is a child of, if it is one; see `ids`."""
    if numeric and isinstance(row_id, int):
        return row_id // NUMERIC_WIDTH
    if not isinstance(row_id, str) or "_" not in row_id:
        return None
    head, _, _ = row_id.rpartition("_")
    return int(head) if head.isdigit() else head


def _rows(stream: Stream, *, decode: bool = True, strict: bool = True) -> Iterator[tuple[Id, Any, int]]:
    """Yield id, item and number of each row that may be read now; not `strict` takes what is no row as text."""
    cursor = stream.cursor(follow=False)
    try:
        while (block := cursor.read(4096)) is not None:
            for number, record in enumerate(block.records, start=block.start):
                if not decode:
                    yield number, None, number
                    continue
                try:
                    row_id, item = item_of(block.decode(record), number)
                except ValueError as error:
                    if strict:
                        raise stream.row_error(error, block.offset_after(number - block.start)) from error
                    row_id, item = number, record.decode("utf-8", "backslashreplace")
                yield row_id, item, number
    finally:
        cursor.close()


@dataclass(frozen=True, slots=True)
class Trace:
    """A row that has to do with the one that was asked for.

    Attributes:
        where: "input", or a node's id.
        uri: the stream that it is in.
        row_id: its id.
        relation: "ancestor", "itself" or "descendant".
        state: "row", or "dead letter".
        item: its content.
    """

    where: str
    uri: str
    row_id: Id
    relation: str
    state: str
    item: Any = field(repr=False)


def trace(image: dict[str, Any], row_id: Id) -> Iterator[Trace]:
    """Yield a row's ancestors, itself and its descendants, through every stream of a run in order.

    Args:
        image: the run's image.
        row_id: an id from any of its streams.
    """
    first = image["nodes"][0]
    streams = [("input", StreamFactory.create(first["input_uri"]), True)]
    streams += [(entry["node_id"], StreamFactory.create(entry["output_uri"]), False) for entry in image["nodes"]]
    is_numeric = first["id_scheme"] == "numeric"
    for where, stream, is_input in streams:
        if stream.disk.size(stream.path) is None:
            continue
        for found_id, item, number in _rows(stream, strict=False):
            known = number if is_input else found_id
            relation = related(known, row_id, numeric=is_numeric)
            if relation:
                yield Trace(where, stream.uri, known, relation, "row", item)
        if is_input:
            continue
        for letter in read_letters(stream):
            relation = related(letter["_i"], row_id, numeric=is_numeric)
            if relation:
                item = {"input": letter.get("input", letter.get("raw")), "error": letter["error"]}
                yield Trace(where, stream.errors_path, letter["_i"], relation, "dead letter", item)


def related(found: Id, asked: Id, *, numeric: bool = False) -> str:
    """Return what `found` is to `asked`: "ancestor", "itself", "descendant", or nothing."""
    if found == asked:
        return "itself"
    if asked in _lineage(found, numeric=numeric) or _is_in_batch(asked, found):
        return "descendant"
    if found in _lineage(asked, numeric=numeric) or _is_in_batch(found, asked):
        return "ancestor"
    return ""


def _lineage(row_id: Id, *, numeric: bool) -> Iterator[Id]:
    """Yield the ids that `row_id` may come from, by its form."""
    parent = parent_of(row_id, numeric=numeric)
    while parent is not None and parent != row_id:
        yield parent
        row_id, parent = parent, parent_of(parent, numeric=numeric)


def _is_in_batch(member: Id, made: Id) -> bool:
    """Return whether `made` (``first~last_k…``) was made of a batch of root rows that `member` is of."""
    if not isinstance(member, int) or not isinstance(made, str) or "~" not in made:
        return False
    first, _, rest = made.partition("~")
    last = rest.partition("_")[0]
    return first.isdigit() and last.isdigit() and int(first) <= member <= int(last)
