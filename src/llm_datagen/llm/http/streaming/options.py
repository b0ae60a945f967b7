"""What a user says of answers that are streamed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_datagen.config import check_flag, check_seconds, object_of, refuses_unknown


@refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """How long a streamed answer may be silent. What a call may take in all is the `timeout` of the operator.

    A token is a piece of the answer: of its text, its thoughts, or a call of a tool. What only keeps the connection
    open is none.

    Attributes:
        first_token_timeout: seconds from the call to the first token; None: as long as the call may take.
        token_timeout: seconds from one token to the next; None: as long as the call may take.
        asks_usage: whether chat completions are asked for the counts of tokens (``stream_options``), without which
            many servers send none. A server that refuses the question needs False; then nothing is known of the cost.

    Raises:
        ConfigError: on a wrong value.
    """

    first_token_timeout: float | None = None
    token_timeout: float | None = None
    asks_usage: bool = True

    def __post_init__(self) -> None:
        for name in ("first_token_timeout", "token_timeout"):
            if getattr(self, name) is not None:
                check_seconds(f"stream[{name!r}]", getattr(self, name))
        check_flag("stream['asks_usage']", self.asks_usage)

    @classmethod
    def of(cls, given: bool | Stream | Mapping[str, Any]) -> Stream | None:
        """Return what a user gave: True, a `Stream`, or a dict with the names of its attributes; None for False.

        Raises:
            ConfigError: when it is none of these.
        """
        if given is False:
            return None
        return cls() if given is True else object_of(cls, "stream", given)
