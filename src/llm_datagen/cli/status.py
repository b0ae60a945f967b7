"""Show runs: once, or again and again; to people, or to programs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_datagen.cli.output import is_terminal, write, write_json
from llm_datagen.cli.run_view import list_lines, run_lines
from llm_datagen.errors import ConfigError
from llm_datagen.runs.results_dir import absolute
from llm_datagen.runs.versions import find_run
from llm_datagen.shards.run_view import RunView, all_runs, read_run
from llm_datagen.streams.storage.object_uri import is_object_uri

if TYPE_CHECKING:
    from rich.console import RenderableType

WATCH_SECONDS = 0.5
STORE_WATCH_SECONDS = 5.0
"""How often `--watch` reads the run states, here and on a store. They are saved about as often."""


def show_status(results_dir: str, pipeline_id: str | None, *, watch: bool, as_json: bool) -> None:
    """Show a run, or all runs.

    Args:
        results_dir: the folder of the runs.
        pipeline_id: the run's id; None for all.
        watch: whether to repeat it until no run is running.
        as_json: whether to print JSON.

    Raises:
        ConfigError: when both are asked for.
        PipelineNotFoundError: when there is no such run.
    """
    if watch and as_json:
        raise ConfigError("--json shows a run once: leave --watch away, and ask again when you like")

    def look() -> list[RunView]:
        if not pipeline_id:
            return all_runs(results_dir)
        return [read_run(find_run(results_dir, pipeline_id))]

    def table(runs: list[RunView]) -> RenderableType:
        from llm_datagen.cli.run_table import list_table, run_table

        return run_table(runs[0]) if pipeline_id else list_table(runs)

    def lines(runs: list[RunView]) -> list[str]:
        return run_lines(runs[0]) if pipeline_id else list_lines(runs)

    seconds = STORE_WATCH_SECONDS if is_object_uri(absolute(results_dir)) else WATCH_SECONDS
    runs = look()
    if as_json:
        data = runs[0].as_dict() if pipeline_id else [run.brief() for run in runs]
        write_json(data)
    elif not runs:
        write(f"no runs in {results_dir}")
    elif not is_terminal():
        _print_lines(runs, look, lines, seconds if watch else None)
    elif watch:
        _draw(runs, look, table, seconds)
    else:
        from llm_datagen.runs.display.console import SafeConsole

        SafeConsole().print(table(runs))


def _print_lines(
    runs: list[RunView],
    look: Callable[[], list[RunView]],
    lines: Callable[[list[RunView]], list[str]],
    every: float | None,
) -> None:
    while True:
        for line in lines(runs):
            write(line)
        before = runs
        while every is not None and runs == before and any(run.is_live for run in runs):
            time.sleep(every)
            runs = look()
        if runs == before:
            return


def _draw(
    runs: list[RunView],
    look: Callable[[], list[RunView]],
    table: Callable[[list[RunView]], RenderableType],
    every: float,
) -> None:
    from llm_datagen.runs.display.console import SafeConsole
    from llm_datagen.runs.display.live import live

    shown = [runs]
    drawn = live(SafeConsole(), lambda: table(shown[0]))
    try:
        while any(run.is_live for run in shown[0]):
            time.sleep(every)
            shown[0] = look()
    finally:
        drawn.stop()
