"""platform.log, for people: its events, filtered; or where the time of a run went."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from llm_datagen import logs
from llm_datagen.cli.output import is_terminal, write, write_json, write_json_line
from llm_datagen.errors import ConfigError
from llm_datagen.runs.chosen_nodes import chosen_nodes
from llm_datagen.runs.display.tables import line_width, one_line
from llm_datagen.runs.logs.bottleneck import LoggedState, NodeSummary, RunSummary, percent
from llm_datagen.runs.logs.writer import DEFAULT_LOG
from llm_datagen.runs.versions import find_run, logged_as
from llm_datagen.runs.words import duration, number
from llm_datagen.shards.run_view import read_run
from llm_datagen.streams.formats.json_values import shown

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_OPEN_AT_ONCE = 200
"""So many logs of shards are read side by side; of more, each is read to its end first: open files are few."""

_STATES = {
    LoggedState.ENDED: "ended",
    LoggedState.OPEN: "its end is not in the log: it is running, or was killed",
    LoggedState.KILLED: "its end is not in the log, and it ran again later: it was killed",
}


def show_events(
    results_dir: str,
    pipeline_id: str | None,
    log_file: Path | None,
    since: str | None,
    events: list[str],
    node: str | None,
    *,
    as_json: bool,
) -> None:
    """Show events, in the order in which they were logged.

    Args:
        results_dir: the folder of the runs.
        pipeline_id: only events of this run; None for all.
        log_file: the log; None for that of the run state, or the default one.
        since: only events from then on.
        events: only these events, by name; empty for all.
        node: a node: its id or its number; of a run, its operator's name, too; None for all.
        as_json: whether to print the lines as they are in the log.

    Raises:
        ConfigError: when there is no such event, node or time.
        DiskError: when there is no log, or it cannot be read.
        PipelineNotFoundError: when there is no such run, and no log was given.
    """
    wanted: dict[str, Any] = {
        "event": events or None,
        "node": _node_id(results_dir, pipeline_id, log_file, node),
        "since": _time(since),
    }
    path = _path(results_dir, pipeline_id, log_file)
    shards = [] if log_file is not None else _logs_of_shards(results_dir, pipeline_id)
    found = [logs.read(path, pipeline_id=logged_as(results_dir, pipeline_id), **wanted)] if path.exists() else []
    if not found and not shards:
        logs.read(path)  # says that there is no log
    of_shards: Iterator[Iterable[logs.LogEvent]] = (logs.read(each, pipeline_id=run, **wanted) for each, run in shards)
    if len(shards) > _OPEN_AT_ONCE:
        of_shards = map(list, of_shards)
    runs = {run for _, run in shards}
    for event in heapq.merge(*found, *of_shards, key=lambda event: event.at):
        if as_json:
            write_json_line(event.line)
            continue
        of_shard = f"{pipeline_id}/{event.pipeline_id}" if event.pipeline_id in runs else event.pipeline_id
        write(_line(event, of_shard if pipeline_id is None or runs else ""))


def show_summary(
    results_dir: str,
    pipeline_id: str | None,
    log_file: Path | None,
    since: str | None,
    events: list[str],
    node: str | None,
    *,
    as_json: bool,
) -> None:
    """Show where the time of each node went; the arguments are those of `show_events`.

    Raises:
        ConfigError: when it was asked for events, too; or there is no such time.
        DiskError: when there is no log, or it cannot be read.
        PipelineNotFoundError: when there is no such run, and no log was given.
    """
    if events or node is not None:
        raise ConfigError("--summary is of whole runs: leave out --event and --node")
    path = _path(results_dir, pipeline_id, log_file)
    wanted = [(path, logged_as(results_dir, pipeline_id))]
    wanted += [] if log_file is not None else _logs_of_shards(results_dir, pipeline_id)
    summaries = [(each, logs.summary(each, pipeline_id=run, since=_time(since))) for each, run in wanted]
    runs = [run for _, found in summaries for run in found.runs]
    of_shards = {run for _, run in wanted[1:]}
    if as_json:
        unreadable = sum(found.unreadable for _, found in summaries)
        write_json({"log_file": str(path), "unreadable": unreadable, "runs": [run.as_dict() for run in runs]})
        return
    for run in runs:
        shard = f"run {pipeline_id}, shard {run.pipeline_id}" if run.pipeline_id in of_shards else ""
        is_driver = bool(of_shards) and not shard  # it has no nodes of its own
        for line in _lines(run, shard, is_driver=is_driver):
            write(line)
    if not runs:
        write(f"{path}: nothing of {'any run' if pipeline_id is None else f'run {pipeline_id}'} is in it")
    for each, found in summaries:
        if found.unreadable:
            count = "1 line" if found.unreadable == 1 else f"{number(found.unreadable)} lines"
            write(f"{count} of {each} left out: no event, but torn or written by somebody else")


def _path(results_dir: str, pipeline_id: str | None, log_file: Path | None) -> Path:
    if log_file is not None or pipeline_id is None:
        return log_file or Path(DEFAULT_LOG)
    run_state = read_run(find_run(results_dir, pipeline_id)).state
    if "log_file" in run_state and run_state["log_file"] is None:
        raise ConfigError(f"run {pipeline_id} keeps no log (log_file: null)")
    return Path(run_state.get("log_file", DEFAULT_LOG))


def _logs_of_shards(results_dir: str, pipeline_id: str | None) -> list[tuple[Path, str]]:
    """Return the logs of the shards of a run that are on this machine, each with the id of the shard's run."""
    run = None if pipeline_id is None else read_run(find_run(results_dir, pipeline_id))
    if run is None or run.whole is None:
        return []
    paths = [(Path(shard.state.get("log_file") or ""), shard.run or "") for shard in run.whole.shards]
    return [(path, run_id) for path, run_id in paths if path.is_file()]


