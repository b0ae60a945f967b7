"""The command line, ``llm-datagen``: run, preview, plan, resume, replay, status, errors, verify, trace, cancel, demo.

Needs the extra ``cli``.

Layout:
    app.py        the program
    commands/     its commands: running, looking, steering
    options.py    arguments and options that several commands have
    spec.py       what a YAML file may say
    problems.py   what is wrong with a YAML file, and where
    loading.py    from ``module:attr`` to what it names, and from YAML to operators
    target.py     from a file or ``module:attr`` to a pipeline
    origin.py     where a run came from, kept beside its run state for ``resume``
    execute.py    run or resume a pipeline, watched
    trying.py     some rows through a pipeline, in a folder of its own
    preview.py    show prompts and answers of some rows
    plan.py       show what a run will use
    projection.py from what some rows used to what all will
    resume.py     find a run and where it came from, and run it: resume, replay
    output.py     what the commands print, escaped
    runs.py       the runs that there are, and how they really are
    status.py     show runs, once or again and again
    letters.py    show dead letters
    account.py     recount a run
    tracing.py    show what became of a row
    cancel.py     cancel a run of another process
    failing.py    from an exception to a message and an exit code
    demo.py       the demo, watched and started afresh

Exit codes: 0 completed, 1 failed or not completed, 2 wrong usage or settings, 3 stopped by an operator or a
budget, 130 after Ctrl+C, 143 after SIGTERM.
"""

from __future__ import annotations

import sys

_EXTRA = frozenset({"typer", "rich", "pydantic", "yaml"})


def main() -> None:
    """Run the command line of this process. The entry point of ``llm-datagen``.

    Raises:
        SystemExit: always, with the exit code.
    """
    try:
        from llm_datagen.cli.app import app
        from llm_datagen.cli.output import keep_output_from_failing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(
            f"llm-datagen: the command line needs {error.name}; install it with: pip install 'llm-datagen[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    keep_output_from_failing()
    app()
