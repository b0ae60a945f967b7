"""The shards of a run made one run."""

from __future__ import annotations

from collections.abc import Iterator

from llm_datagen.cli.exit_codes import FAILED
from llm_datagen.cli.export_view import export_lines
from llm_datagen.cli.output import write, write_json
from llm_datagen.cli.run_view import headline, open_run
from llm_datagen.runs import RunFolder
from llm_datagen.runs.display.lines import failed_rows
from llm_datagen.runs.exports import unfit_rows
from llm_datagen.runs.results_dir import absolute
from llm_datagen.runs.words import number
from llm_datagen.shards.gather import gather
from llm_datagen.shards.gathered import shown_outputs
from llm_datagen.shards.run_view import RunView, read_run

_COUNTS = ("filtered", "skipped", "dead")


def gather_shards(results_dir: str, pipeline_id: str, *, as_json: bool) -> int:
    """Make the outputs and exports of a run in shards, and show what was gathered.

    Args:
        results_dir: the folder of the runs.
        pipeline_id: the run's id.
        as_json: whether to print JSON.

    Returns:
        The exit code: 1 when rows do not fit an export.

    Raises:
        DatagenError: as `llm_datagen.shards.gather.gather` does.
    """
    results = absolute(results_dir)
    open_run(results, pipeline_id)
    notes = gather(results, pipeline_id)
    run = read_run(RunFolder(results, pipeline_id))
    if as_json:
        write_json(run.as_dict())
    else:
        for line in (*_lines(run), *notes):
            write(line)
    return FAILED if unfit_rows(run.state) else 0


def _lines(run: RunView) -> Iterator[str]:
    """Yield what was gathered."""
    progress, count = run.progress, 0 if run.whole is None else len(run.whole.shards)
    filtered, skipped, dead = (sum(getattr(node, name) for node in progress.nodes) for name in _COUNTS)
    failed = f" ({failed_rows(skipped, dead)})" if skipped or dead else ""
    yield f"{headline(run)}: {'1 shard is' if count == 1 else f'{count} shards are'} gathered"
    yield (
        f"  rows    {number(progress.rows_done)} in, {progress.out}, {number(filtered)} filtered, "
        f"{number(progress.failed)} failed{failed}"
    )
    for name in shown_outputs(run.state):
        yield f"  output  {name}"
    for line in export_lines(run.state, is_live=False):
        yield f"  {line}"
