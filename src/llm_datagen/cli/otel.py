"""The options of ``--otel``: a run is told to OpenTelemetry, and what goes wrong there is said in a line at its end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from llm_datagen.cli.output import write
from llm_datagen.runs.hooks import IPipelineHooks


@dataclass(frozen=True, slots=True)
class OtelOptions:
    """What the command line says of OpenTelemetry.

    Attributes:
        is_on: whether it is told of the run.
        calls: the share of calls that get a span.
    """

    is_on: bool = False
    calls: float = 1.0


NO_OTEL = OtelOptions()


@contextlib.contextmanager
def otel_hooks(options: OtelOptions) -> Iterator[list[IPipelineHooks]]:
    """Yield the hooks that tell OpenTelemetry of a run; none, if they are not wanted. Behind the block, all is sent.

    Raises:
        ConfigError: when the extra is not installed, or the environment names no exporter that there is.
    """
    if not options.is_on:
        yield []
        return
    from llm_datagen.telemetry import OpenTelemetry

    with _complaints() as complaints:
        hooks = OpenTelemetry(calls=options.calls)
        try:
            yield [hooks]
        finally:
            is_sent = hooks.close()
            if not is_sent:
                complaints.append("the last spans and metrics were not sent in time")
            if complaints:
                more = f" (and {len(complaints) - 1} more messages)" if len(complaints) > 1 else ""
                write(f"  warning OpenTelemetry: {complaints[0]}{more}")


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """Yield what OpenTelemetry complains of, which would else be written into the table of the run."""
    found: list[str] = []
    handler, logger = _Keeping(found), logging.getLogger("opentelemetry")
    passes_on, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = passes_on


class _Keeping(logging.Handler):
    """Keeps messages.

    Args:
        found: gets them.
    """

    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message, in one line."""
        self._found.append(" ".join(record.getMessage().split()))
