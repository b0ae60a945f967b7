"""The runs that there are, with their true status: a run state may still name a process that is dead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from llm_datagen.cli.export_view import export_lines, exports_made, exports_of
from llm_datagen.cli.modules import import_protocols
from llm_datagen.cli.run_origin import origin_of
from llm_datagen.errors import ConfigError, PipelineNotFoundError, RunStateError
from llm_datagen.errors.advice import did_you_mean
from llm_datagen.errors.escape import escape_line
from llm_datagen.runs import RunFolder
from llm_datagen.runs.display.tables import STYLES, errors_in_words, node_line, node_table, number
from llm_datagen.runs.earlier_versions import older_rows
from llm_datagen.runs.graph import unsettled
from llm_datagen.runs.results_dir import absolute
from llm_datagen.runs.run_progress import RunProgress
from llm_datagen.runs.seen import see
from llm_datagen.runs.sharded import is_sharded
from llm_datagen.runs.status import INTERRUPTED, LIVE, Status
from llm_datagen.runs.store import run_ids
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.runs.versions import VERSION_OF, find_run, version_id, version_of

if TYPE_CHECKING:
    from llm_datagen.shards.whole import Whole

UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run, as it is shown.

    Attributes:
        pipeline_id: its id.
        results_dir: the folder of the runs, absolute, or its URI.
        status: its true status.
        state: its run state; empty when it cannot be read.
        is_live: whether a process runs it.
        note: what else to show.
        spending: what it has spent of its budget; empty for a run without one, or when not read.
        whole: its shards; None of a run that is not in shards.
    """

    pipeline_id: str
    results_dir: str
    status: str
    state: dict[str, Any] = field(default_factory=dict)
    is_live: bool = False
    note: str = ""
    spending: str = ""
    whole: Whole | None = field(default=None, repr=False)

    @property
    def parts(self) -> list[tuple[int | None, dict[str, Any]]]:
        """The run states that say where its streams lie: its own; or those of its shards, each with its number."""
        if self.whole is None:
            return [(None, self.state)]
        return [(shard.number, shard.state) for shard in self.whole.shards if shard.state]

    @property
    def rerun_note(self) -> str:
        """A note about a `rerun` that was interrupted; empty when there is none."""
        names = sorted(unsettled(self.state))
        if not names:
            return ""
        return (
            f"a rerun was cut short: what {', '.join(names)} read or made is still to be taken away or moved, and was "
            f"not looked at; resume finishes that first: {self.command('resume')}"
        )

    def command(self, verb: str, *, arguments: Sequence[str] = (), options: Sequence[str] = ()) -> str:
        """Return the command to type for it; see `command_line`."""
        return command_line(verb, self.pipeline_id, self.results_dir, arguments=arguments, options=options)

    @property
    def progress(self) -> RunProgress:
        """How far it is."""
        return RunProgress.of(self.state, self.status, is_live=self.is_live)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data: the run state, with the status that is true, and the one that was saved."""
        progress = self.progress
        return {
            **self.state,
            "pipeline_id": self.pipeline_id,
            "status": self.status,
            "saved_status": self.state.get("status"),
            "note": self.note,
            "bottleneck": progress.limit,
            "eta_s": progress.seconds_left,
        }

    def brief(self) -> dict[str, Any]:
        """Return it as plain data, in short."""
        progress = self.progress
        return {
            "pipeline_id": self.pipeline_id,
            "status": self.status,
            "rows_in": progress.rows_done,
            "total": progress.rows_total,
            "total_is_exact": progress.total_is_exact,
            "rows_out": progress.rows_out,
            "rows_per_second": progress.rows_per_second,
            "eta_s": progress.seconds_left,
            "failed": progress.failed,
            "exports": exports_of(self.state),
            "stalled": [node.node_id for node in progress.nodes if node.stalled],
            "updated_at": self.state.get("updated_at"),
            "note": self.note,
        }


def read_run(folder: RunFolder) -> RunView:
    """Return a run with its true status.

    Raises:
        PipelineNotFoundError: when there is none.
        RunStateError: when its run state cannot be read.
    """
    seen, whole = see(folder), None
    if is_sharded(seen.state):
        from llm_datagen.shards.whole import Whole

        whole = Whole.of(folder, seen)
        seen = whole.see()
    return RunView(
        pipeline_id=folder.pipeline_id,
        results_dir=folder.results_dir,
        status=seen.status,
        state=seen.state,
        is_live=seen.is_live,
        note=seen.note,
        whole=whole,
    )


def open_run(results_dir: str, pipeline_id: str) -> RunView:
    """Return a run with its true status, and change to the directory in which it was started, if it is known.

    Protocols of the user's own are registered, too.

    Raises:
        PipelineNotFoundError: when there is none.
        RunStateError: when its run state cannot be read.
        ConfigError: when its directory is gone, or a module that may register a protocol.
    """
    folder = find_run(absolute(results_dir), pipeline_id)
    run = read_run(folder)
    origin = origin_of(folder)
    if origin is not None:
        origin.enter(folder)
        import_protocols(run.state, origin.target)
    return run


def chosen_nodes(run_state: dict[str, Any], node: str | None) -> list[dict[str, Any]]:
    """Return the entries of a node in a run state; of all nodes for None.

    Args:
        run_state: the run state.
        node: the id of a node, its number, or the name of its operator, if no other node has that.

    Raises:
        ConfigError: when there is no such node, or several.
    """
    entries: list[dict[str, Any]] = run_state["nodes"]
    if node is None:
        return entries
    for name in (node, f"node_{node}"):
        if found := [entry for entry in entries if entry["node_id"] == name]:
            return found
    named = {entry["node_id"]: entry["operator"].replace(":", ".").rpartition(".")[2] for entry in entries}
    found = [entry for entry in entries if node in (entry["operator"], named[entry["node_id"]])]
    if len(found) > 1:
        raise ConfigError(f"--node {node}: several nodes have it: {', '.join(entry['node_id'] for entry in found)}")
    if not found:
        raise ConfigError(f"--node {node}: the run has no such node; {did_you_mean(node, [*named, *named.values()])}")
    return found


def all_runs(results_dir: str) -> list[RunView]:
    """Return all runs in a folder, the one with the latest change at the end."""
    runs = []
    for pipeline_id in run_ids(results_dir):
        try:
            runs.append(read_run(RunFolder(results_dir, pipeline_id)))
        except RunStateError as error:
            runs.append(_unreadable(pipeline_id, results_dir, error))
        except PipelineNotFoundError:
            continue  # it was removed meanwhile
    return sorted(runs, key=lambda run: (run.state.get("updated_at") or "", run.pipeline_id))


def _unreadable(pipeline_id: str, results_dir: str, error: RunStateError) -> RunView:
    return RunView(pipeline_id=pipeline_id, results_dir=absolute(results_dir), status=UNREADABLE, note=str(error))


def list_table(runs: list[RunView]) -> Table:
    """Return a table with a line per run."""
    table = Table(box=None, pad_edge=False)
    has_exports = any(run.state.get("exports") for run in runs)
    for heading in ("id", "status", "in", "out", "errors", *(["exports"] if has_exports else []), "updated"):
        is_number = heading in {"in", "out", "errors", "exports"}
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=True)
    for run in runs:
        brief = run.brief()
        total = brief["total"]
        known = "" if total is None else f"/{'' if brief['total_is_exact'] else '~'}{number(total)}"
        table.add_row(
            Text(escape_line(run.pipeline_id)),
            Text("stalled", style=STYLES["stalled"])
            if brief["stalled"]
            else Text(run.status, style=STYLES.get(run.status, "")),
            Text(f"{number(brief['rows_in'])}{known}"),
            Text(number(brief["rows_out"])),
            Text(number(brief["failed"]), style="bold red" if brief["failed"] else ""),
            *([Text(exports_made(brief["exports"]))] if has_exports else []),
            Text(_time(brief["updated_at"])),
        )
    return table


def list_lines(runs: list[RunView]) -> list[str]:
    """Return a line of text per run."""
    lines = []
    for run in runs:
        brief = run.brief()
        rows = f"{number(brief['rows_in'])} rows in, {number(brief['rows_out'])} out"
        errors = errors_in_words(brief["failed"])
        stalled = f" ({', '.join(brief['stalled'])} stalled)" if brief["stalled"] else ""
        exports = f", {made} exports" if (made := exports_made(brief["exports"])) else ""
        updated = _time(brief["updated_at"])
        lines.append(
            f"{escape_line(run.pipeline_id)}: {run.status}{stalled}, {rows}, {errors}{exports}, updated {updated}"
        )
    return lines


def run_table(run: RunView) -> Table:
    """Return a table with a line per node."""
    return node_table(run.progress.nodes, title=headline(run), caption=_details(run))


def run_lines(run: RunView) -> list[str]:
    """Return a run as lines of text."""
    return [headline(run), *(f"  {node_line(node)}" for node in run.progress.nodes), *_details(run).splitlines()]


def headline(run: RunView) -> str:
    """Return the status of a run, in a line."""
    why = run.note or run.state.get("error") or run.state.get("reason") or ""
    paused = ", paused" if run.is_live and run.state.get("paused") else ""
    return escape_line(f"run {run.pipeline_id}: {run.status}{paused}" + (f" ({why})" if why else ""))


def _details(run: RunView) -> str:
    run_state = run.state
    budget = f"budget: {run.spending}\n" if run.spending else ""
    where = f", process {run_state['pid']} on {run_state['host']}" if run.is_live and run_state.get("pid") else ""
    row = run_state.get("failed_row") if run.status == Status.FAILED else None
    at = f"failed at {escape_line(row)}\n" if row else ""
    is_short = run_state.get("usage_is_partial") or (
        run.status == INTERRUPTED and run_state.get("status") != Status.RESUMING
    )
    is_short = is_short and any(map(_may_have_used, run_state.get("nodes", ())))
    usage = "usage and cost are at least these: the last usage before a kill is missing\n" if is_short else ""
    older = "".join(f"{escape_line(text)}\n" for text in _versions(run_state))
    exports = "".join(f"{escape_line(text)}\n" for text in export_lines(run_state, is_live=run.is_live))
    created, started = _time(run_state.get("created_at")), _time(run_state.get("started_at"))
    shards = f"{run.whole.summary()}\n" if run.whole is not None else ""
    limit = f"{escape_line(limit)}\n" if (limit := run.progress.limit) else ""
    return (
        f"{limit}{shards}{exports}{_version(run_state)}{older}{at}{budget}{usage}"
        f"created {created}, last started {started}, updated {_time(run_state.get('updated_at'))}{where}"
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


def _time(text: str | None) -> str:
    return text[:19].replace("T", " ") + " UTC" if text else "never"
