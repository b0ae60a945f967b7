"""What a resume would do with the code as it is now: node by node, with rows, calls and cost. Only reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from copy import deepcopy
from typing import Any

from llm_datagen.errors import ConfigError, PipelineBusyError, PipelineExistsError, RunStateError, StreamError
from llm_datagen.pipeline.blueprint import Blueprint
from llm_datagen.pipeline.checked_resume import CheckedResume, check_resume
from llm_datagen.pipeline.diff_report import NodeDiff, RunDiff, Use, What
from llm_datagen.pipeline.early_ends import unneeded_ids
from llm_datagen.pipeline.kept_version import keep_version
from llm_datagen.pipeline.lost_usage import ROWS_UNTOLD, is_untold
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.open_jobs import waiting_jobs
from llm_datagen.pipeline.operator_changes import ROWS_AGAIN, Edit
from llm_datagen.pipeline.resume_checks import edited_since, files_since
from llm_datagen.pipeline.stream_reset import Entry
from llm_datagen.pipeline.target_needs import UNKNOWN, Standing, rows_needed
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import BatchJob
from llm_datagen.runs.logs.writer import LogTarget
from llm_datagen.runs.node_kinds import is_id_stripper
from llm_datagen.runs.sharded import is_sharded, no_diff
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.runs.versions import find_run, refuse_earlier, version_of
from llm_datagen.runs.words import jobs_in_words
from llm_datagen.streams import Place, Stream, StreamFactory
from llm_datagen.streams.coverage import Coverage, Segment
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import last_position
from llm_datagen.streams.scan import blocks_of

WaitingJobs = Mapping[str, Sequence[BatchJob]]


def diff_run(
    blueprint: Blueprint, results_dir: str, log_file: LogTarget, pipeline_id: str, *, is_replay: bool
) -> RunDiff:
    """Compare a run with the code; see `StoredPipeline.diff`."""
    folder = find_run(results_dir, pipeline_id)
    run_state = folder.load()
    refuse_earlier(run_state, "resume")
    if is_sharded(run_state):
        raise no_diff(folder.pipeline_id)
    if folder.lock.is_held():
        raise PipelineBusyError(f"run {folder.pipeline_id!r} is being run: its rows change; wait for it, or cancel it")
    if "reset" in run_state:
        typed = command_line("resume", folder.pipeline_id, folder.results_dir)
        raise RunStateError(
            f"a rerun of {folder.pipeline_id!r} was cut short, and its streams lie between two versions; finish it: "
            f"{typed}"
        )
    if not blueprint.has_operators:
        raise ConfigError(
            f"no operators were given to compare run {folder.pipeline_id!r} with: those of its run state know of no "
            f"edit. Give them: UnifiedPipeline(operators=[…], results_dir=…).diff({folder.pipeline_id!r})"
        )
    before = deepcopy(run_state)
    checked = check_resume(
        blueprint, folder, run_state, log_file, verify="tail", on_change="replace", is_replay=is_replay
    )
    kept_as, refused = _kept_as(before, checked, folder)
    jobs = waiting_jobs(folder.files_path)
    notes = [*refused, *_job_notes(jobs, checked)]
    told = [*checked.notes, *checked.edit.unchecked_notes(), *blueprint.ignored(run_state)]
    told += edited_since(checked.remaining, run_state) + files_since(checked.read_on)
    notes += [f"{note.node_id}: {note.text}" for note in told]
    compared = _Nodes(before, run_state, checked, jobs, is_replay=is_replay)
    nodes = compared.all()
    notes += compared.target_notes(nodes)
    if is_untold(before):
        notes.append("calls and cost are at least these: a process of the run was killed before it had saved all usage")
    return RunDiff(
        pipeline_id=folder.pipeline_id,
        version=version_of(before),
        kept_as=kept_as,
        can_rerun=not refused,
        nodes=nodes,
        notes=tuple(notes),
    )


def _kept_as(before: Entry, checked: CheckedResume, folder: RunFolder) -> tuple[str, list[str]]:
    """Return the id of the version that would be kept; and why it cannot be."""
    if checked.reset is None:
        return "", []
    try:
        kept = keep_version(before, checked.reset, folder)
    except (StreamError, PipelineExistsError) as error:
        return "", [f"a rerun is refused: {error}"]
    return ("" if kept is None else kept.run_state["pipeline_id"]), []


def _job_notes(jobs: WaitingJobs, checked: CheckedResume) -> Iterator[str]:
    """Yield what becomes of jobs that have not ended."""
    again = frozenset() if checked.reset is None else checked.reset.again
    for node_id, waiting in jobs.items():
        told = jobs_in_words(len(waiting), sum(job.rows for job in waiting))
        if node_id not in again:
            becomes = "go on: a resume collects them"
        elif node_id in checked.edit.changes:
            becomes = "would be cancelled, and may be paid for; their rows would be asked again"
        else:
            becomes = "would be cancelled, and may be paid for, as far as their rows do not come again as they were"
        yield f"{node_id}: {told} at {waiting[0].endpoint} {becomes}"


class _Nodes:
    """The nodes of a run, compared with those of the code.

    Args:
        before: the run state, as it is.
        run_state: the run state, as a rerun would make it.
        checked: what it would do.
        jobs: the jobs of each node that have not ended.
        is_replay: whether dead letters are done again.
    """

    def __init__(
        self, before: Entry, run_state: Entry, checked: CheckedResume, jobs: WaitingJobs, *, is_replay: bool
    ) -> None:
        self._before: dict[str, Entry] = {entry["node_id"]: entry for entry in before["nodes"]}
        self._run_state = run_state
        self._jobs = jobs
        self._edit: Edit = checked.edit
        self._again: frozenset[str] = frozenset() if checked.reset is None else checked.reset.again
        self._nodes = {node.node_id: node for node in checked.nodes}
        left_out = unneeded_ids(checked.remaining)
        self._standings = {entry["node_id"]: self._standing(entry, left_out) for entry in run_state["nodes"]}
        self._needed = rows_needed([*self._standings.values()], streaming=run_state["config"]["streaming"])
        self._is_replay = is_replay
        self._made: dict[Place, float | None] = {}
        """How many rows each node will have made, by the place of its output; None when nobody knows."""
        self._guessed: set[Place] = set()
        """Outputs of which the number of rows is an estimate."""

    def all(self) -> tuple[NodeDiff, ...]:
        """Return them: those of the code in their order, then those that are no more."""
        there = [self._of(entry) for entry in self._run_state["nodes"]]
        known = {node.node_id for node in there}
        return (*there, *(self._removed(entry) for entry in self._before.values() if entry["node_id"] not in known))

    def target_notes(self, nodes: Sequence[NodeDiff]) -> Iterable[str]:
        """Yield what is to be told of nodes that a target ends before they have done their input."""
        most = [node.node_id for node in nodes if node.is_at_most]
        if most:
            yield f"{', '.join(most)}: at most; a target ends the run earlier, and it is not known after how many rows"
        ended = [
            node_id
            for node_id, each in self._standings.items()
            if self._needed[node_id] != math.inf and not each.has_ended and each.target is None
        ]
        if ended:
            yield f"{', '.join(ended)}: ended by a target behind; until it is met, more rows and calls may come"

    def _is_kept(self, node_id: str) -> bool:
        return node_id not in self._again and node_id in self._before

    def _standing(self, entry: Entry, left_out: Set[str]) -> Standing:
        node_id = entry["node_id"]
        node, before = self._nodes[node_id], self._before.get(node_id)
        old = last_position(StreamFactory.create(before["output_uri"])) if before is not None else Position()
        is_kept = self._is_kept(node_id)
        return Standing(
            node=node,
            kept=old if is_kept else Position(),
            rate=_rows_per_row(old) if _is_same(before, entry) else None,
            has_ended=is_kept and (node_id in left_out or node.has_met_target()),
        )

    def _of(self, entry: Entry) -> NodeDiff:
        node_id = entry["node_id"]
        before = self._before.get(node_id)
        standing = self._standings[node_id]
        node, kept = standing.node, standing.kept
        is_kept = self._is_kept(node_id)
        left, is_guess = (0.0, False) if standing.has_ended else self._left(node, kept.coverage)
        replayed = kept.dead if self._is_replay and not standing.has_ended else 0
        rows_to_do = None if left is None else left + replayed
        needed = self._needed[node_id]
        if needed is not UNKNOWN and needed < (math.inf if rows_to_do is None else rows_to_do):
            rows_to_do, is_guess = needed, True
        self._note_made(standing, rows_to_do, is_guess=is_guess)
        jobs = self._jobs.get(node_id, ())
        rows_in_jobs = sum(job.rows for job in jobs)
        what: What = "kept" if is_kept else "new" if before is None else "redone"
        return NodeDiff(
            node_id=node_id,
            operator=entry["operator"],
            what=what,
            reasons=tuple(self._reasons(node_id)) if not is_kept else (),
            rows_kept=kept.coverage.rows - replayed,
            rows_to_do=None if rows_to_do is None else round(rows_to_do),
            is_estimate=is_guess,
            is_at_most=needed is UNKNOWN and bool(rows_to_do),
            dead_letters=kept.dead - replayed,
            jobs=len(jobs),
            rows_in_jobs=rows_in_jobs,
            use=_use(before if _is_same(before, entry) else None, entry, rows_to_do, rows_in_jobs),
        )

    def _removed(self, entry: Entry) -> NodeDiff:
        return NodeDiff(
            node_id=entry["node_id"],
            operator=entry["operator"],
            what="removed",
            reasons=("it is not in the code any more",),
            rows_kept=0,
            rows_to_do=0,
            is_estimate=False,
            is_at_most=False,
            dead_letters=0,
            use=Use(),
        )

    def _reasons(self, node_id: str) -> Iterable[str]:
        if node_id in self._edit.shown:
            yield from self._edit.shown[node_id]
        elif node_id in self._edit.older:
            yield f"it has rows of an edit that was accepted ({', '.join(self._edit.older[node_id].parts)})"
        elif node_id in self._edit.past_ends:
            yield self._edit.past_ends[node_id]
        elif node_id in self._edit.redrawing():
            yield f"the rows that it draws from ({self._edit.drawn[node_id]}) are done again"
        elif node_id in self._before:
            yield "what it reads is done again"
        else:
            yield "it was added"

    def _left(self, node: UnifiedNode, done: Coverage) -> tuple[float | None, bool]:
        """Return how many rows of its source a node has to do besides those that are done; and if that is a guess."""
        left, is_guess = 0.0, False
        for stream, covered in node.input.parts(done):
            count = self._made[stream.place] if stream.place in self._made else _count(stream, covered.gaps())
            if count is None:
                return None, True
            left += max(0.0, count - covered.rows) if stream.place in self._made else count
            is_guess = is_guess or stream.place in self._guessed
        return left, is_guess

    def _note_made(self, standing: Standing, rows_to_do: float | None, *, is_guess: bool) -> None:
        place = standing.node.output.place
        if rows_to_do is None:
            self._made[place] = standing.target
        else:
            made = standing.kept.rows + rows_to_do * (1.0 if standing.rate is None else standing.rate)
            self._made[place] = made if standing.target is None else min(made, standing.target)
        if is_guess or rows_to_do != 0:
            self._guessed.add(place)


def _is_same(before: Entry | None, entry: Entry) -> bool:
    """Return whether a node has an operator of the same name as before."""
    return before is not None and before["operator"] == entry["operator"]


def _rows_per_row(position: Position) -> float | None:
    """Return how many rows have come of a row that did not fail; None when there was none."""
    rows = position.coverage.rows - position.skipped - position.dead
    return position.rows / rows if rows else None


def _count(stream: Stream, segments: Sequence[Segment]) -> int | None:
    """Return how many rows there are in some segments of a stream, which are read; None when it has no end.

    A stream that is not there yet has none.
    """
    if not stream.is_there():
        return 0
    if stream.is_endless:
        return None
    cursor = stream.cursor(segments, follow=False)
    try:
        return sum(len(block.records) for block in blocks_of(cursor))
    finally:
        cursor.close()


def _use(before: Entry | None, entry: Mapping[str, Any], rows: float | None, rows_in_jobs: int) -> Use | None:
    """Return what a node will use for some rows, by what it has used per row.

    When it has done none, it is known of rows in jobs that each is a call. None when there are none of these, either.
    """
    if rows == 0 or is_id_stripper(entry):
        return Use()
    if before is None or rows is None:
        return None
    done: int = before.get("rows_in", 0) + before.get(ROWS_AGAIN, 0) - before.get(ROWS_UNTOLD, 0)
    if done <= 0:
        return Use(max(rows, rows_in_jobs), None, None, None) if rows_in_jobs else None
    return sum((Use.of(usage) for usage in before.get("usage") or ()), Use()) * (rows / done)
