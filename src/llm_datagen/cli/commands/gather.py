"""The command that ends a run in shards."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from llm_datagen.cli.exit_codes import FAILED, exit_codes
from llm_datagen.cli.export_view import export_lines
from llm_datagen.cli.options import IdArgument, JsonOption, ResultsOption, TracebackOption
from llm_datagen.cli.output import write, write_json
from llm_datagen.cli.run_view import headline, open_run
from llm_datagen.runs import RunFolder
from llm_datagen.runs.display.tables import failed_rows
from llm_datagen.runs.exports import unfit_rows
from llm_datagen.runs.results_dir import absolute
from llm_datagen.runs.typed_commands import default_results
from llm_datagen.runs.words import number
from llm_datagen.shards.run_view import RunView, read_run

app = typer.Typer()

_COUNTS = ("filtered", "skipped", "dead")


def _lines(run: RunView) -> Iterator[str]:
    """Yield what was gathered."""
    from llm_datagen.shards.gathered import shown_outputs

    progress, count = run.progress, 0 if run.whole is None else len(run.whole.shards)
    filtered, skipped, dead = (sum(getattr(node, name) for node in progress.nodes) for name in _COUNTS)
    failed = f" ({failed_rows(skipped, dead)})" if skipped or dead else ""
    yield f"{headline(run)}: {'1 shard is' if count == 1 else f'{count} shards are'} gathered"
    yield (
        f"  rows    {number(progress.rows_done)} in, {number(progress.rows_out)} out, {number(filtered)} filtered, "
        f"{number(progress.failed)} failed{failed}"
    )
    for name in shown_outputs(run.state):
        yield f"  output  {name}"
    for line in export_lines(run.state, is_live=False):
        yield f"  {line}"


@app.command()
def gather(
    pipeline_id: IdArgument,
    as_json: JsonOption = False,
    results_dir: ResultsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Make the outputs and exports of a run in shards that are all completed, and complete it.

    Whoever runs all shards does it by itself; this is for shards that were each run by `run --shard`. When it is
    interrupted, give the same command again: it goes on. Exits with 1 if rows do not fit an export.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.shards.gather import gather as gather_run

        results = absolute(results_dir or default_results())
        open_run(results, pipeline_id)
        notes = gather_run(results, pipeline_id)
        run = read_run(RunFolder(results, pipeline_id))
        if as_json:
            write_json(run.as_dict())
        else:
            for line in (*_lines(run), *notes):
                write(line)
        raise typer.Exit(FAILED if unfit_rows(run.state) else 0)
