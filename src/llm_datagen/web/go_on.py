"""Going on with a run that has ended, in a process of its own, which stays when the server ends.

It is ``llm-datagen resume`` or ``replay``, as it would be typed. As a program, ``python -m llm_datagen.web.go_on
RESULTS_DIR ID COMMAND…``, this waits until nobody has the run, and becomes that command.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO

from llm_datagen.errors import ConfigError, ControlError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.origin import origin_of
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.runs.versions import refuse_earlier
from llm_datagen.shards.run_view import read_run

TOKEN_VARIABLE = "LLM_DATAGEN_UI_TOKEN"

_PYTHON = [sys.executable, "-P", "-m"]
_START_SECONDS = 15.0
_LOOK_SECONDS = 0.05
_WAIT_SECONDS = 0.2
_LAST_BYTES = 2000

_started: list[subprocess.Popen[bytes]] = []


def go_on(folder: RunFolder, verb: str, options: Sequence[str] = (), *, after_end: bool = False) -> str:
    """Start a process that goes on with a run; return what happened, in a sentence. Blocks until it has begun.

    Args:
        folder: the run's folder.
        verb: "resume" or "replay".
        options: the options of that command, with their values.
        after_end: whether to wait until the process has ended that runs it now.

    Raises:
        PipelineNotFoundError: when there is no such run.
        ConfigError: when it is an earlier version, or it is not known where its operators come from.
        ControlError: when a process runs it, or the new one has failed before it had the run.
    """
    run = read_run(folder)
    refuse_earlier(run.state, verb)
    refuse_unknown_origin(folder, verb)
    if run.is_live and not after_end:
        raise ControlError(f"run {folder.pipeline_id!r} is running: there is nothing to {verb}")
    command = ["llm_datagen.cli", verb, "--results-dir", folder.results_dir, *options, "--", folder.pipeline_id]
    if after_end:
        command = ["llm_datagen.web.go_on", folder.results_dir, folder.pipeline_id, *command]
    with tempfile.TemporaryFile() as output:  # it is gone when the process is
        process = subprocess.Popen(
            [*_PYTHON, *command],
            env={name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _started[:] = [*(other for other in _started if other.poll() is None), process]
        return _beginning(folder, verb, process, output)


def refuse_unknown_origin(folder: RunFolder, verb: str) -> None:
    """Refuse to go on with a run of which nobody has noted what it was started with.

    Raises:
        ConfigError: saying what to type.
    """
    if origin_of(folder) is None:
        typed = command_line(verb, folder.pipeline_id, folder.results_dir, arguments=["FILE.yaml"])
        raise ConfigError(
            f"run {folder.pipeline_id!r} was not started with `llm-datagen run`, so where its operators come from is "
            f"not known here: go on in the program that made it; or type {typed} (or module:name)"
        )


def _beginning(folder: RunFolder, verb: str, process: subprocess.Popen[bytes], output: IO[bytes]) -> str:
    """Wait until a process has the run, or has ended."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        code = process.poll()
        owner = folder.lock.owner()
        if code is None and owner is not None and owner.pid == process.pid and folder.lock.is_held():
            return f"{verb}: process {process.pid} goes on with it"
        if code is not None:
            said = _said(output)
            if code == 0:
                return f"{verb}: it has ended: {read_run(folder).status}. {said[-1] if said else ''}".rstrip()
            raise ControlError(f"llm-datagen {verb} has ended with code {code}: {' '.join(said)}")
        time.sleep(_LOOK_SECONDS)
    return f"{verb}: process {process.pid} was started, and goes on with it as soon as it can"


def _said(output: IO[bytes]) -> list[str]:
    """Return the last lines that a process has printed."""
    output.seek(max(0, output.seek(0, os.SEEK_END) - _LAST_BYTES))
    return [line.strip() for line in output.read().decode(errors="replace").splitlines() if line.strip()]


def main() -> None:
    """Wait until nobody has a run, and become a command."""
    results_dir, pipeline_id, *command = sys.argv[1:]
    folder = RunFolder(results_dir, pipeline_id)
    while folder.lock.is_held():
        time.sleep(_WAIT_SECONDS)
    os.execv(sys.executable, [*_PYTHON, *command])


if __name__ == "__main__":
    main()