def _node_id(results_dir: str, pipeline_id: str | None, log_file: Path | None, node: str | None) -> str | None:
    if node is None or pipeline_id is None or log_file is not None:  # whose nodes are not known
        return f"node_{node}" if node is not None and node.isdecimal() else node
    return str(chosen_nodes(read_run(find_run(results_dir, pipeline_id)).state, node)[0]["node_id"])


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        return datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ConfigError(f"--since {text}: give 90s, 15m, 2h, 3d, or a time such as 2026-01-31T12:00") from None


def _line(event: logs.LogEvent, run: str) -> str:
    at = event.at.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    who = filter(None, [run, event.node_id])
    own = [f"{name}={_text(value)}" for name, value in event.fields.items()]
    text = " ".join([at, event.level, *who, event.event, *own])
    return one_line(text, line_width() if is_terminal() else len(text))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def _lines(run: RunSummary, shard: str, *, is_driver: bool) -> Iterator[str]:
    name = shard or (f"run {run.pipeline_id}" if run.pipeline_id else "a single node")
    began = run.started.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    cut = "" if run.is_whole else "; its beginning is not in the log any more"
    yield f"{name}: {began}, {_took(run.seconds)}; {_STATES[run.state]}{cut}"
    for node in run.nodes:
        yield f"  {_node(node)}"
    if run.bottleneck and not is_driver:
        yield f"  {run.bottleneck}"


def _node(node: NodeSummary) -> str:
    held = f"{_times(node.held_back_times)}, {number(round(node.held_back_s, 2))} s"
    starved = f"{_times(node.starved_times)}, {number(round(node.starved_s, 2))} s"
    if not node.is_exact:
        return (
            f"{node.node_id}: its end is not in the log; so far {_took(node.seconds)}; at least: workers held back "
            f"{held}; the reader waited {starved}"
        )
    return (
        f"{node.node_id}: {node.status}, {_took(node.seconds)}, workers {node.workers}: busy {percent(node.busy)}; "
        f"held back {percent(node.held_back)} ({held}); the reader waited {starved}"
        + (
            f"; waited for its readers {number(round(node.lead_limited_s, 2))} s (max_lead)"
            if node.lead_limited_s
            else ""
        )
    )


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{number(count)} times"
