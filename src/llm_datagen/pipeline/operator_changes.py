"""What was edited in the code since a run stopped: operators, and which steps there are. What becomes of their rows.

A run is a promise that all rows of a node are of one operator. So what was edited is refused by name, unless the user
says what is meant: *accept*, what is done stays, and the rest is done by the new operators; or *rerun*, the nodes that
were edited, keep rows of an edit that was accepted before, or can take no more rows (`past_ends`), and all that read
from them are done again, what is before them stays, and what they made is kept as an earlier version; or *replace*,
the same, and it is deleted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.config import OnChange
from llm_datagen.errors import DatagenError, OperatorChangedError, OperatorWarning
from llm_datagen.errors.escape import listed
from llm_datagen.errors.warned import warn
from llm_datagen.operators.fingerprint import Parts, changed_parts, fingerprint_of, shown_change, unread_parts
from llm_datagen.pipeline.change_refusal import refusal
from llm_datagen.pipeline.feedback import drawn_from
from llm_datagen.pipeline.lost_usage import ROWS_UNTOLD
from llm_datagen.pipeline.noted_inputs import NOTED, noted_inputs, read_again
from llm_datagen.pipeline.run import StartNotice
from llm_datagen.pipeline.stream_reset import Entry, Reset, reset_of
from llm_datagen.runs.earlier_versions import Older, older_rows
from llm_datagen.runs.node_kinds import is_id_stripper
from llm_datagen.runs.status import NodeReport, Status
from llm_datagen.streams import FileStream, Place, StreamFactory
from llm_datagen.streams.inputs.computed import INPUT_BOUNDS
from llm_datagen.streams.recovery import position_of
from llm_datagen.streams.storage.owner import now_text

PARTS_SHOWN = 8

NOTHING_AGAIN = (
    "{} ({}): nothing of this run is done again: no edit of an operator or a step was found since "
    "its rows were made, no rows of an earlier version are left, and no rows come to a node that can take no more"
)
"""What is told of a rerun that has nothing to do."""

AGAIN: tuple[OnChange, ...] = ("rerun", "replace")
"""What has nodes done again."""

ROWS_AGAIN = "rows_again"
"""The key of a node for how many of its rows were done and then done again: its `usage` has their calls, too."""

_STAYS = (ROWS_AGAIN, ROWS_UNTOLD, INPUT_BOUNDS)
"""What a node keeps, besides its report, when it is drawn anew."""

_stream = StreamFactory.create


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """The nodes of a run as its run state has them, and as the code has them.

    Attributes:
        run_state: the run's state.
        entries: the nodes of the code, drawn for this run; those of the run state themselves when the steps are the
            same.
        fingerprints: those of the operators in the code.
        changes: what changed of nodes that have done rows, or have some in jobs, and all steps that differ; by the
            node's id.
        shown: the same for people, with the old value and the new one where they are known.
        rows: how many source rows each node of the run state has done, without dead letters.
        dead_letters: how many of them are dead letters.
        in_jobs: how many rows wait in jobs at a provider, by the node's id.
        is_replay: whether the dead letters are done again now.
        unchecked: nodes that have done rows, and whose run state has no fingerprint.
        unread: of nodes that have done rows, the parts that nobody can see: they raise when they are looked at.
        older: nodes that keep rows of an earlier version of their operator, accepted before.
        past_ends: nodes that cannot take the rows that would come, or have too many, and why; looked for when some are
            done again.
        drawn: the nodes whose rows others draw (`ops.Feedback`), by the ids of these.
    """

    run_state: Entry
    entries: list[Entry]
    fingerprints: list[Parts]
    changes: dict[str, list[str]] = field(default_factory=dict)
    shown: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    in_jobs: Mapping[str, int] = field(default_factory=dict)
    is_replay: bool = False
    unchecked: list[str] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=dict)
    older: dict[str, Older] = field(default_factory=dict)
    past_ends: dict[str, str] = field(default_factory=dict)
    drawn: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_redrawn(self) -> bool:
        """Return whether the steps themselves differ: some were added, removed, moved or replaced."""
        return self.entries is not self.run_state["nodes"]

    def has_done(self, node_id: str) -> bool:
        """Return whether a node keeps something that the operator of the run state has done, or has asked for."""
        has_dead_letters = self.dead_letters[node_id] and not self.is_replay
        return bool(self.rows[node_id] or has_dead_letters or self.in_jobs.get(node_id))

    def settle(self, on_change: OnChange, results_dir: str | None = None) -> Reset | None:
        """Write into the run state what becomes of the changes; return what has to be done to the streams, if anything.

        Args:
            on_change: what is to become of them.
            results_dir: the folder of the runs, for a refusal that names `diff`; None for a run that has no diff.

        Raises:
            OperatorChangedError: when there are changes, and they are to be refused, or cannot be accepted.
        """
        if self.changes and (on_change == "refuse" or (on_change == "accept" and self.is_redrawn)):
            told = {node_id: listed(parts, PARTS_SHOWN) + self._done(node_id) for node_id, parts in self.shown.items()}
            text = refusal(
                self.run_state,
                self.entries,
                told,
                on_change,
                redrawing=self.redrawing(),
                is_replay=self.is_replay,
                results_dir=results_dir,
            )
            raise OperatorChangedError(text, self.changes)
        again = self.done_again() if on_change in AGAIN else set()
        reset = reset_of(self.run_state, self.entries, again) if again or self.is_redrawn else None
        moved = {node_id for node_id, _, _ in reset.moves} if reset is not None else set()
        known = {entry["node_id"]: entry for entry in self.run_state["nodes"]}
        noted = noted_inputs(self.run_state["nodes"]) if again else {}
        for entry, fingerprint in zip(self.entries, self.fingerprints, strict=True):
            node_id = entry["node_id"]
            before = known.get(node_id, {})
            notes = list(before.get("changes", ()))
            if node_id in self.changes or (node_id in again and node_id in self.older):
                rows, parts = self.rows.get(node_id, 0), self.changes.get(node_id, [])
                notes.append({"at": now_text(), "on_change": on_change, "parts": parts, "rows": rows})
            report = {key: before[key] for key in NodeReport(node_id=node_id).as_dict() if key in before}
            if node_id in again or node_id in moved:
                report = _nothing_done(node_id, before)
            kept = (
                read_again(StreamFactory.source(entry["input_uri"]), noted) if node_id in again else before.get(NOTED)
            )
            entry.pop(NOTED, None)
            if kept is not None:
                entry[NOTED] = kept
            entry.update({key: before[key] for key in _STAYS if key in before})
            if node_id in again and before:
                again_rows = self.rows[node_id] + self.dead_letters[node_id]
                entry[ROWS_AGAIN] = before.get(ROWS_AGAIN, 0) + again_rows
            entry.update(report, fingerprint=fingerprint, target_rows=entry.get("target"))
            if notes:
                entry["changes"] = notes
        if self.is_redrawn:
            self.run_state["nodes"] = self.entries
            if "operators" in self.run_state["config"]:
                self.run_state["config"]["operators"] = [
                    entry["operator"] for entry in self.entries if not is_id_stripper(entry)
                ]
        return reset

    def _done(self, node_id: str) -> str:
        counts = (
            (self.rows.get(node_id, 0), "rows are done"),
            (self.dead_letters.get(node_id, 0), "are dead letters"),
            (self.in_jobs.get(node_id, 0), "wait in jobs, which are paid for and would be cancelled"),
        )
        parts = [f"{count:,} {what}" for count, what in counts if count]
        return f" ({', '.join(parts)})" if parts else ""

    def done_again(self) -> set[str]:
        """Return the nodes that were edited, keep rows of an earlier version or can take no more, and all behind.

        Those that draw from their rows are among these, with all behind them: that is the whole of a loop.
        """
        again = self._with_readers(self._begin())
        while drawing := {node_id for node_id, source in self.drawn.items() if source in again} - again:
            again = self._with_readers({*again, *drawing})
        return again

    def _begin(self) -> set[str]:
        return {*self.changes, *self.older, *self.past_ends}

    def _with_readers(self, begin: set[str]) -> set[str]:
        found: set[str] = set()
        places: set[Place] = set()
        for entry in self.entries:  # each comes after those that it reads from
            if entry["node_id"] in begin or places & set(StreamFactory.source(entry["input_uri"]).places):
                found.add(entry["node_id"])
                places.add(_stream(entry["output_uri"]).place)
        return found

    def redrawing(self) -> dict[str, str]:
        """Return the nodes that are done again only as they draw from rows that are, with those that these are of."""
        again, read = self.done_again(), self._with_readers(self._begin())
        return {node_id: source for node_id, source in self.drawn.items() if node_id in again - read}

    def notes(self, on_change: OnChange, kept_as: str = "") -> list[StartNotice]:
        """Return what is to be told of the changes when they were settled; what was there may be kept as a version."""
        again = f"done again; what was there before is kept as {kept_as!r}" if kept_as else "done again"
        done = again if on_change in AGAIN else "accepted: rows that are done stay as the old one made them"
        notes = [
            StartNotice(
                node_id,
                f"the operator changed since rows were made ({listed(self.shown[node_id], PARTS_SHOWN)}); {done}",
                parts,
            )
            for node_id, parts in self.changes.items()
        ]
        if on_change in AGAIN:
            notes += [
                StartNotice(
                    node_id,
                    f"{old.rows:,} rows are of an earlier version of the operator: the edit was accepted then "
                    f"({listed(old.parts, PARTS_SHOWN)}); {again}",
                    old.parts,
                )
                for node_id, old in self.older.items()
                if node_id not in self.changes
            ]
            notes += [StartNotice(node_id, f"{why}; {again}", []) for node_id, why in self.past_ends.items()]
            if not notes:
                said = f"on_change={on_change!r}", f"--{on_change}"
                notes.append(StartNotice(self.entries[0]["node_id"], NOTHING_AGAIN.format(*said)))
        return notes + self.unchecked_notes()

    def unchecked_notes(self) -> list[StartNotice]:
        """Return what is to be told of operators of which nobody can say whether they were edited."""
        text = "this run was made by a version without fingerprints: whether the operator changed is not known"
        return [
            *(StartNotice(node_id, text, []) for node_id in self.unchecked),
            *(
                StartNotice(
                    node_id,
                    f"of the operator, {listed(parts, PARTS_SHOWN)} cannot be read (it raises), so whether it changed "
                    "is not known; give the operator a `version` or a method `fingerprint`",
                    [],
                )
                for node_id, parts in self.unread.items()
            ),
        ]

    def warn(self) -> None:
        """Warn as Python does of rows that may be of several operators, and nobody has said that they may."""
        for note in self.unchecked_notes():
            warn(f"{note.node_id}: {note.text}", OperatorWarning)


def rows_on_disk(entry: Entry) -> tuple[int, int]:
    """Return how many source rows a node has done without those that are dead letters, and how many are."""
    with contextlib.suppress(DatagenError, OSError):  # what is wrong with the stream, others say
        found = position_of(_stream(entry["output_uri"]))
        return (0, 0) if found is None else (found[1].coverage.rows - found[1].dead, found[1].dead)
    dead = int(entry.get("dead_letters", 0))
    return int(entry.get("rows_in", 0)) - dead, dead


def compare(
    run_state: Entry,
    entries: list[Entry],
    operators: Sequence[Any],
    *,
    is_replay: bool = False,
    rows_done: Callable[[Entry], tuple[int, int]] = rows_on_disk,
    in_jobs: Mapping[str, int] | None = None,
) -> Edit:
    """Compare a run with the code. Only reads.

    Args:
        run_state: the run's state.
        entries: the nodes of the code; ``run_state["nodes"]`` itself when the steps are the same.
        operators: the operators in the code, in the order of `entries`.
        is_replay: whether the dead letters are done again now: they are nobody's rows then.
        rows_done: given a node of the run, returns how many source rows it has done, and how many are dead letters.
        in_jobs: how many rows of each node wait in jobs at a provider; None: of none.
    """
    fingerprints = [fingerprint_of(operator) for operator in operators]
    drawn = drawn_from({entry["node_id"]: operator for entry, operator in zip(entries, operators, strict=True)})
    edit = Edit(
        run_state=run_state,
        entries=entries,
        fingerprints=fingerprints,
        in_jobs=in_jobs or {},
        is_replay=is_replay,
        drawn=drawn,
    )
    known = {entry["node_id"]: entry for entry in run_state["nodes"]}
    for node_id, one in known.items():
        edit.rows[node_id], edit.dead_letters[node_id] = rows_done(one)
    for entry, fingerprint in zip(entries, edit.fingerprints, strict=True):
        node_id = entry["node_id"]
        before = known.get(node_id)
        differs = _how_steps_differ(before, entry) if edit.is_redrawn else []
        if edit.is_redrawn and not differs and _read_from(run_state["nodes"], entry) != _read_from(entries, entry):
            differs = ["it reads what another step writes"]
        older = older_rows(before) if before is not None else None
        if older is not None:
            edit.older[node_id] = older
        if before is not None and not differs and edit.has_done(node_id):
            if before.get("fingerprint") is None:
                edit.unchecked.append(node_id)
            else:
                differs = changed_parts(before["fingerprint"], fingerprint)
                if unread := unread_parts(fingerprint):
                    edit.unread[node_id] = unread
        if differs:
            edit.changes[node_id] = differs
            known_parts = (before or {}).get("fingerprint") or {}
            edit.shown[node_id] = [shown_change(name, known_parts, fingerprint) for name in differs]
    there = {entry["node_id"] for entry in entries}
    removed = {node_id: ["it was removed"] for node_id in known if node_id not in there}
    edit.changes.update(removed)
    edit.shown.update(removed)
    return edit


def _how_steps_differ(before: Entry | None, now: Entry) -> list[str]:
    if before is None:
        return ["it was added"]
    if before["operator"] != now["operator"]:
        return [f"in the place of {before['operator']}"]
    if StreamFactory.source(before["input_uri"]).places != StreamFactory.source(now["input_uri"]).places:
        return ["it reads something else"]
    old, new = _stream(before["output_uri"]), _stream(now["output_uri"])
    if old.place != new.place and not (isinstance(old, FileStream) and old.can_move_to(new)):
        return ["it writes somewhere else"]
    return []


def _read_from(entries: Sequence[Entry], entry: Entry) -> set[str]:
    """Return which of some nodes write what a node reads."""
    places = set(StreamFactory.source(entry["input_uri"]).places)
    return {str(one["node_id"]) for one in entries if _stream(one["output_uri"]).place in places}


def _nothing_done(node_id: str, before: Entry) -> dict[str, Any]:
    """Return the counts of a node of which nothing is done, but what it has used is paid for."""
    report = NodeReport(node_id=node_id, status=Status.PENDING, usage=before.get("usage") or [])
    return report.as_dict()
