"""The command line, ``llm-datagen``: run, preview, plan, resume, replay, status, errors, verify, trace, cancel, demo.

Needs the extra ``cli``.

Layout:
    app.py          the program
    commands/       its commands. Each imports its work when it is called
    lazy_commands.py  imports the module of the command that is asked for, and no other
    options.py      arguments and options that several commands have
    output.py       what the commands print, escaped
    exit_codes.py   from an exception to a message and an exit code

    target.py       from a YAML file or ``module:name`` to a pipeline
    yaml_load.py    a YAML file as it is read, with its lines
    yaml_spec.py    what a YAML file may say: a line of operators
    yaml_nodes.py   and a graph of nodes; yaml_parts.py what both have
    yaml_wires.py   what the nodes of a file read and write, and whether it fits together
    yaml_graph.py   from a file to nodes
    yaml_errors.py  what is wrong with a YAML file
    yaml_schema.py  the JSON Schema of files; setting_schema.py that of a setting
    modules.py      the modules that a run needs: where they are, and when to import them
    run_view.py     runs as lines of text; run_table.py as tables

    execute.py      run a pipeline with a display
    resume.py       resume, replay
    sharded.py      the same in shards; gather.py makes the shards one run
    budget.py       a budget for a resume
    detach.py       runs that end when all rows wait in jobs
    otel.py         runs told to OpenTelemetry
    preview_run.py  some rows through a pipeline, in a temporary folder: for preview and plan
    preview.py      prompts and answers of some rows
    plan.py         what a run will use; projection.py computes it from some rows, with the errors of estimate.py
    status.py       how runs stand, once or again and again
    jobs.py         the jobs of a run at batch APIs
    dead_letters.py rows that failed, by node and cause
    verify.py       a run, recounted from its files
    trace.py        what became of a row
    call_lines.py   a model call in lines
    compare.py      two runs side by side; diff.py what a resume would do
    report.py       the report of a run; export_view.py its exports
    logs.py         platform.log
    demo/           the demo
    recipes/        ready recipes

Exit codes: 0 completed, 1 failed or not completed, 2 wrong usage or settings, 3 stopped by an operator or a
budget, 130 after Ctrl+C, 143 after SIGTERM.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

_EXTRA = ("typer", "rich", "pydantic", "yaml")


def main() -> None:
    """Run the command line of this process. The entry point of ``llm-datagen``.

    Raises:
        SystemExit: always, with the exit code.
    """
    missing = next((name for name in _EXTRA if find_spec(name) is None), None)
    if missing is not None:
        print(
            f"llm-datagen: the command line needs {missing}; install it with: pip install 'llm-datagen[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(2)
    from llm_datagen.cli.app import app
    from llm_datagen.cli.output import keep_output_from_failing

    keep_output_from_failing()
    app()
