"""The account of a node: what became of its source rows (C1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from llm_datagen.errors import StreamError

FINDINGS_SHOWN = 20
"""Findings per node, at most. A damaged file gives one per row."""


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
        rejected: for how many of these the operator gave a reason.
        skipped: source rows that failed and were left out.
        dead: source rows that failed and are dead-lettered.
        rows_out: rows in the output.
        complete: whether the output is sealed.
        target_rows: the target that was met, and ended the node; None when none has.
        beyond_target: source rows that were in a call then: their results were thrown away, and they are pending.
        cut_rows: output rows that were beyond a target, and thrown away: their source rows are done.
        unneeded: whether the run is completed without this node, as nobody needs what it has not done.
        unsettled: whether an interrupted `rerun` has still to delete or to move its streams: then it was not verified,
            and a resume finishes that first.
        findings: what is wrong; empty when nothing is.
    """

    node_id: str
    rows_in: int | None = None
    covered: int = 0
    kept: int | None = None
    filtered: int = 0
    rejected: int = 0
    skipped: int = 0
    dead: int = 0
    rows_out: int = 0
    complete: bool = False
    target_rows: int | None = None
    beyond_target: int = 0
    cut_rows: int = 0
    unneeded: bool = False
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
