"""Commands that go on with a run, whatever stopped it."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_datagen.cli.exit_codes import exit_codes
from llm_datagen.cli.lazy_commands import module_app
from llm_datagen.cli.options import (
    AcceptOption,
    DetachOption,
    GoOnExecutorOption,
    IdArgument,
    OnErrorOption,
    OriginArgument,
    OtelCallsOption,
    OtelOption,
    RayAddressOption,
    ReplaceOption,
    RerunOption,
    ResourcesOption,
    ResultsOption,
    RuntimeEnvOption,
    TracebackOption,
    UiOption,
    WorkersOption,
)

app = module_app()


@app.command()
def resume(
    pipeline_id: IdArgument,
    pipeline: OriginArgument = None,
    on_error: Annotated[
        OnErrorOption | None,
        typer.Option(
            help="What becomes of rows that fail from now on, in all nodes: end the run, leave them out, or write them "
            "to <output>.errors.jsonl. As it was, unless given.",
            show_default=False,
        ),
    ] = None,
    max_errors: Annotated[
        str | None,
        typer.Option(
            metavar="N|SHARE",
            help="How many rows of a node may fail, all in all, before the run does: a number such as 100, or a share "
            "such as 0.01. Any number, when only --on-error is given.",
            show_default=False,
        ),
    ] = None,
    budget_usd: Annotated[
        float | None,
        typer.Option(
            metavar="USD",
            help="What the operators with a budget may spend in all, with what they have spent, in place of what the "
            "file or the code says.",
            show_default=False,
        ),
    ] = None,
    budget_tokens: Annotated[
        int | None,
        typer.Option(metavar="N", help="The same, in tokens of prompts and answers.", show_default=False),
    ] = None,
    parallel_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Batches in the operator of each node at once, from now on.", show_default=False
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Rows per second that each node hands to its operator, at most; 0 removes the limit.",
            show_default=False,
        ),
    ] = None,
    target_rows: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="[NODE=]N",
            help="How many rows the output gets, exactly, in place of what it was to get; of a node, by its id. May be "
            "given again.",
            show_default=False,
        ),
    ] = None,
    executor: GoOnExecutorOption = None,
    workers: WorkersOption = None,
    ray_address: RayAddressOption = None,
    resources: ResourcesOption = None,
    runtime_env: RuntimeEnvOption = None,
    accept_changes: AcceptOption = False,
    rerun: RerunOption = False,
    replace: ReplaceOption = False,
    detach: DetachOption = False,
    otel: OtelOption = False,
    otel_calls: OtelCallsOption = 1.0,
    results_dir: ResultsOption = None,
    ui: UiOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Resume a run where it stopped, whatever stopped it.

    Paths and settings are those of the run; only the operators come from the file or the code.

    A run that a bad row has ended goes on with --on-error dead_letter.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.budget import BudgetOverride
        from llm_datagen.cli.otel import OtelOptions
        from llm_datagen.cli.resume import on_change_of, parse_max_errors, parse_target, resume_run
        from llm_datagen.cli.sharded import ShardOptions

        raise typer.Exit(
            resume_run(
                pipeline_id,
                pipeline,
                results_dir,
                on_error=on_error.value if on_error else None,
                max_errors=parse_max_errors(max_errors),
                budget=BudgetOverride(budget_usd, budget_tokens),
                on_change=on_change_of(accept=accept_changes, rerun=rerun, replace=replace),
                parallel_size=parallel_size,
                rate=rate,
                target=parse_target(target_rows or []),
                shards=ShardOptions(
                    executor=executor,
                    workers=workers,
                    ray_address=ray_address,
                    resources=resources,
                    runtime_env=runtime_env,
                ),
                otel=OtelOptions(otel, otel_calls),
                ui=ui,
                detaches=detach,
            )
        )


@app.command()
def replay(
    pipeline_id: IdArgument,
    pipeline: OriginArgument = None,
    executor: GoOnExecutorOption = None,
    workers: WorkersOption = None,
    ray_address: RayAddressOption = None,
    resources: ResourcesOption = None,
    runtime_env: RuntimeEnvOption = None,
    accept_changes: AcceptOption = False,
    rerun: RerunOption = False,
    replace: ReplaceOption = False,
    otel: OtelOption = False,
    otel_calls: OtelCallsOption = 1.0,
    results_dir: ResultsOption = None,
    ui: UiOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Retry the dead-lettered rows of a run, and continue it.

    The same nodes do them, and the rows keep their ids; what fails again is dead-lettered again.
    """
    with exit_codes(full_traceback=traceback):
        from llm_datagen.cli.otel import OtelOptions
        from llm_datagen.cli.resume import on_change_of, replay_run
        from llm_datagen.cli.sharded import ShardOptions

        raise typer.Exit(
            replay_run(
                pipeline_id,
                pipeline,
                results_dir,
                on_change_of(accept=accept_changes, rerun=rerun, replace=replace),
                ShardOptions(
                    executor=executor,
                    workers=workers,
                    ray_address=ray_address,
                    resources=resources,
                    runtime_env=runtime_env,
                ),
                otel=OtelOptions(otel, otel_calls),
                ui=ui,
            )
        )
