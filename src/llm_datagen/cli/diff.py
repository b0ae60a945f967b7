"""What a resume would do with the pipeline as it is now, as a table or as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from rich.text import Text

from llm_datagen.cli.output import write_json
from llm_datagen.cli.resume import StoppedRun
from llm_datagen.cli.sharded import NO_SHARDS
from llm_datagen.errors import ConfigError
from llm_datagen.pipeline.diff_report import NodeDiff, RunDiff, Use
from llm_datagen.runs import RunFolder
from llm_datagen.runs.display.console import SafeConsole
from llm_datagen.runs.display.name_table import Name, NameTable, columns_of
from llm_datagen.runs.status import Status
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.runs.usage import dollars
from llm_datagen.runs.words import number, rows_in_words

_STYLES = {"kept": "green", "redone": "yellow", "new": "yellow", "removed": "red"}


def show_diff(pipeline_id: str, name: str | None, results_dir: str | None, *, is_replay: bool, as_json: bool) -> None:
    """Show what a resume of a run would keep and do again, and what that costs. Nothing is changed.

    Args:
        pipeline_id: the run's id.
        name: where its operators come from; None for the same as before.
        results_dir: the folder of the runs; None for the pipeline's, or the environment's.
        is_replay: whether the dead-lettered rows are to be done again.
        as_json: whether to print JSON.

    Raises:
        ConfigError: when it is not known where its operators come from.
        DatagenError: when the run could not be resumed.
    """
    run = StoppedRun(pipeline_id, name, results_dir, "diff")
    target = run.target(NO_SHARDS)
    if not target.name:
        typed = command_line("diff", run.folder.pipeline_id, run.folder.results_dir, arguments=["module:pipeline"])
        raise ConfigError(
            f"run {run.folder.pipeline_id!r} was not started with `llm-datagen run`, so where its code is, is not "
            f"known; say it: {typed} (or FILE.yaml)"
        )
    diff = target.pipeline.diff(run.folder.pipeline_id, replay=is_replay)
    if as_json:
        write_json(diff.as_dict())
        return
    console = SafeConsole()
    console.print(_table(diff))
    again = _command(diff, run.folder, name, is_replay=is_replay)
    for line in _lines(diff, run.folder, again, shlex.join(["llm-datagen", "plan", name or target.name])):
        console.print(Text(line), soft_wrap=True)


def _table(diff: RunDiff) -> NameTable:
    names = [Name(node.node_id, node.operator if node.operator != node.node_id else "") for node in diff.nodes]
    rows: list[list[str | Text]] = [
        [Text(node.what, style=_STYLES[node.what]), number(node.rows_kept), _to_do(node), *_use(node.use)]
        for node in diff.nodes
    ]
    rows.append(["", "", "", *_use(diff.use)])
    columns = columns_of(("what", "rows kept", "to do", "calls", "cost"), rows, words=["what"])
    return NameTable("node", [*names, Name("all")], columns, styles=[""] * len(names) + ["bold"])


def _to_do(node: NodeDiff) -> str:
    if node.rows_to_do is None:
        return "?"
    return f"{node.mark}{number(node.rows_to_do)}"


def _use(use: Use | None) -> tuple[str, str]:
    if use is None:
        return "?", "?"
    return number(round(use.calls)), "unknown" if use.cost is None else dollars(use.cost) if use.calls else "-"


def _command(diff: RunDiff, folder: RunFolder, name: str | None, *, is_replay: bool) -> str:
    """Return the command that does what the diff says, as it is typed where the diff was."""
    change = "--rerun" if diff.can_rerun else "--replace"
    return command_line(
        "replay" if is_replay else "resume",
        folder.pipeline_id,
        folder.results_dir,
        arguments=[] if name is None else [name],
        options=[change] if diff.is_edited else [],
    )


def _lines(diff: RunDiff, folder: RunFolder, again: str, plan: str) -> Iterator[str]:
    for node in diff.nodes:
        for reason in node.reasons:
            yield f"* {node.node_id}: {reason}"
    for node in diff.nodes:
        if node.dead_letters:
            dead_letters = rows_in_words(node.dead_letters)
            yield f"* {node.node_id}: {dead_letters} failed, and stay dead letters; replay does them"
    if diff.unknown:
        yield (
            f"* what {', '.join(diff.unknown)} will use is not known: the operator has done no row here; {plan} tries "
            "some"
        )
    if any(node.use is not None and node.use.is_measured and node.use.calls for node in diff.nodes):
        yield ("calls and cost are those that the rows done so far took, per row; what a cache answers is not paid for")
    for note in diff.notes:
        yield f"* {note}"
    has_rows = any(node.rows_to_do != 0 or node.is_estimate for node in diff.nodes)
    if not diff.is_edited and not has_rows and folder.load()["status"] == Status.COMPLETED:
        yield "there is nothing to do"
        return
    kept = f"; what is there now is kept as {diff.kept_as}" if diff.kept_as else ""
    deleted = "" if diff.can_rerun else "; what is there now is deleted"
    yield f"to do it: {again}{kept}{deleted}"
