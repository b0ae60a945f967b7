"""The commands that messages about calls tell people to type for the run of the calls."""

from __future__ import annotations

from collections.abc import Sequence

from llm_datagen.operators.protocols import IJobContext, INodeContext
from llm_datagen.runs.typed_commands import command_line, default_results


def run_command(
    verb: str, ctx: INodeContext | None, *, arguments: Sequence[str] = (), options: Sequence[str] = ()
) -> str:
    """Return the command to type for the run of a call, with its id and folder; with ``ID`` where there is no run.

    Args:
        verb: the command.
        ctx: the context of the call.
        arguments: what comes after the id.
        options: further options.
    """
    pipeline_id, results_dir = "ID", default_results()
    if isinstance(ctx, IJobContext) and ctx.results_dir:
        pipeline_id, results_dir = ctx.pipeline_id, ctx.results_dir
    return command_line(verb, pipeline_id, results_dir, arguments=arguments, options=options)
