"""A plain Python model of what each node of a case must write: rows, dead letters, counts. It knows no engine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .operators import FATES, folded, is_poison, salt

if TYPE_CHECKING:
    from .cases import Case, Node

Row = tuple[str, dict[str, Any]]
"""A row with its id, as text."""

DeadLetter = tuple[str, str, int, str]
"""A dead letter: the row's id as text, the kind of the error, the attempts, and the row (or the line) as text."""


@dataclass(slots=True)
class Fate:
    """What becomes of a node's rows.

    Attributes:
        rows_in: rows of its source.
        rows: what it writes; the order counts where the case's `is_ordered`.
        dead_letters: its dead letters.
        skipped: rows that are left out.
        rejected: ids of those of them that are rejected, and kept.
        filtered: rows that give none; None where rows of whole batches make that uncertain.
    """

    rows_in: int
    rows: list[Row] = field(default_factory=list)
    dead_letters: Counter[DeadLetter] = field(default_factory=Counter)
    skipped: int = 0
    filtered: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def fail(self, node: Node, what: DeadLetter) -> None:
        """Do with a row that failed what the node's policy says."""
        if node.on_error == "skip":
            self.skipped += 1
        else:
            self.dead_letters[what] += 1


def fates(case: Case, abandoned: Sequence[set[str]] = (), *, mended: bool = False) -> list[Fate]:
    """Return what becomes of the rows of each node.

    Args:
        case: the pipeline.
        abandoned: for each node the ids of the rows that were in flight when the process died, with at_most_once.
        mended: whether no row is poison any more, where rows are dead-lettered.
    """
    found: list[Fate] = []
    rows: list[tuple[str, Any]] = [(str(n), row) for n, row in enumerate(case.input_rows())]
    for number, node in enumerate(case.nodes):
        lost = abandoned[number] if abandoned else set()
        poison = 0 if mended and node.on_error == "dead_letter" else node.poison
        fate = Fate(len(rows))
        for group in _groups(node, rows):
            _take(case, node, salt(case.seed, number), poison, group, lost, fate)
        found.append(fate)
        rows = list(fate.rows)
    return found


def _groups(node: Node, rows: list[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    """Yield what is given to the operator together: batches lie on a grid, and a line that is no row ends one."""
    size = node.batch_size if node.takes_batches else 1
    for first in range(0, len(rows), size):
        group: list[tuple[str, Any]] = []
        for row_id, row in rows[first : first + size]:
            if isinstance(row, str):
                if group:
                    yield group
                yield [(row_id, row)]
                group = []
            else:
                group.append((row_id, row))
        if group:
            yield group


def _take(
    case: Case, node: Node, seed: int, poison: int, group: list[tuple[str, Any]], lost: set[str], fate: Fate
) -> None:
    """Take what becomes of a batch; one that fails is called again in halves, to find the row at fault."""
    parts = [group]
    while parts:
        part = parts.pop()
        bad = [row for _, row in part if isinstance(row, str) or is_poison(row, seed, poison)]
        if not bad:
            _settle(case, node, seed, part, lost, fate)
        elif len(part) > 1 and node.bisect:
            half = len(part) // 2
            parts += [part[half:], part[:half]]
        else:
            for row_id, row in part:
                if row_id in lost:
                    fate.dead_letters[row_id, "Abandoned", 1, text(row)] += 1
                elif isinstance(row, str):
                    fate.fail(node, (row_id, "RowFormatError", 0, row))
                else:
                    fate.fail(node, (row_id, "PoisonError", node.retries + 1, text(row)))
            rest = [row for later in reversed(parts) for row in later]
            parts = [rest] if rest else []  # one batch again


def _settle(case: Case, node: Node, seed: int, part: list[Row], lost: set[str], fate: Fate) -> None:
    for row_id, row in part:
        if row_id in lost:
            fate.dead_letters[row_id, "Abandoned", 1, text(row)] += 1
    part = [(row_id, row) for row_id, row in part if row_id not in lost]
    if node.kind == "fold":
        if part:
            row_id = part[0][0] if len(part) == 1 else f"{part[0][0]}~{part[-1][0]}_0"
            fate.rows.append((row_id, folded([row for _, row in part], seed)))
        return
    if node.style == "flat batch":  # its author turns each batch round, and that stays so
        part = part[::-1]
    for row_id, row in part:
        result = FATES[node.kind](row, seed)
        if isinstance(result, list):
            fate.rows += [(case.child(row_id, k), child) for k, child in enumerate(result)]
        elif result is not None:
            fate.rows.append((row_id, result))
        fate.filtered += result is None or result == []
        if result is None and node.keep_rejected:
            fate.rejected[str(row_id)] += 1


def text(row: Any) -> str:
    """Return a row, or a line that is none, as text that can be compared."""
    return row if isinstance(row, str) else json.dumps(row, sort_keys=True)
