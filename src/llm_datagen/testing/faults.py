"""Faults as data: what goes wrong, where, and at which hit. JSON passes them to another process."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Literal, Self, get_args

from llm_datagen.config import check_choice, check_count, check_seconds, check_text, check_whole
from llm_datagen.errors import ConfigError

ENV = "LLM_DATAGEN_FAULTS"
"""The environment variable that `inject_from_env` reads. The engine does not read it."""

Operation = Literal["*", "open", "lock", "read", "write", "fsync", "truncate", "rename", "link", "remove", "mkdir"]
OPERATIONS: tuple[str, ...] = get_args(Operation)[1:]
"""The steps of the disk. "fsync" is of files and folders; "rename" and "link" have the path of the new name."""

Action = Literal["kill", "tear", "raise", "delay"]
When = Literal["before", "after"]
ErrorName = Literal["ENOSPC", "EIO", "EACCES", "EROFS"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong at a failpoint, which is an operation on a path.

    Attributes:
        operation: one of `OPERATIONS`; "*" is any.
        path: a glob that the whole path must match, such as "*.commits", "*.done.tmp" or "*/runtime.json". A file that
            is replaced is written as ``<path>.tmp`` and then renamed to its path.
        hit: at which matching hit it goes wrong, from 1.
        times: at how many hits from then on; None is all of them.
        action: "kill": SIGKILL to the own process. "tear": only the first `keep` bytes are written, then the process
            is killed, or `error` raised if there is one; a step that writes nothing is taken before that. "raise":
            `error` is raised. "delay": the step takes `seconds` longer.
        when: whether it goes wrong before or after the step was taken (for "kill" and "raise").
        keep: bytes that a torn write leaves.
        error: the name of the error, such as "ENOSPC".
        seconds: how long a delay is.

    Raises:
        ConfigError: on a wrong value.
    """

    operation: Operation = "*"
    path: str = "*"
    hit: int = 1
    times: int | None = 1
    action: Action = "kill"
    when: When = "before"
    keep: int = 0
    error: ErrorName | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        check_choice("operation", self.operation, Operation)
        check_text("path", self.path)
        check_choice("action", self.action, Action)
        check_choice("when", self.when, When)
        check_count("hit", self.hit)
        check_whole("keep", self.keep)
        if self.times is not None:
            check_count("times", self.times)
        if self.error is not None:
            check_choice("error", self.error, ErrorName)
        if self.action == "raise" and self.error is None:
            raise ConfigError('a fault with action="raise" must say which error, such as error="ENOSPC"')
        if self.action == "delay":
            check_seconds("seconds", self.seconds)

    def matches(self, operation: str, path: str) -> bool:
        """Return whether a failpoint is one where this may go wrong."""
        return self.operation in {"*", operation} and fnmatchcase(path, self.path)

    def is_due(self, hit: int) -> bool:
        """Return whether it goes wrong at this hit."""
        return hit >= self.hit and (self.times is None or hit < self.hit + self.times)

    def errno(self) -> int:
        """Return the number of the error."""
        return int(getattr(errno, self.error or "EIO"))


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Faults that are active together. Each counts its own hits.

    Attributes:
        faults: the faults; where several are due at one hit, they come in this order.
    """

    faults: tuple[Fault, ...] = ()

    @classmethod
    def of(cls, value: FaultPlan | Fault | None) -> FaultPlan:
        """Return a plan as it is, or the plan of one fault, or an empty one."""
        if isinstance(value, FaultPlan):
            return value
        return cls() if value is None else cls((value,))

    def to_json(self) -> str:
        """Return the plan as text, for a file or an environment variable."""
        return json.dumps({"faults": [asdict(fault) for fault in self.faults]})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the plan from the text of `to_json`.

        Raises:
            ConfigError: when it is not one.
        """
        try:
            value = json.loads(text)
            return cls(tuple(Fault(**fault) for fault in value["faults"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"this is not a fault plan: {error!r}: {text[:200]!r}") from error

    def as_env(self) -> Mapping[str, str]:
        """Return the environment variable that passes the plan to a process that calls `inject_from_env`."""
        return {ENV: self.to_json()}
