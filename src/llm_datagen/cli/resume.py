"""Resume or replay a run: find it, find where its operators come from, and run it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from llm_datagen.cli.budget import NO_OVERRIDE, BudgetOverride
from llm_datagen.cli.dead_letters import dead_rows
from llm_datagen.cli.detach import detach
from llm_datagen.cli.execute import run_watched
from llm_datagen.cli.modules import import_protocols, make_importable
from llm_datagen.cli.otel import NO_OTEL, OtelOptions
from llm_datagen.cli.output import leave_stdout_to_rows, write
from llm_datagen.cli.run_view import headline
from llm_datagen.cli.sharded import NO_SHARDS, ShardOptions, go_on
from llm_datagen.cli.target import Target, find_target
from llm_datagen.config import OnChange, OnError, check_max_errors
from llm_datagen.errors import ConfigError
from llm_datagen.operators.references import operators_of
from llm_datagen.pipeline.operator_changes import AGAIN
from llm_datagen.pipeline.pipeline import UnifiedPipeline
from llm_datagen.pipeline.spool import prints_output
from llm_datagen.runs.origin import Origin, origin_of
from llm_datagen.runs.page_process import check_page
from llm_datagen.runs.results_dir import absolute
from llm_datagen.runs.sharded import is_sharded
from llm_datagen.runs.status import Status
from llm_datagen.runs.typed_commands import command_line, default_results
from llm_datagen.runs.versions import find_run, refuse_earlier, version_id, version_of
from llm_datagen.runs.words import number, rows_in_words
from llm_datagen.shards.run_view import read_run


def resume_run(
    pipeline_id: str,
    name: str | None,
    results_dir: str | None,
    *,
    on_error: OnError | None = None,
    max_errors: int | float | None = None,
    budget: BudgetOverride = NO_OVERRIDE,
    on_change: OnChange = "refuse",
    parallel_size: int | None = None,
    rate: float | None = None,
    target: int | dict[str, int] | None = None,
    shards: ShardOptions = NO_SHARDS,
    ui: bool = False,
    otel: OtelOptions = NO_OTEL,
    detaches: bool = False,
) -> int:
    """Resume a run in the directory in which it was started, and return the exit code.

    Args:
        pipeline_id: the run's id.
        name: where its operators come from; None for the same as before.
        results_dir: the folder of the runs; None for the pipeline's, or the environment's.
        on_error: what to do with rows that fail from now on; None leaves it as it is.
        max_errors: how many rows may fail; by itself, it changes nothing else.
        budget: what its operators may spend in all.
        on_change: what to do about operators that were edited.
        parallel_size: batches in the operator of each node at once; None leaves it as it is.
        rate: rows per second that each node hands to its operator, at most; 0 removes the limit.
        target: how many rows the output is to have, or those of some nodes; None leaves it as it is.
        shards: who runs the shards of a run that has some.
        ui: whether a page shows it, too.
        otel: whether OpenTelemetry is told of it.
        detaches: whether it ends when all rows in flight wait at a batch API.

    Raises:
        ConfigError: when it is not known where its operators come from; or what becomes of more rows that fail; or none
            of them has a budget.
        DatagenError: when it cannot be resumed, or fails.
    """
    if ui:
        check_page()
    run = StoppedRun(pipeline_id, name, results_dir, "resume")
    if max_errors is not None:
        on_error = _policy(run.run_state, on_error)
    found = run.target(shards)
    leave_stdout_to_rows(prints_output(run.run_state))
    found.pipeline.resume(
        pipeline_id,
        on_error=on_error,
        max_errors=max_errors,
        on_change=on_change,
        parallel_size=parallel_size,
        rate=rate,
        target=target,
    )
    budget.give([node.operator for node in found.pipeline.nodes])
    if detaches:
        detach([node.operator for node in found.pipeline.nodes], is_in_shards=is_sharded(run.run_state))
    write(f"run {pipeline_id}: resumed, {run.keep_origin(found, budget)}")
    run.tell_version()
    return run_watched(found.pipeline, ui=ui, otel=otel)


def replay_run(
    pipeline_id: str,
    name: str | None,
    results_dir: str | None,
    on_change: OnChange = "refuse",
    shards: ShardOptions = NO_SHARDS,
    ui: bool = False,
    otel: OtelOptions = NO_OTEL,
) -> int:
    """Retry the dead-lettered rows of a run, resume it, and return the exit code.

    Args:
        pipeline_id: the run's id.
        name: where its operators come from; None for the same as before.
        results_dir: the folder of the runs; None for the pipeline's, or the environment's.
        on_change: what to do about operators that were edited.
        shards: who runs the shards of a run that has some.
        ui: whether a page shows it, too.
        otel: whether OpenTelemetry is told of it.

    Raises:
        ConfigError: when it is not known where its operators come from.
        DatagenError: when it cannot be resumed, or fails.
    """
    if ui:
        check_page()
    run = StoppedRun(pipeline_id, name, results_dir, "replay")
    dead = dead_rows(read_run(run.folder))
    is_cut_short = on_change in AGAIN and run.run_state["status"] != Status.COMPLETED
    if not dead and not is_cut_short:  # else they were released, and this goes on with it
        write(f"run {pipeline_id}: no dead letters, so there is nothing to try again")
        write(headline(read_run(run.folder)))
        return 0
    target = run.target(shards)
    leave_stdout_to_rows(prints_output(run.run_state))
    target.pipeline.replay(pipeline_id, on_change=on_change)
    # Of nodes whose targets are met; shards, which have none, take theirs when they are run.
    kept = {} if is_sharded(run.run_state) else dead_rows(read_run(run.folder))
    dead = {label: count for label, count in dead.items() if label not in kept}
    rows = rows_in_words(sum(dead.values()))
    where = ", ".join(f"{label}: {number(count)}" for label, count in dead.items()) or "none"
    write(f"run {pipeline_id}: {rows} to be tried again ({where}), {run.keep_origin(target)}")
    run.tell_version()
    code = run_watched(target.pipeline, ui=ui, otel=otel)
    if dead and dead_rows(read_run(run.folder)) == {**kept, **dead}:
        write(f"  warning none was mended: {rows} failed again")
    return code


def on_change_of(*, accept: bool, rerun: bool, replace: bool) -> OnChange:
    """Return the `on_change` of ``--accept-changes``, ``--rerun`` and ``--replace``.

    Raises:
        ConfigError: when several are given.
    """
    if accept and (rerun or replace):
        raise ConfigError("--accept-changes keeps what is done, and --rerun does it again: give one of them")
    if rerun and replace:
        raise ConfigError("--rerun keeps what was there as an earlier version, and --replace deletes it: give one")
    return "accept" if accept else "rerun" if rerun else "replace" if replace else "refuse"


def parse_max_errors(text: str | None) -> int | float | None:
    """Parse ``--max-errors``: a number of rows, or a share of them.

    Raises:
        ConfigError: when it is neither.
    """
    value: Any = text
    for kind in (float, int):
        try:
            value = kind(text or "")
        except ValueError:
            continue
    return check_max_errors("--max-errors", value)


def parse_target(texts: list[str]) -> int | dict[str, int] | None:
    """Parse ``--target``: a number of rows, or those of nodes, ``NODE=N`` each; None for none.

    Raises:
        ConfigError: when it is neither.
    """
    if not texts:
        return None
    found: dict[str, int] = {}
    for text in texts:
        node_id, _, rows = text.rpartition("=")
        if not rows.isdecimal() or node_id in found or (not node_id and len(texts) > 1):
            raise ConfigError(f"--target {text}: must be a number of rows; or NODE=ROWS, once for each node")
        found[node_id] = int(rows)
    return found.get("", found)


def _policy(run_state: dict[str, Any], on_error: OnError | None) -> OnError:
    """Return the policy for failed rows when only their number was given: that of all nodes, if it is the same."""
    known: set[OnError] = {entry["on_error"] for entry in run_state["nodes"]} if on_error is None else {on_error}
    if known == {"fail"} or len(known) > 1:
        raise ConfigError("--max-errors: say what becomes of rows that fail: --on-error skip, or dead_letter")
    return known.pop()


class StoppedRun:
    """A run to be resumed, in the directory in which it was started.

    Args:
        pipeline_id: the run's id.
        name: where its operators come from; None for the same as before.
        results_dir: the folder of the runs; None for the pipeline's, or the environment's.
        verb: the command.

    Raises:
        PipelineNotFoundError: when there is no such run.
        ConfigError: when the name is not one of a pipeline, the directory is gone, or the run is an earlier version.
    """

    def __init__(self, pipeline_id: str, name: str | None, results_dir: str | None, verb: str) -> None:
        self._name, self._verb = name, verb
        self._given = find_target(name) if name else None
        if self._given is not None and results_dir is None:
            results_dir = self._given.pipeline.results_dir
        self.folder = find_run(absolute(results_dir or default_results()), pipeline_id)
        self.run_state = self.folder.load()  # first of all, there must be such a run
        refuse_earlier(self.run_state, verb)
        self._origin = origin_of(self.folder)
        if self._origin is not None:
            self._enter(self._origin)
        if self._origin is not None and self._given is None:
            import_protocols(self.run_state, self._origin.target)

    def _enter(self, origin: Origin) -> None:
        """Change to the directory in which it was started; of a run on a store, this may be another machine."""
        if self.folder.is_on_store and self._given is None and not Path(origin.cwd).is_dir():
            pipeline_id = self.folder.pipeline_id
            again = self._command("resume", "FILE.yaml")
            raise ConfigError(
                f"run {pipeline_id!r} was started in {origin.cwd}, which is not there: on another machine, say what it "
                f"runs, in the directory that has its files: {again} (or module:name)"
            )
        origin.enter(self.folder)

    def target(self, shards: ShardOptions) -> Target:
        """Return the pipeline; of a run in shards, the one that goes on with all of them.

        Args:
            shards: who runs them.

        Raises:
            ConfigError: when it is not known where its operators come from, or they cannot be loaded.
        """
        if self._given is None and self._origin is None:
            target = self._by_run_state()
        else:
            target = self._given or find_target(self._origin.target if self._origin else "")
        target.pipeline.results_dir = self.folder.results_dir
        return replace(target, pipeline=go_on(target.pipeline, self.run_state, shards))

    def _by_run_state(self) -> Target:
        """Return a pipeline whose operators are made as the run state says: it was started by a program."""
        make_importable(Path.cwd())
        try:
            operators_of(self.run_state)
        except ConfigError as error:
            pipeline_id = self.folder.pipeline_id
            raise ConfigError(
                f"run {pipeline_id!r} was not started with `llm-datagen run`, so where its operators come from is not "
                f"known; say it: {self._command(self._verb, 'FILE.yaml')} (or module:name). {error}"
            ) from error.__cause__
        return Target(name="", pipeline=UnifiedPipeline(log_file=self.run_state.get("log_file")))

    def _command(self, verb: str, pipeline: str) -> str:
        return command_line(verb, self.folder.pipeline_id, self.folder.results_dir, arguments=[pipeline])

    def tell_version(self) -> None:
        """Say so if what was there before has become an earlier version."""
        pipeline_id, before, now = self.folder.pipeline_id, version_of(self.run_state), version_of(self.folder.load())
        if now > before:
            kept = version_id(pipeline_id, before)
            compare = command_line("compare", kept, self.folder.results_dir, arguments=[pipeline_id])
            write(f"  what was there before is kept as the run {kept}; side by side: {compare}")

    def keep_origin(self, target: Target, budget: BudgetOverride = NO_OVERRIDE) -> str:
        """Save where its operators come from now, and what they may spend; return a sentence about the former."""
        if not target.name:
            return (
                "with the operators that its run state names. Edits of the program, such as a prompt, are not read. To "
                f"use them: {self._command(self._verb, 'module:pipeline')}"
            )
        here = Origin.here(target.name)
        cwd = here.cwd if self._origin is None or self.folder.is_on_store else self._origin.cwd
        origin = self._origin or here
        Origin(target=target.name, cwd=cwd, budget_usd=budget.usd, budget_tokens=budget.tokens).save(self.folder)
        return self._name or origin.target
