"""From an exception to a message and an exit code."""

from __future__ import annotations

import contextlib
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import typer

import llm_datagen
from llm_datagen.errors import (
    ConfigError,
    DatagenError,
    LeaseLostError,
    PipelineBusyError,
    PipelineExistsError,
    PipelineNotFoundError,
)
from llm_datagen.errors.advice import as_typed, typed

if TYPE_CHECKING:
    from llm_datagen.runs.status import Status

FAILED = 1
WRONG_USAGE = 2
STOPPED = 3
SHORT = 4
TAKEN_OVER = 5
INTERRUPTED = 130

_WRONG_USAGE = (ConfigError, PipelineExistsError, PipelineNotFoundError, PipelineBusyError)

_OURS = str(Path(llm_datagen.__file__).parent)
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")


def exit_code_of(status: Status, *, is_short: bool = False, has_unfit: bool = False) -> int:
    """Return the exit code for how a run ended.

    Args:
        status: its status.
        is_short: whether its input ended before its target was met.
        has_unfit: whether rows did not fit into one of its exports, so that a file lacks them.
    """
    from llm_datagen.runs.status import Status

    if has_unfit and status is Status.COMPLETED:
        return FAILED
    if status is Status.COMPLETED and is_short:
        return SHORT
    return {Status.COMPLETED: 0, Status.STOPPED: STOPPED}.get(status, FAILED)


@contextlib.contextmanager
def exit_codes(*, full_traceback: bool = False) -> Iterator[None]:
    """Turn exceptions within the block into a message on standard error, and an exit code.

    Args:
        full_traceback: whether to print whole tracebacks.

    Raises:
        typer.Exit: with the exit code.
    """
    try:
        with typed():
            yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except DatagenError as error:
        if full_traceback:
            say_error("".join(traceback.format_exception(error)).rstrip(), title="")
        else:
            cause = error.__cause__
            say_error(as_typed(str(error)))
            if cause is not None and not isinstance(cause, DatagenError):
                lines = users_traceback(cause)
                is_said = str(cause) in str(error)
                if isinstance(error, ConfigError) and is_said and not _passes_users_files(cause):
                    lines = lines[-1:]  # how a library found the wrong setting helps nobody
                if len(lines) > 1 or not is_said:  # else nothing that was not said
                    say_error("".join(lines).rstrip(), title="")
        raise typer.Exit(_exit_code_for(error)) from None


def _exit_code_for(error: DatagenError) -> int:
    if isinstance(error, LeaseLostError) or isinstance(error.__cause__, LeaseLostError):
        return TAKEN_OVER  # another process goes on with it: nothing is wrong, and nothing to be done again
    return WRONG_USAGE if isinstance(error, _WRONG_USAGE) else FAILED


def say_error(text: str, *, title: str = "Error: ") -> None:
    """Write a message to standard error."""
    from rich.text import Text

    from llm_datagen.runs.display.console import SafeConsole

    SafeConsole(file=sys.stderr).print(Text.assemble((title, "bold red"), text), soft_wrap=True)


def users_traceback(error: BaseException) -> list[str]:
    """Return the traceback of `error` without frames of the engine, the interpreter or the importer.

    It begins with the first frame of the user's, and keeps all that this one called.
    """
    frame = error.__traceback__
    while frame is not None and not _is_the_users(frame):
        frame = frame.tb_next
    return traceback.format_exception(type(error), error, frame, chain=False)


def _passes_users_files(error: BaseException) -> bool:
    """Return whether a traceback leads through code that was not installed."""
    frame = error.__traceback__
    while frame is not None:
        path = frame.tb_frame.f_code.co_filename
        if (
            _is_the_users(frame)
            and not path.startswith("<")
            and "site-packages" not in path
            and "dist-packages" not in path
        ):
            return True
        frame = frame.tb_next
    return False


def _is_the_users(frame: TracebackType) -> bool:
    path = frame.tb_frame.f_code.co_filename
    if path.startswith(("<frozen", _OURS)):
        return False
    # Installed packages lie within the standard library's folder, and are the user's.
    return "site-packages" in path or "dist-packages" in path or not path.startswith(_STANDARD_LIBRARY)
