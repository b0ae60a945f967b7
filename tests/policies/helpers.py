"""What the tests of policies share: operators that fail at some rows, a model of what must come out, the account."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from llm_datagen import RunReport, StreamFactory
from llm_datagen.runs.account import NodeAccount
from llm_datagen.runs.verify import verify

from ..kit.support import Bench, eventually, lines
from ..pipeline.chains import Fate, bare


class PoisonError(Exception):
    """What a bad row does to an operator."""


def double(row: Any) -> Any:
    return {"n": int(row["n"]) * 2}


def some_children(row: Any) -> Any:
    """Return 0 to 3 children."""
    return [{"n": int(row["n"]) + k} for k in range(int(row["n"]) % 4)]


def no_fifths(row: Any) -> Any:
    return None if int(row["n"]) % 5 == 0 else {"n": int(row["n"])}


def poisoned(bad: Collection[int], fate: Fate = double) -> Fate:
    """Return a fate that raises for the rows with one of these numbers."""

    def act(row: Any) -> Any:
        if int(row["n"]) in bad:
            raise PoisonError(f"row {row['n']} is bad")
        return fate(row)

    act.__name__ = f"poisoned {fate.__name__}"
    return act


DeadLetter = tuple[Any, Any]
"""The id and the item of a row that failed."""


def modelled(rows: Sequence[Any], fates: Sequence[Fate]) -> tuple[list[dict[str, Any]], list[list[DeadLetter]]]:
    """Return the rows that must come out with their ids (scheme "path"), and each node's failed rows."""
    current: list[tuple[Any, Any]] = list(enumerate(rows))
    failed: list[list[DeadLetter]] = []
    for fate in fates:
        following: list[tuple[Any, Any]] = []
        failed.append([])
        for row_id, row in current:
            try:
                result = fate(row)
            except PoisonError:
                failed[-1].append((row_id, row))
                continue
            if isinstance(result, list):
                following += [(f"{row_id}_{k}", child) for k, child in enumerate(result)]
            elif result is not None:
                following.append((row_id, result))
        current = following
    return [{**row, "_i": row_id} for row_id, row in current], failed


def dead_letters_of(output: Path | str) -> list[dict[str, Any]]:
    """Return the dead letters beside an output; a torn one is an error."""
    path = Path(f"{output}.errors.jsonl")
    return lines(path) if path.exists() else []


def brief(dead_letters: Sequence[dict[str, Any]]) -> list[str]:
    """Return what a letter's row was, in an order that does not depend on time. CSV makes text of everything."""
    return sorted(f"{dead_letter['_i']}: {_text(bare(dead_letter['input']))}" for dead_letter in dead_letters)


def brief_model(failed: Sequence[DeadLetter]) -> list[str]:
    """Return the same of what the model says."""
    return sorted(f"{row_id}: {_text(row)}" for row_id, row in failed)


def _text(row: Any) -> str:
    return json.dumps({key: str(value) for key, value in row.items()} if isinstance(row, dict) else row)


def at_source(dead_letter: dict[str, Any], source: Path) -> Any:
    """Return the row that lies where a letter says that its own lay."""
    _, begin, end = dead_letter["source"]
    record = source.read_bytes()[begin:end].decode()
    if source.suffix == ".jsonl":
        return json.loads(record)
    header = source.read_text().splitlines()[0]
    (row,) = csv.DictReader(io.StringIO(f"{header}\n{record}"))
    return row


def source_of(bench: Bench, pipeline_id: str, number: int) -> Path:
    """Return the file that a node reads."""
    uri: str = bench.run_state(pipeline_id)["nodes"][number]["input_uri"]
    return Path(uri.partition("://")[2])


def accounts_of(bench: Bench, pipeline_id: str = "a") -> list[NodeAccount]:
    """Recount a run; nothing must be wrong, and nothing missing (C1)."""
    accounts = verify(bench.run_state(pipeline_id))
    for account in accounts:
        assert account.findings == []
        if account.kept is not None:
            assert account.pending is not None
            counted = account.kept + account.filtered + account.skipped + account.dead + account.pending
            assert counted == account.rows_in, account
    return accounts


COUNTS = ("rows_in", "rows_out", "filtered", "skipped", "dead_letters")


def check_counts(bench: Bench, report: RunReport, pipeline_id: str = "a") -> None:
    """Make sure that the report, runtime.json, the seal (or commit log) and the files say the same (C1)."""
    run_state = bench.run_state(pipeline_id)
    for node, entry, account in zip(report.nodes, run_state["nodes"], accounts_of(bench, pipeline_id), strict=True):
        counts = tuple(getattr(node, name) for name in COUNTS)
        assert tuple(entry[name] for name in COUNTS) == counts
        assert (account.covered, account.rows_out, account.filtered, account.skipped, account.dead) == counts
        assert node.failed == entry["failed"] == node.skipped + node.dead_letters
        seal = StreamFactory.create(entry["output_uri"]).read_seal()
        assert seal is not None
        assert seal.complete
        covered = sum(span.end - span.start for span in seal.cover)
        assert (covered, seal.rows, seal.filtered, *seal.failed[:2]) == counts


class Seen:
    """Wraps fates, and notes which rows they are called with; any thread may call them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def of(self, name: str, fate: Fate) -> Fate:
        """Return a fate that notes its calls under a name."""

        def act(row: Any) -> Any:
            self.calls.append((name, int(row["n"])))
            return fate(row)

        act.__name__ = name
        return act

    def reach(self, calls: int) -> None:
        """Wait until so many calls were made."""
        eventually(lambda: len(self.calls) >= calls)

    def by(self, name: str) -> list[int]:
        """Return the rows that one fate was called with, sorted."""
        return sorted(n for who, n in self.calls if who == name)


def failing_when(is_bad: Callable[[], bool], bad: Collection[int], fate: Fate = double) -> Fate:
    """Return a fate that can be mended: it raises for some rows as long as `is_bad()`."""

    def act(row: Any) -> Any:
        if int(row["n"]) in bad and is_bad():
            raise PoisonError(f"row {row['n']} is bad")
        return fate(row)

    return act
