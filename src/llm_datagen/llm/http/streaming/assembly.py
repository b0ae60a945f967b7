"""How an API streams its answers, and what puts the events of one together."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from llm_datagen.llm.http.body import parsed_event
from llm_datagen.llm.http.error_meaning import error_in
from llm_datagen.llm.http.streaming.frames import Event, Frames, SseFrames
from llm_datagen.llm.http.streaming.options import Stream

_DONE = b"[DONE]"


class Assembler(ABC):
    """Puts the events of one streamed answer together, into the body that the API sends when it does not stream.

    Attributes:
        is_over: whether the last event has come: what follows belongs to no answer.
        error: the body of the failure that came in place of the rest; None for none.
    """

    is_over: bool = False
    error: Mapping[str, Any] | None = None

    def take(self, event: Event) -> int:
        """Take the next event.

        Returns:
            How many bytes of the answer it brought; 0 when it is no piece of it.

        Raises:
            LookupError, TypeError, AttributeError, ValueError: when it cannot be read.
        """
        if event.data.strip() == _DONE:
            self.done()
            return 0
        if event.name == "error":
            self.error = _error_of(event.data)
            return 0
        data = parsed_event(event.data)
        if error_in(data) is not None:
            self.error = data
            return 0
        return self.add(event.name, data)

    @property
    @abstractmethod
    def is_whole(self) -> bool:
        """Whether the answer is a whole one if the stream ends here, in good order."""

    @abstractmethod
    def add(self, name: str, data: Any) -> int:
        """Take the JSON of an event that is no failure; see `take`. One of an unknown kind says nothing."""

    @abstractmethod
    def body(self) -> Any:
        """Return the body."""

    def done(self) -> None:  # noqa: B027 - most APIs say nothing by it
        """Take a ``[DONE]``."""


class Streaming(ABC):
    """How an API streams its answers. An instance may serve many calls at once.

    Attributes:
        frames: makes what makes events of bytes.
    """

    frames: Callable[[], Frames] = SseFrames

    def path(self, path: str) -> str:
        """Return the path of a call whose answer is streamed, by that of one whose answer is not."""
        return path

    def body(self, body: Mapping[str, Any], options: Stream) -> Mapping[str, Any]:
        """Return the body of a call whose answer is streamed, by that of one whose answer is not."""
        return {**body, "stream": True}

    def reads(self, content_type: str) -> bool:
        """Return whether a response is a stream. Some servers do not stream, whatever they are asked for.

        Args:
            content_type: of the response, in small letters.
        """
        return not content_type.startswith(("application/json", "text/html"))

    @abstractmethod
    def assembler(self) -> Assembler:
        """Return what puts the events of one answer together."""


def size_of(text: Any) -> int:
    """Return the bytes of a text; 0 of what is none."""
    if not isinstance(text, str):
        return 0
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def put_together(pieces: list[Any]) -> Any:
    """Return the arguments of a tool, which came as pieces of JSON; as text, when they are no JSON."""
    text = "".join(pieces)
    try:
        return json.loads(text) if text.strip() else {}
    except ValueError:
        return text


def _error_of(content: bytes) -> Mapping[str, Any]:
    """Return an event of the name ``error`` as the body of a failure."""
    try:
        data = parsed_event(content)
    except ValueError:
        return {"error": {"message": content.decode(errors="replace")}}
    found = error_in(data)
    return {"error": data or "no reason given"} if found is None else dict(data)
