"""platform.log: one JSON object per line, for grep and for programs (M28).

Built with structlog, rendered with orjson, without touching structlog's or logging's global configuration. Several
pipelines, and processes, can share a file (`rotation.py`). Events are constants; rows and secrets are never logged.
`llm_datagen.logs` reads it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Protocol, cast

from llm_datagen.config import check_local_path
from llm_datagen.errors import ConfigError
from llm_datagen.errors.escape import escape_json
from llm_datagen.runs.logs.rotation import Lines, LogFile
from llm_datagen.streams.formats.json_text import dumps

DEFAULT_LOG = "logs/platform.log"


class Logger(Protocol):
    """A logger of the host's own, as structlog makes them. Called from any thread."""

    def info(self, event: str, **fields: Any) -> Any:
        """Log that something happened."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Log that something needs attention."""

    def error(self, event: str, **fields: Any) -> Any:
        """Log that something failed."""

    def bind(self, **fields: Any) -> Any:
        """Return a logger that adds `fields` to every line."""


LogTarget = str | os.PathLike[str] | Logger | None
"""Where the platform log goes: a file (a path, or a `LogFile`), a logger of the host's own, or nowhere."""


class PlatformLog(Protocol):
    """Where events go. Safe to use from any thread; never raises."""

    @property
    def path(self) -> str | None:
        """The file, absolute; None when there is none."""

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


class _FileLog:
    def __init__(self, lines: Lines, logger: Any) -> None:
        self._lines = lines
        self._logger = logger

    @property
    def path(self) -> str:
        return str(self._lines.path)

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


class _HostsLog:
    """Hands events to the host's logger. Its errors are ignored: a run must not fail because of its log."""

    path = None
    """There is no file that is known."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def info(self, event: str, **fields: Any) -> None:
        with contextlib.suppress(Exception):
            self._logger.info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        with contextlib.suppress(Exception):
            self._logger.warning(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        with contextlib.suppress(Exception):
            self._logger.error(event, **fields)

    def bind(self, **fields: Any) -> PlatformLog:
        return _HostsLog(self._logger.bind(**fields))

    def close(self) -> None:
        """Do nothing: it is the host's."""


class NullLog:
    """A log that keeps nothing."""

    path = None
    """There is no file."""

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


def check_log(target: Any) -> LogTarget:
    """Return `target`.

    Raises:
        ConfigError: when it is neither a path of this machine, a `LogFile`, a logger nor None.
    """
    is_logger = all(callable(getattr(target, name, None)) for name in ("bind", "info", "warning", "error"))
    if isinstance(target, str | os.PathLike):
        check_local_path("log_file", os.fspath(target))
        return cast(LogTarget, target)
    if target is None or is_logger:
        return cast(LogTarget, target)
    raise ConfigError(
        f"log_file must be a path, a LogFile, a logger with bind, info, warning and error (structlog's), or None, not "
        f"{target!r}"
    )


def open_log(target: LogTarget) -> PlatformLog:
    """Open a platform log.

    Args:
        target: the file, relative to the working directory of this moment, or a `LogFile`; a logger of the host's own;
            None for no log.

    Raises:
        DiskError: when the file cannot be opened.
    """
    if target is None:
        return NullLog()
    if not isinstance(target, str | os.PathLike):
        return _HostsLog(target)
    import structlog

    lines = Lines(target if isinstance(target, LogFile) else LogFile(target))
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
        line = dumps(value, default=str)
    except TypeError:  # a number past 64 bits, a lone surrogate: a run must not fail because of its log
        line = dumps({str(name): _as_json(field) for name, field in value.items()})
    return escape_json(line.decode()).encode()  # people read logs in terminals


def _as_json(field: Any) -> Any:
    try:
        dumps(field)
    except TypeError:
        return ascii(field) if isinstance(field, str | int | float) else f"<{type(field).__name__}>"
    return field
