"""Faults and latency of a fake endpoint: drawn from the seed and the request, never from the clock."""

from __future__ import annotations

from dataclasses import dataclass, fields
from hashlib import blake2b

from llm_datagen.errors import ConfigError

_UNIT = float(1 << 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMFaults:
    """Shares of the calls that go wrong, each from 0 to 1, together at most 1.

    Attributes:
        rate_limit: answered with 429 at once.
        server_error: answered with 500.
        reset: the connection is reset in place of an answer.
        truncated: half of the answer's bytes, then the connection closes.
        malformed: a whole response with status 200 whose body is not JSON.
        cut_off: a whole answer with half of its text and ``finish_reason`` ``length``.
        late_error: an error with status 200, in place of the answer; of one that is streamed, after half of it.
        stalled: nothing comes until the client goes away; of an answer that is streamed, half of it comes before.
        too_few: of embeddings and reranking, as the next ones: an answer that leaves out one of the texts.
        too_many: an answer with one vector, or score, more than there are texts.
        twice: an answer that gives an ``index`` twice.
        reordered: a right answer in another order, which its ``index`` tells.
        not_a_number: an answer with ``NaN``.
        wrong_length: vectors with one number too many.
        retry_after: seconds, the ``Retry-After`` of a 429; None sends no such header. Not a share.

    Raises:
        ConfigError: when a share is not from 0 to 1, or all are above 1 together.
    """

    rate_limit: float = 0.0
    server_error: float = 0.0
    reset: float = 0.0
    truncated: float = 0.0
    malformed: float = 0.0
    cut_off: float = 0.0
    late_error: float = 0.0
    stalled: float = 0.0
    too_few: float = 0.0
    too_many: float = 0.0
    twice: float = 0.0
    reordered: float = 0.0
    not_a_number: float = 0.0
    wrong_length: float = 0.0
    retry_after: float | None = 1.0

    def __post_init__(self) -> None:
        for name in KINDS:
            _check_share(name, getattr(self, name))
        if sum(getattr(self, name) for name in KINDS) > 1 + 1e-9:
            raise ConfigError("the shares of LLMFaults are above 1 together: a call goes wrong in one way at most")
        if self.retry_after is not None and not self.retry_after >= 0:
            raise ConfigError(f"retry_after must be seconds, 0 or more, or None, not {self.retry_after!r}")

    def of(self, draw: float) -> str | None:
        """Return the fault of a call by a number from 0 to 1, or None."""
        for name in KINDS:
            draw -= getattr(self, name)
            if draw < 0:
                return name
        return None


KINDS = tuple(each.name for each in fields(LLMFaults) if each.name != "retry_after")
"""The faults that have a share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long a call takes, in seconds, with a heavy tail.

    Attributes:
        seconds: that most calls take.
        slow_share: the share of calls that take `slow_seconds`, from 0 to 1.
        slow_seconds: that a slow call takes.

    Raises:
        ConfigError: on a negative time, or a share that is not from 0 to 1.
    """

    seconds: float = 0.0
    slow_share: float = 0.0
    slow_seconds: float = 0.0

    def __post_init__(self) -> None:
        _check_share("slow_share", self.slow_share)
        if not (self.seconds >= 0 and self.slow_seconds >= 0):
            raise ConfigError(f"a latency must be 0 s or more, not {self.seconds!r} and {self.slow_seconds!r}")

    def of(self, draw: float) -> float:
        """Return the seconds of a call by a number from 0 to 1."""
        return self.slow_seconds if draw < self.slow_share else self.seconds


def draws(seed: int, body: bytes, attempt: int) -> tuple[float, float]:
    """Return two numbers from 0 to 1, for the fault and the latency of a call.

    Args:
        seed: of the server.
        body: the request.
        attempt: how often this very body has come, from 1.
    """
    digest = blake2b(body, digest_size=8, key=b"%d/%d" % (seed, attempt)).digest()
    return int.from_bytes(digest[:4]) / _UNIT, int.from_bytes(digest[4:]) / _UNIT


def _check_share(name: str, share: float) -> None:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ConfigError(f"{name} must be a share from 0 to 1, not {share!r}")
