"""platform.log: one JSON object a line, for people with grep and for programs (M28).

Built with structlog, rendered with orjson, without touching structlog's or logging's global configuration. A line is
one write to a file opened for appending, so that several pipelines, and processes, can share a file without tearing
lines. Events are constants; rows and secrets are never logged.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Any, Protocol

import orjson

from llm_datagen.errors import DiskError

DEFAULT_LOG = "logs/platform.log"

# The events. docs/reference.md describes their fields.
RUN_STARTED = "[Run Started]"
RUN_ENDED = "[Run Ended]"
CANCEL = "[Cancel]"
PAUSED = "[Paused]"
UNPAUSED = "[Unpaused]"
RECONFIGURED = "[Reconfigured]"
REFUSED = "[Refused]"
NODE_STARTED = "[Node Started]"
NODE_ENDED = "[Node Ended]"
NODE_FAILED = "[Node Failed]"
ROW_FAILED = "[Row Failed]"
STALLED = "[Stalled]"
GRACE_OVER = "[Grace Over]"
BACKPRESSURE = "[Backpressure]"
BACKPRESSURE_OVER = "[Backpressure Over]"
EOF_RETRY = "[EOF Retry]"
EOF_WAITING = "[EOF Waiting]"
HOOK_FAILED = "[Hook Failed]"
OPERATOR_LOG = "[Operator]"
TEARDOWN_FAILED = "[Teardown Failed]"


class PlatformLog(Protocol):
    """Where events go. Safe to use from any thread; never raises."""

    def info(self, event: str, **fields: Any) -> Any:
        """Log that something happened."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Log that something needs attention."""

    def error(self, event: str, **fields: Any) -> Any:
        """Log that something failed."""

    def bind(self, **fields: Any) -> PlatformLog:
        """Return a log that adds `fields` to every line."""

    def close(self) -> None:
        """Close the file."""


class _Lines:
    """A file to which lines are appended, each in one write."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            what = f"the platform log cannot be written (log_file=None turns it off): {error.strerror}"
            raise DiskError(error.errno, what, str(path)) from error

        self._lock = threading.Lock()  # no line may go to a number that was closed, and is another file's now

    def msg(self, line: bytes) -> None:
        # A full disk must not end a run because of its log.
        with self._lock, contextlib.suppress(OSError):
            os.write(self._fd, line + b"\n")

    debug = info = warning = error = critical = msg

    def close(self) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)


class _FileLog:
    def __init__(self, lines: _Lines, logger: Any) -> None:
        self._lines = lines
        self._logger = logger

    def info(self, event: str, **fields: Any) -> None:
        self._logger.info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._logger.warning(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        self._logger.error(event, **fields)

    def bind(self, **fields: Any) -> PlatformLog:
        return _FileLog(self._lines, self._logger.bind(**fields))

    def close(self) -> None:
        self._lines.close()


class NullLog:
    """A log that keeps nothing."""

    def info(self, event: str, **fields: Any) -> None:
        """Do nothing."""

    def warning(self, event: str, **fields: Any) -> None:
        """Do nothing."""

    def error(self, event: str, **fields: Any) -> None:
        """Do nothing."""

    def bind(self, **fields: Any) -> PlatformLog:
        """Return itself."""
        return self

    def close(self) -> None:
        """Do nothing."""


def open_log(path: str | os.PathLike[str] | None) -> PlatformLog:
    """Open a platform log.

    Args:
        path: the file, relative to the working directory of this moment; None for no log.

    Raises:
        DiskError: when the file cannot be opened.
    """
    if path is None:
        return NullLog()
    import structlog

    lines = _Lines(Path(path))
    logger = structlog.wrap_logger(
        lines,
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return _FileLog(lines, logger)


def _dumps(value: Any, **_: Any) -> bytes:
    try:
        return orjson.dumps(value, default=str)
    except TypeError:  # a number past 64 bits, a lone surrogate: a line in the log is nothing to fail of
        return orjson.dumps({str(name): _as_json(field) for name, field in value.items()})


def _as_json(field: Any) -> Any:
    try:
        orjson.dumps(field)
    except TypeError:
        return ascii(field) if isinstance(field, str | int | float) else f"<{type(field).__name__}>"
    return field
