"""A job: what one measured process does."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

What = Literal["plain", "engine", "datatrove", "begin", "resume", "bare", "import", "first_row"]


class UnsupportedError(Exception):
    """Raised when this revision, or this machine, cannot do a job: it is skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one process does.

    Attributes:
        what: "plain": the plain loop. "engine", "datatrove": the pipeline. "begin": the engine, cancelled at the row
            `stop_at`. "resume": the engine, going on from there. "bare": nothing. "import": import the engine.
            "first_row": a small pipeline; what is measured is when its first row is on disk.
        input: the file with the rows.
        folder: where to work: results, run states and logs.
        operators: names in `operators.OPERATORS`, in order.
        settings: of the engine's pipeline.
        stop_at: the row at which "begin" stops.
        has_workers: whether it starts processes, whose memory and processor time count too.
    """

    what: What
    input: str = ""
    folder: str = ""
    operators: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    stop_at: int = 0
    has_workers: bool = False

    @property
    def output(self) -> Path:
        """The result."""
        return Path(self.folder, f"out{Path(self.input).suffix}")

    def as_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the job that `as_json` wrote."""
        value = json.loads(text)
        value["operators"] = tuple(value["operators"])
        return cls(**value)
