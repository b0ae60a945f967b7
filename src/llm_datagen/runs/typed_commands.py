"""The commands that messages tell people to type for a run: whole, quoted, and with the folder of the run."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import typed_in

RESULTS_VARIABLE = "LLM_DATAGEN_RESULTS"
"""The environment variable with the folder of the runs."""

DEFAULT_RESULTS = "tmp/results"


def default_results() -> str:
    """Return the default folder of the runs on the command line."""
    return os.environ.get(RESULTS_VARIABLE) or DEFAULT_RESULTS


def command_line(
    verb: str, pipeline_id: str, results_dir: str, *, arguments: Sequence[str] = (), options: Sequence[str] = ()
) -> str:
    """Return the command to type for a run.

    It is right where the user types, also when a command has changed to the directory in which the run was started.

    Args:
        verb: the command.
        pipeline_id: the run.
        results_dir: the folder of the runs, or its URI.
        arguments: what comes after the id.
        options: further options, with their values.
    """
    words, chosen = [pipeline_id, *arguments], [*results_option(results_dir), *options]
    if any(word.startswith("-") for word in words):
        return shlex.join(["llm-datagen", verb, *chosen, "--", *words])
    return shlex.join(["llm-datagen", verb, *words, *chosen])


def id_option(pipeline_id: str) -> list[str]:
    """Return the option with which ``run`` is told an id."""
    return [f"--id={pipeline_id}"] if pipeline_id.startswith("-") else ["--id", pipeline_id]


def results_option(results_dir: str) -> list[str]:
    """Return the option that names the folder of the runs; nothing, if it is the default where the user types.

    Args:
        results_dir: the folder; a relative path is relative to the working directory of this process.
    """
    from llm_datagen.runs.results_dir import absolute

    shown = absolute(results_dir)
    if shown == _default_place():
        return []
    here = typed_in()
    return ["--results-dir", results_dir if here in {None, _working_directory()} else shown]


def _default_place() -> str | None:
    """Return where a command looks for runs that is told no folder; None when it would look nowhere."""
    from llm_datagen.runs.results_dir import absolute

    default, here = default_results(), typed_in()
    with contextlib.suppress(ConfigError, OSError):
        return absolute(default if here is None or "://" in default else os.path.join(here, default))  # noqa: PTH118
    return None


def _working_directory() -> str | None:
    with contextlib.suppress(OSError):  # it was removed
        return str(Path.cwd())
    return None
