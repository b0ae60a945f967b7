"""What an engine has to do, in its worker process. Inherit from `Backend` for a library of your own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What a worker is to load, and how: see `Engine`.

    Attributes:
        model: the model's name, for messages.
        path: where it is: a path of this machine, or a name on a hub.
        calls_at_once: calls that are computed at once.
        context: tokens of prompt and answer together; None: what the model allows.
        threads: processor threads.
        chat_template: makes one text of the messages; None: the model's own.
        options: more settings of the library.
    """

    model: str
    path: str
    calls_at_once: int
    context: int | None
    threads: int
    chat_template: str | None
    options: Mapping[str, Any] = field(default_factory=dict)


class LoadError(Exception):
    """Raised when a model cannot be loaded: says what is wrong, and what to do."""


class CallError(Exception):
    """Raised when a call gets no answer.

    Attributes:
        status: the HTTP status that the failure amounts to: 400 for a request that cannot be, 413 for a prompt that is
            longer than the context, 5xx for a failure of the engine.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Backend(ABC):
    """One model, loaded by one library. All methods run on the event loop of the worker, and must not block it.

    Args:
        settings: what to load, and how.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings

    @abstractmethod
    async def open(self) -> None:
        """Load the model. May block: nothing else happens yet.

        Raises:
            LoadError: when it cannot be loaded.
        """

    @abstractmethod
    async def complete(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the completion of a chat, as OpenAI's API has it: ``choices`` and ``usage``.

        Called for several calls at once, `calls_at_once` of them and more. When the call is given up, the task is
        cancelled.

        Args:
            body: the request, as the same API has it: ``messages`` and what stands in `params`.

        Raises:
            CallError: when there is no answer.
        """

    async def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Release the model. Called once, after the last call."""
