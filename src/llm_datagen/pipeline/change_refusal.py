"""How a resume refuses operators that were edited: what changed, and how the reader says what is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.config import OnChange
from llm_datagen.errors.advice import advice
from llm_datagen.runs import RunFolder
from llm_datagen.runs.sharded import is_sharded
from llm_datagen.runs.typed_commands import command_line


def refusal(
    run_state: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    told: Mapping[str, str],
    on_change: OnChange,
    *,
    redrawing: Mapping[str, str],
    is_replay: bool,
    results_dir: str | None = None,
) -> str:
    """Return why a run does not go on.

    Args:
        run_state: the run's state.
        entries: the nodes of the code; ``run_state["nodes"]`` itself when the steps are the same.
        told: what changed, by the node's id.
        on_change: what was to become of the changes.
        redrawing: nodes that draw from rows which would be done again (`ops.Feedback`), and would be so, too; with the
            nodes that these rows are of.
        is_replay: whether the dead letters were to be done again.
        results_dir: the folder of the runs; None for a run of which there is no diff.
    """
    pipeline_id = run_state["pipeline_id"]
    names = {entry["node_id"]: entry["operator"] for entry in [*run_state["nodes"], *entries]}
    what = "; ".join(f"{node_id} ({names[node_id]}): {changed}" for node_id, changed in told.items())
    kept = "kept as an earlier version of the run"
    choice: OnChange = "replace" if is_sharded(run_state) else "rerun"
    becomes = "deleted" if is_sharded(run_state) else kept
    rerun = (
        f"{_choice(choice, is_replay)}: these nodes and all that read from them are done again{_loops(redrawing)}, "
        "what is before them "
        f"stays, and what they made is {becomes} (an operator that was renamed keeps its "
        "identity with name='the old name'; one with a `version` is compared by that alone)"
    )
    if entries is not run_state["nodes"]:
        known, now = ([entry["operator"] for entry in nodes] for nodes in (run_state["nodes"], entries))
        never = "Rows of other steps cannot be accepted as those of these. " if on_change == "accept" else ""
        return (
            f"run {pipeline_id!r} was made with the operators {known}, and the code has {now}. Changed: {what}. "
            f"{never}Undo that; or {rerun}{_shown(pipeline_id, results_dir, is_replay)}"
        )
    accept = (
        f"{_choice('accept', is_replay)}: what is done stays, and the rest is done by the new operators"
        f"{', as are the dead letters' if is_replay else ''}"
    )
    return (
        f"run {pipeline_id!r} has rows of operators that were edited since. Changed: {what}. Undo that; or "
        f"{accept}; or {rerun}{_shown(pipeline_id, results_dir, is_replay)}"
    )


def edits_unread(folder: RunFolder, on_change: OnChange, *, is_replay: bool) -> str:
    """Return why edits cannot be accepted or rerun when the run state makes the operators, and what to do."""
    pipeline_id, flag, verb = folder.pipeline_id, _flag(on_change), "replay" if is_replay else "resume"
    typed = command_line(verb, pipeline_id, folder.results_dir, arguments=["module:pipeline"], options=[flag])
    return (
        f"{advice(f'on_change={on_change!r}', flag)}: no operators were given, so those of run {pipeline_id!r} come "
        "from the run's state (runtime.json), and edits of the program, such as a prompt, are not read. Nothing was "
        "changed. "
    ) + advice(
        f"Give the edited operators: UnifiedPipeline(operators=[…], results_dir=…).{verb}({pipeline_id!r}, "
        f"on_change={on_change!r})",
        f"Say where the edited operators are: {typed}",
    )


def _loops(redrawing: Mapping[str, str]) -> str:
    """Return what is done again before the nodes that changed, as it draws from their rows."""
    if not redrawing:
        return ""
    drawn = ", ".join(f"{node_id}, which draws from {source}" for node_id, source in redrawing.items())
    return f" (also {drawn}, and all behind: Feedback makes a loop of them)"


def _shown(pipeline_id: str, results_dir: str | None, is_replay: bool) -> str:
    """Return where the reader sees what would follow, before anything is done."""
    if results_dir is None:
        return ""
    typed = command_line("diff", pipeline_id, results_dir, options=["--replay"] if is_replay else [])
    called = f"pipeline.diff({pipeline_id!r}{', replay=True' if is_replay else ''})"
    return ". Rows kept and done again, calls and cost, before anything is spent: " + advice(
        called, f"{typed} (with the FILE.yaml or module:name that you gave, if any)"
    )


def _flag(on_change: OnChange) -> str:
    return "--accept-changes" if on_change == "accept" else f"--{on_change}"


def _choice(on_change: OnChange, is_replay: bool) -> str:
    """Return how the reader says what becomes of the changes."""
    verb = "replay()" if is_replay else "create() or resume()"
    return advice(f"give {verb} on_change={on_change!r}", f"type the same command with {_flag(on_change)}")
