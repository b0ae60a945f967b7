"""Go on with a run: find it, find where its operators come from, and run it."""

from __future__ import annotations

from pathlib import Path

from llm_datagen.cli.execute import run_watched, write
from llm_datagen.cli.origin import Origin, origin_of
from llm_datagen.cli.target import default_results, find_target
from llm_datagen.errors import ConfigError
from llm_datagen.runtime import RunFolder


def resume_run(pipeline_id: str, name: str | None, results_dir: Path | None) -> int:
    """Resume a run in the directory in which it was started, and return the exit code.

    Args:
        pipeline_id: the run's id.
        name: where its operators come from; None for where they came from.
        results_dir: where runs are kept; None for where the pipeline, or the environment, says.

    Raises:
        ConfigError: when it is not known where its operators come from.
        DatagenError: when it cannot be resumed, or fails.
    """
    given = find_target(name) if name else None
    if given is not None and results_dir is None:
        results_dir = Path(given.pipeline.results_dir)
    folder = RunFolder((results_dir or Path(default_results())).absolute(), pipeline_id)
    folder.load()  # there must be such a run before anything else is said of it
    origin = origin_of(folder)
    if origin is not None:
        origin.enter()
    elif given is None:
        raise ConfigError(
            f"run {pipeline_id!r} was not started with `llm-datagen run`, so where its operators come from is not "
            f"known; say it: llm-datagen resume {pipeline_id} FILE.yaml (or module:name)"
        )
    target = given or find_target(origin.target if origin else "")
    resumed = target.pipeline
    resumed.results_dir = str(folder.path.parent)
    resumed.resume(pipeline_id)
    if origin is None:
        origin = Origin.here(target.name)
    Origin(target=target.name, cwd=origin.cwd).save(folder)
    write(f"run {pipeline_id}: resumed, {origin.target if given is None else name}")
    return run_watched(resumed)
