"""Runs as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_datagen.cli.export_view import export_lines, exports_made
from llm_datagen.errors.advice import as_typed
from llm_datagen.errors.escape import escape_line
from llm_datagen.runs.display.lines import errors_in_words, node_line
from llm_datagen.runs.earlier_versions import older_rows
from llm_datagen.runs.results_dir import absolute
from llm_datagen.runs.status import INTERRUPTED, LIVE, Status
from llm_datagen.runs.usage import JOBS_UNCOUNTED, is_short
from llm_datagen.runs.versions import VERSION_OF, find_run, version_id, version_of
from llm_datagen.runs.words import number, time_in_words
from llm_datagen.shards.run_view import RunView, read_run


def open_run(results_dir: str, pipeline_id: str) -> RunView:
    """Return a run with its true status, and change to the directory in which it was started, if it is known.

    Protocols of the user's own are registered, too.

    Raises:
        PipelineNotFoundError: when there is none.
        RunStateError: when its run state cannot be read.
        ConfigError: when its directory is gone, or a module that may register a protocol.
    """
    from llm_datagen.cli.modules import import_protocols
    from llm_datagen.runs.origin import origin_of

    folder = find_run(absolute(results_dir), pipeline_id)
    run = read_run(folder)
    origin = origin_of(folder)
    if origin is not None:
        origin.enter(folder)
        import_protocols(run.state, origin.target)
    return run


def rows_in(brief: dict[str, Any]) -> str:
    """Return how many rows of its input a run has read, and of how many."""
    total = brief["total"]
    known = "" if total is None else f"/{'' if brief['total_is_exact'] else '~'}{number(total)}"
    return f"{number(brief['rows_in'])}{known}"


def list_lines(runs: list[RunView]) -> list[str]:
    """Return a line of text per run."""
    lines = []
    for run in runs:
        brief = run.brief()
        rows = f"{number(brief['rows_in'])} rows in, {escape_line(str(run.progress.out))}"
        errors = errors_in_words(brief["failed"])
        waiting = [f"{node_id}: outage" for node_id in brief["outages"]]
        waiting += [f"{node_id} stalled" for node_id in brief["stalled"] if node_id not in brief["outages"]]
        stopped = f" ({', '.join(waiting)})" if waiting else ""
        exports = f", {made} exports" if (made := exports_made(brief["exports"])) else ""
        updated = f"{'as of' if brief['counts_as_of'] else 'updated'} {time_in_words(brief['updated_at'])}"
        lines.append(f"{escape_line(run.pipeline_id)}: {run.status}{stopped}, {rows}, {errors}{exports}, {updated}")
    return lines


def run_lines(run: RunView) -> list[str]:
    """Return a run as lines of text."""
    return [headline(run), *(f"  {node_line(node)}" for node in run.progress.nodes), *details(run).splitlines()]


def headline(run: RunView) -> str:
    """Return the status of a run, in a line."""
    why = run.note or run.state.get("error") or run.state.get("reason") or ""
    paused = ", paused" if run.is_live and run.state.get("paused") else ""
    return escape_line(f"run {run.pipeline_id}: {run.status}{paused}" + (f" ({as_typed(why)})" if why else ""))


def details(run: RunView) -> str:
    """Return what else is known of a run, in lines."""
    run_state = run.state
    spending = run.spending
    budget = "" if spending is None else f"budget: {spending}\n"
    jobs = f"jobs: {run.jobs_in_words}\n" if run.jobs_in_words else ""
    where = f", process {run_state['pid']} on {run_state['host']}" if run.is_live and run_state.get("pid") else ""
    row = run_state.get("failed_row") if run.status == Status.FAILED else None
    at = f"failed at {escape_line(row)}\n" if row else ""
    lacks_usage = is_short(run_state) or (run.status == INTERRUPTED and run_state.get("status") != Status.RESUMING)
    lacks_usage = lacks_usage and any(map(_may_have_used, run_state.get("nodes", ())))
    usage = "usage and cost are at least these: the last usage before a kill is missing\n" if lacks_usage else ""
    uncounted = f"{escape_line(as_typed(run_state[JOBS_UNCOUNTED]))}\n" if run_state.get(JOBS_UNCOUNTED) else ""
    counts = f"{escape_line(run.counts_note)}\n" if run.counts_note else ""
    older = "".join(f"{escape_line(text)}\n" for text in _versions(run_state))
    exports = "".join(f"{escape_line(text)}\n" for text in export_lines(run_state, is_live=run.is_live))
    created, started = time_in_words(run_state.get("created_at")), time_in_words(run_state.get("started_at"))
    shards = f"{run.whole.summary()}\n" if run.whole is not None else ""
    out = f"rows: {escape_line(str(run.progress.out))}\n" if run.progress.out.outputs else ""
    limit = f"{escape_line(limit)}\n" if (limit := run.progress.limit) else ""
    return (
        f"{limit}{counts}{out}{shards}{exports}{_version(run_state)}{older}{at}{jobs}{uncounted}{budget}{usage}"
        f"created {created}, last started {started}, updated {time_in_words(run_state.get('updated_at'))}{where}"
    )


def _may_have_used(node: dict[str, Any]) -> bool:
    """Return whether a node calls a model, as far as anybody knows: usage is saved with the first rows."""
    return bool(node.get("usage")) or (node.get("status") in LIVE and not node.get("rows_in"))


def _version(run_state: dict[str, Any]) -> str:
    """Return a line on the versions of a run; nothing of one that was never done again."""
    version, run = version_of(run_state), run_state.get(VERSION_OF)
    if run is not None:
        return f"{escape_line(f'version {version} of run {run}, kept: it does not go on')}\n"
    before = version_id(run_state.get("pipeline_id", ""), version - 1)
    return f"{escape_line(f'version {version}; the one before: {before}')}\n" if version > 1 else ""


def _versions(run_state: dict[str, Any]) -> Iterator[str]:
    """Return notes on nodes whose rows are not all from the operator of today."""
    for entry in run_state.get("nodes", ()):
        old = older_rows(entry)
        if old is None:
            continue
        done = entry.get("rows_in", 0)
        which = "several versions" if done > old.rows else "an earlier version"
        yield (
            f"{entry['node_id']}: rows are of {which} of the operator: {number(old.rows)} of {number(done)} were done "
            f"before an edit was accepted ({', '.join(old.parts)}); a resume with --rerun does them again"
        )
