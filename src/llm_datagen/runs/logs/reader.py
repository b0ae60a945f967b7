"""The events of a platform log, in written order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from llm_datagen.errors import ConfigError, DiskError
from llm_datagen.runs.logs import events
from llm_datagen.streams.formats.json_text import loads_exactly

EVENTS: tuple[str, ...] = tuple(
    value for name, value in vars(events).items() if name.isupper() and str(value).startswith("[")
)
"""All events that there are."""

_COMMON = ("event", "level", "timestamp", "pipeline_id", "run", "node_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """A line of the log.

    Attributes:
        event: what happened, such as ``"[Backpressure]"``; docs/reference/log.md has all.
        at: when.
        level: ``"info"``, ``"warning"`` or ``"error"``.
        pipeline_id: the pipeline's id; empty for a node by itself.
        run: which run of it; empty when the line does not say.
        node_id: the node; empty when it is about the whole run.
        fields: its other fields.
        line: the line itself, JSON, without its end.
    """

    event: str
    at: datetime
    level: str = "info"
    pipeline_id: str = ""
    run: str = ""
    node_id: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    line: bytes = field(default=b"", repr=False)


def read(
    path: str | os.PathLike[str],
    *,
    pipeline_id: str | None = None,
    event: str | Iterable[str] | None = None,
    node: str | None = None,
    since: datetime | None = None,
    on_unreadable: Callable[[bytes], object] | None = None,
) -> Iterator[LogEvent]:
    """Read a log with its rotated files (``<path>.1`` and so on), the oldest first, a line at a time.

    All files are opened at the start. Lines that are written meanwhile may be read or not, but none is read twice. The
    files are closed when the iterator has ended or is closed.

    Args:
        path: the log.
        pipeline_id: only events of this pipeline.
        event: only these events: a name, or several, with or without the brackets, in upper or lower case.
        node: only events of this node.
        since: only events from then on; a time without a zone is local time.
        on_unreadable: called with each line that is no event: torn by the death of a process or a full disk, or written
            by another program. They are left out.

    Raises:
        ConfigError: when there is no such event.
        DiskError: when there is no log, or it cannot be read.
    """
    wanted = None if event is None else {event_of(name) for name in ([event] if isinstance(event, str) else event)}
    since = since.astimezone(UTC) if since is not None else None
    return _chosen(open_all(Path(path)), pipeline_id, wanted, node, since, on_unreadable)


def event_of(name: str) -> str:
    """Return the event of a name: ``backpressure`` is ``[Backpressure]``.

    Raises:
        ConfigError: when there is none.
    """
    bare = name.strip().strip("[]").casefold()
    for known in EVENTS:
        if known.strip("[]").casefold() == bare:
            return known
    raise ConfigError(f"the log has no event {name!r}; known are {', '.join(known.strip('[]') for known in EVENTS)}")


def _chosen(
    files: list[BinaryIO],
    pipeline_id: str | None,
    wanted: set[str] | None,
    node: str | None,
    since: datetime | None,
    on_unreadable: Callable[[bytes], object] | None,
) -> Iterator[LogEvent]:
    with contextlib.ExitStack() as opened:
        for file in files:
            opened.enter_context(file)
        for file in files:
            for line in file:
                found = parsed(line)
                if found is None:
                    if on_unreadable is not None and line.strip():
                        on_unreadable(line)
                elif (
                    (wanted is None or found.event in wanted)
                    and (pipeline_id is None or found.pipeline_id == pipeline_id)
                    and (node is None or found.node_id == node)
                    and (since is None or found.at >= since)
                ):
                    yield found


def may_be_log(head: bytes) -> bool:
    """Return whether a file may be a log, by its beginning: some line is an event, or its only line is torn."""
    lines = head.split(b"\n")
    if not head.strip() or any(map(parsed, lines)):
        return True
    try:
        loads_exactly(head)
    except ValueError:
        return len(lines) == 1 and head.startswith(b'{"')
    return False


def parsed(line: bytes) -> LogEvent | None:
    """Return the event of a line; None when it is none."""
    try:
        fields = loads_exactly(line)
        event, at = fields["event"], datetime.fromisoformat(fields["timestamp"])
    except (ValueError, LookupError, TypeError):
        return None
    common = {name: str(fields[name]) for name in ("level", "pipeline_id", "run", "node_id") if name in fields}
    own = {name: value for name, value in fields.items() if name not in _COMMON}
    return LogEvent(event=str(event), at=at.astimezone(UTC), fields=own, line=line.rstrip(b"\n"), **common)


def open_all(path: Path) -> list[BinaryIO]:
    """Open the log and its rotated files; return them with the oldest first.

    The newest is opened first: a file that is rotated meanwhile is found again under its next name, and taken once.
    """
    files: dict[tuple[int, int], BinaryIO] = {}
    try:
        for name in (path, *_rotated(path)):
            with contextlib.suppress(FileNotFoundError):
                file: BinaryIO = name.open("rb")
                found = os.fstat(file.fileno())
                if (found.st_dev, found.st_ino) in files:
                    file.close()
                else:
                    files[found.st_dev, found.st_ino] = file
        if not files:
            raise FileNotFoundError(2, "there is no such file", str(path))
    except OSError as error:
        for file in files.values():
            file.close()
        raise DiskError(error.errno, f"the platform log cannot be read: {error.strerror}", str(path)) from error
    return list(files.values())[::-1]


def _rotated(path: Path) -> list[Path]:
    """Return the rotated files, the newest first; and one more name, for a rotation that comes now."""
    ends = [name.name.removeprefix(f"{path.name}.") for name in path.parent.glob(f"{_escaped(path.name)}.*")]
    last = max((int(end) for end in ends if end.isdecimal()), default=0)
    return [path.with_name(f"{path.name}.{number}") for number in range(1, last + 2)]


def _escaped(name: str) -> str:
    import glob

    return glob.escape(name)
