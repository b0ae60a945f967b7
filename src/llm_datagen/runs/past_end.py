"""How a run goes on in which rows have come to a node that had given what it had left at its end (finish)."""

from __future__ import annotations

from llm_datagen.errors.advice import advice
from llm_datagen.runs.typed_commands import command_line


def rerun_advice(pipeline_id: str, results_dir: str, *, is_replay: bool = False) -> str:
    """Return what to do, in a sentence without its full stop.

    Args:
        pipeline_id: the run's id.
        results_dir: the folder of the runs.
        is_replay: whether its dead letters are to be done again.
    """
    verb = "replay" if is_replay else "resume"
    look = command_line("diff", pipeline_id, results_dir, options=["--replay"] if is_replay else [])
    called = f"pipeline.{verb}({pipeline_id!r}, on_change='rerun')"
    typed = command_line(verb, pipeline_id, results_dir, options=["--rerun"])
    which = "with the FILE.yaml or module:name and the options that you gave, if any"
    looked = f"pipeline.diff({pipeline_id!r}{', replay=True' if is_replay else ''})"
    return (
        "Do it again, with all behind it: the nodes before it keep their rows, only new "
        f"{'and mended rows are' if is_replay else 'rows are'} done there, and what is there now is kept as an earlier "
        "version: " + advice(called, f"{typed} ({which})") + f"; what it costs: {advice(looked, look)}"
    )


def rows_past_end(uri: str, pipeline_id: str, results_dir: str) -> str:
    """Return what is wrong when rows come to such a node, and what to do.

    Args:
        uri: what the node reads.
        pipeline_id: the run's id; empty for a node that runs by itself.
        results_dir: the folder of the runs.
    """
    if pipeline_id:
        what_to_do = rerun_advice(pipeline_id, results_dir)
    else:
        what_to_do = "Take the rows away; or delete the output, and run the node again"
    return (
        f"{uri} has more rows than when it ended, and what the operator gave at its end (finish) is in the output. "
        f"{what_to_do}"
    )
