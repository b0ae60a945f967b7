"""The exports of a run, as `status` shows them: where each is, or will be, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_datagen.runs.export_entries import exports_of
from llm_datagen.runs.status import Status
from llm_datagen.runs.words import number, rows_in_words


def exports_made(exports: Sequence[Mapping[str, Any]]) -> str:
    """Return how many exports are there, such as "1/2"; "" when there are none to make."""
    return f"{sum(export['rows'] is not None for export in exports)}/{len(exports)}" if exports else ""


def export_lines(run_state: Mapping[str, Any], *, is_live: bool) -> Iterator[str]:
    """Yield a line for each export of a run; `is_live` tells whether a process runs it."""
    nodes = run_state.get("nodes") or ()
    is_next = is_live and all(node.get("status") == Status.COMPLETED for node in nodes)
    for export in exports_of(run_state):
        if export["rows"] is None:
            what, is_next = ("being made" if is_next else _not_made(export)), False  # one after the other
        else:
            files = "" if export["parts"] == 1 else f" in {number(export['parts'])} files"
            lost = f", {rows_in_words(export['failed'])} did not fit" if export["failed"] else ""
            what = f"{rows_in_words(export['rows'])}{files}{lost}"
        yield f"export {export['path']} ({export['kind']}): {what}"


def _not_made(export: Mapping[str, Any]) -> str:
    """Return what is there of an export that is not made; of one in a store, nobody looks."""
    from llm_datagen.streams.outputs import Target
    from llm_datagen.streams.outputs.side_by_side import PLAN

    target = Target(export["kind"], export["path"])
    if target.is_remote or not Path(target.work_path, PLAN).is_file():
        return "not made yet"
    return "half made: a resume goes on with it"
