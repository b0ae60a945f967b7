"""Commands that run a pipeline, or a few rows of it."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_datagen.cli.exit_codes import exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.options import (
    AcceptOption,
    DetachOption,
    ExecutorOption,
    IfExistsOption,
    JsonOption,
    MergeOption,
    OtelCallsOption,
    OtelOption,
    PipelineArgument,
    RayAddressOption,
    ReplaceOption,
    RerunOption,
    ResourcesOption,
    ResultsOption,
    RuntimeEnvOption,
    SetOption,
    TracebackOption,
    UiOption,
    WorkersOption,
)
from llm_datagen.cli.output import leave_stdout_to_rows, write
from llm_datagen.errors import ConfigError

app = module_app()


@app.command()
def run(
    pipeline: PipelineArgument,
    pipeline_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The run's id; made up unless given.", show_default=False)
    ] = None,
    if_exists: Annotated[
        IfExistsOption | None,
        typer.Option(
            help="When the id has a run already: refuse (error, the default), continue it, or start afresh "
            "(its outputs are deleted).",
            show_default=False,
        ),
    ] = None,
    input_uri: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="URI",
            help="Where the rows come from, in place of what the file or the code says; - is standard input.",
            show_default=False,
        ),
    ] = None,
    output_uri: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="URI",
            help="Where the results go; - is standard output, when the run is completed: all else goes to standard "
            "error then.",
            show_default=False,
        ),
    ] = None,
    target_rows: Annotated[
        int | None,
        typer.Option(
            "--target",
            metavar="N",
            help="How many rows the output gets, exactly: then the run is completed. Exits with 4 when the input ends "
            "before.",
            show_default=False,
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Run it in shards: so many ranges of the input, each done by itself, by several processes.",
            show_default=False,
        ),
    ] = None,
    executor: Annotated[
        ExecutorOption | None,
        typer.Option(
            help="Who runs the shards: processes of this machine (local, the default); a Ray cluster (ray); or you do "
            "(none): one in each task of a Slurm array or an indexed Kubernetes Job, where the environment says which, "
            "or by --shard.",
            show_default=False,
        ),
    ] = None,
    workers: WorkersOption = None,
    ray_address: RayAddressOption = None,
    resources: ResourcesOption = None,
    runtime_env: RuntimeEnvOption = None,
    merge: Annotated[
        MergeOption | None,
        typer.Option(
            help="What becomes of the outputs of the shards: a file each (shards, the default), or one file (concat).",
            show_default=False,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="K/N|env",
            help="Run one shard, such as 3/16 (the first is 0/16), in this process; then gather them: llm-datagen "
            "gather. env: the one that the environment names.",
            show_default=False,
        ),
    ] = None,
    accept_changes: AcceptOption = False,
    rerun: RerunOption = False,
    replace: ReplaceOption = False,
    detach: DetachOption = False,
    otel: OtelOption = False,
    otel_calls: OtelCallsOption = 1.0,
    results_dir: ResultsOption = None,
    settings: SetOption = None,
    ui: UiOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Run a pipeline with a live display."""
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.execute import run_watched
        from llm_datagen.cli.otel import OtelOptions
        from llm_datagen.cli.resume import on_change_of
        from llm_datagen.cli.sharded import ShardOptions, run_some, with_shards
        from llm_datagen.cli.target import find_target, parse_settings
        from llm_datagen.pipeline.spool import prints_output
        from llm_datagen.runs import RunFolder
        from llm_datagen.runs.origin import Origin
        from llm_datagen.runs.page_process import check_page
        from llm_datagen.runs.sharded import SHARDS, is_sharded

        if ui:
            check_page()
        options = {
            "input_uri": input_uri,
            "output_uri": output_uri,
            "target": target_rows,
            "results_dir": results_dir,
        }
        given = {
            **parse_settings(settings or []),
            **{key: value for key, value in options.items() if value is not None},
        }
        target = find_target(pipeline, given)
        on_change = on_change_of(accept=accept_changes, rerun=rerun, replace=replace)
        split = ShardOptions(
            shards=shards,
            shard=shard,
            executor=executor,
            workers=workers,
            merge=None if merge is None else merge.value,
            ray_address=ray_address,
            resources=resources,
            runtime_env=runtime_env,
        )
        split.refuse_without_shards()
        if split.are_by_others and ui:
            raise ConfigError("--ui is of a run that this process drives; show this one with: llm-datagen ui")
        telemetry = OtelOptions(otel, otel_calls)
        if detach:
            from llm_datagen.cli.detach import detach as end_with_jobs

            end_with_jobs(target.pipeline.blueprint()[1], is_in_shards=split.are_given)
        if split.are_by_others:
            raise typer.Exit(run_some(target, pipeline_id, split, if_exists, on_change, telemetry))
        if split.are_given:
            target = with_shards(target, split)
        created = target.create(pipeline_id, if_exists.value if if_exists else None, on_change)
        folder = RunFolder(created.results_dir, created.pipeline_id)
        run_state = folder.load()
        leave_stdout_to_rows(prints_output(run_state))
        Origin.here(target.name).save(folder)
        how = split.split_in_words(run_state[SHARDS]["count"]) if is_sharded(run_state) else ""
        write(f"run {created.pipeline_id}: {pipeline}{how}")
        raise typer.Exit(run_watched(created, ui=ui, otel=telemetry))


@app.command()
def preview(
    pipeline: PipelineArgument,
    rows: Annotated[
        int, typer.Option("--rows", "-n", min=1, metavar="N", help="How many rows: each node gets so many at most.")
    ] = 5,
    row: Annotated[
        list[int] | None,
        typer.Option(
            "--row",
            min=0,
            metavar="NUMBER",
            help="A row of the input, from 0, in place of the first ones. May be given again.",
            show_default=False,
        ),
    ] = None,
    no_calls: Annotated[
        bool, typer.Option("--no-calls", help="Show the prompts that need no answer of a model, and make no calls.")
    ] = False,
    settings: SetOption = None,
    as_json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Show the prompts of the first rows, and the models' answers.

    Nothing is written but the response cache of operators that have one (`cache`). Only these rows are paid for.

    Operators that call no model are run, too, and their rows are shown. Exits with 1 when a row fails.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.preview import preview_pipeline

        raise typer.Exit(
            preview_pipeline(
                pipeline, settings or [], count=rows, numbers=row or [], make_calls=not no_calls, as_json=as_json
            )
        )


@app.command(short_help="Estimate tokens, money and time from some rows.")
def plan(
    pipeline: PipelineArgument,
    rows: Annotated[
        int, typer.Option("--rows", "-k", min=1, metavar="N", help="How many rows: each node gets so many at most.")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The seed of the sample: equal seeds, equal rows.")] = 0,
    settings: SetOption = None,
    as_json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Run some rows, and estimate what the whole run will use: tokens, money, time.

    The rows are drawn from the whole input, which is read once. They are paid for; with `cache`, only once.

    Nothing is written but the cache. Exits with 1 when all rows fail.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.plan import show_plan

        raise typer.Exit(show_plan(pipeline, settings or [], count=rows, seed=seed, as_json=as_json))
