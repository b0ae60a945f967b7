"""Commands that control a run of another process."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_datagen.cli.exit_codes import FAILED, exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.options import (
    IdArgument,
    ResultsOption,
    TracebackOption,
)
from llm_datagen.cli.output import write
from llm_datagen.runs.typed_commands import command_line, default_results

app = module_app()


@app.command(short_help="Cancel a run of another process on this machine.")
def cancel(
    pipeline_id: IdArgument,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until everything is saved.")] = False,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for that.")] = 120.0,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="The reason, for its status and log.")
    ] = "llm-datagen cancel",
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Cancel a run of another process on this machine: calls in flight finish and are saved."""
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.run_view import run_lines
        from llm_datagen.runs.versions import find_run
        from llm_datagen.shards.run_commands import running_parts, send_cancel, wait_for_end

        folder = find_run(results_dir or default_results(), pipeline_id)
        parts = running_parts(folder)
        for part in parts:
            pid = send_cancel(part, reason, keep_jobs=False)
            write(f"run {part.pipeline_id}: process {pid} was asked to cancel")
        if no_wait:
            return
        for part in parts:
            ended = wait_for_end(part, timeout)
            if ended is None:
                look = command_line("status", pipeline_id, folder.results_dir)
                write(
                    f"run {part.pipeline_id}: calls are still in flight after {timeout:g} s; it saves when they end "
                    f"(see: {look})"
                )
                raise typer.Exit(FAILED)
            for line in run_lines(ended):
                write(line)


@app.command(short_help="Pause a run of another process on this machine.")
def pause(
    pipeline_id: IdArgument,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Pause a run of another process on this machine: no new calls of operators until `unpause`."""
    with exit_codes(full_traceback=traceback):
        from llm_datagen.runs.versions import find_run
        from llm_datagen.shards.run_commands import pause_run, running_parts

        for part in running_parts(find_run(results_dir or default_results(), pipeline_id)):
            write(f"run {part.pipeline_id}: {pause_run(part)}")
            write(f"  go on   {command_line('unpause', part.pipeline_id, part.results_dir)}")


@app.command()
def unpause(
    pipeline_id: IdArgument,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Continue a paused run."""
    with exit_codes(full_traceback=traceback):
        from llm_datagen.runs.versions import find_run
        from llm_datagen.shards.run_commands import running_parts, unpause_run

        for part in running_parts(find_run(results_dir or default_results(), pipeline_id)):
            write(f"run {part.pipeline_id}: {unpause_run(part)}")


@app.command(short_help="Change a node of a run of another process, as it runs.")
def reconfigure(
    pipeline_id: IdArgument,
    node: Annotated[
        str | None,
        typer.Option(
            metavar="NODE",
            help="The node: its id, its number, or its operator's name. Not needed if there is only one.",
            show_default=False,
        ),
    ] = None,
    parallel_size: Annotated[
        int | None, typer.Option(metavar="N", help="Batches in its operator at once, at most.", show_default=False)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Items per batch.", show_default=False)] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="R", help="Rows per second, at most; 0 removes the limit.", show_default=False),
    ] = None,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Change a node of a run of another process on this machine, while it runs. A resume keeps the change."""
    with exit_codes(full_traceback=traceback):
        from llm_datagen.runs.versions import find_run
        from llm_datagen.shards.run_commands import reconfigure_run, running_parts

        folder = find_run(results_dir or default_results(), pipeline_id)
        for part in running_parts(folder):
            now = reconfigure_run(part, node, parallel_size=parallel_size, batch_size=batch_size, rate=rate)
            write(f"run {part.pipeline_id}: {now}")
