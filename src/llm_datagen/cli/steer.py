"""Pause, go on with, and change a run of another process on this machine."""

from __future__ import annotations

from llm_datagen.cli.execute import command_line
from llm_datagen.cli.output import write
from llm_datagen.errors import ConfigError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.control_client import ask


def pause_run(folder: RunFolder) -> None:
    """Have no call of an operator begin any more. Raises ControlError when the run cannot be reached."""
    folder.load()
    ask(folder, "pause")
    go_on = command_line("unpause", folder.pipeline_id, folder.path.parent)
    write(f"run {folder.pipeline_id}: paused, no call begins; calls that run end and are saved")
    write(f"  go on   {go_on}")


def unpause_run(folder: RunFolder) -> None:
    """Have calls begin again. Raises ControlError when the run cannot be reached."""
    folder.load()
    answer = ask(folder, "unpause")
    write(f"run {folder.pipeline_id}: {answer['status']}, not paused")


def reconfigure_run(
    folder: RunFolder,
    node: str | None,
    *,
    parallel_size: int | None = None,
    batch_size: int | None = None,
    rate: float | None = None,
) -> None:
    """Change a node of a run, and its run state.

    Args:
        folder: the run's folder.
        node: the id of a node, or its number; None when there is only one.
        parallel_size: batches in its operator at once, at most; None leaves it.
        batch_size: items a batch; None leaves it.
        rate: rows a second, at most; 0 takes the limit off, None leaves it.

    Raises:
        ConfigError: when there is no such node, or it cannot be changed so; nothing is changed then.
        ControlError: when the run cannot be reached.
    """
    known = [entry["node_id"] for entry in folder.load()["nodes"]]
    if node is None:
        if len(known) > 1:
            raise ConfigError(f"say which node, by --node: {', '.join(known)}")
        node = known[0]
    if node not in known and f"node_{node}" in known:
        node = f"node_{node}"
    now = ask(folder, "reconfigure", node_id=node, parallel_size=parallel_size, batch_size=batch_size, rate=rate)
    write(
        f"run {folder.pipeline_id}: {now['node_id']} has parallel_size {now['parallel_size']}, "
        f"batch_size {now['batch_size']}" + (f", {now['rate']:g} rows a second at most" if now["rate"] else "")
    )
