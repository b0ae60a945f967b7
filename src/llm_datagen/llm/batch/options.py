"""How rows are sent as jobs of a provider's batch API: plain data, checked once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from llm_datagen.config import check_choice, check_count, check_flag, check_seconds, object_of, refuses_unknown, shown
from llm_datagen.config.checks import is_number
from llm_datagen.errors import ConfigError
from llm_datagen.llm.http.adapters import ChatAdapter

Fallback = Literal["job", "online"]
"""What becomes of a row of a job that gave no answer for it: the next job, or a plain call."""

ROWS_IN_FLIGHT = 10_000
"""Rows that a node with a batch operator has in its operator at once, unless it is told: about 100 MB of memory."""


@refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How rows are sent as jobs of a batch API. What does not change answers may differ from resume to resume.

    Attributes:
        max_rows: rows of a job, at most; None: as many as the API takes.
        max_bytes: bytes of a job, at most; None: as many as the API takes.
        max_wait: seconds after its first row in which a job is sent at the latest. It is sent at once when it is full,
            and when no further row can come before it is answered.
        max_enqueued_tokens: prompt tokens, taken to be a third of the bytes, that may wait in jobs of an endpoint at
            once; None: as many as there are.
        poll_wait: seconds between two looks at a job, at most. A young job is looked at more often.
        late_s: seconds that a provider may take to show a job whose submit it did not acknowledge. Its rows are sent
            again after that, and no earlier.
        max_age: seconds after its submit in which a job has to end. After that it is cancelled, and its rows go on
            without it.
        fallback: what becomes of rows of which a job gave no answer, as it expired, was cancelled or failed: ``"job"``,
            they go into the next one; ``"online"``, they are plain calls, at the plain price.
        price: what a row costs in a job, as a share of the plain price; None: what the API is known to take, a half.
        detach: whether the run ends, status "stopped", when all that is in flight waits at the provider. A resume
            collects it.

    Raises:
        ConfigError: on a wrong value.
    """

    max_rows: int | None = None
    max_bytes: int | None = None
    max_wait: float = 60.0
    max_enqueued_tokens: int | None = None
    poll_wait: float = 60.0
    late_s: float = 300.0
    max_age: float = 26 * 3600.0
    fallback: Fallback = "job"
    price: float | None = None
    detach: bool = False

    def __post_init__(self) -> None:
        for name in ("max_rows", "max_bytes", "max_enqueued_tokens"):
            if getattr(self, name) is not None:
                check_count(f"batch_api[{name!r}]", getattr(self, name))
        for name in ("max_wait", "poll_wait", "late_s", "max_age"):
            check_seconds(f"batch_api[{name!r}]", getattr(self, name))
        check_choice("batch_api['fallback']", self.fallback, Fallback)
        check_flag("batch_api['detach']", self.detach)
        if self.price is not None and not (is_number(self.price) and 0 <= self.price <= 1):
            raise ConfigError(f"batch_api['price'] must be a share of the plain price, 0 to 1, not {shown(self.price)}")

    @classmethod
    def of(cls, given: Any) -> Batch:
        """Return the options that a user gave: a `Batch`, or a dict with the names of its attributes.

        Raises:
            ConfigError: on a name that is not known, or a wrong value.
        """
        return object_of(cls, "batch_api (or True, for jobs as they are usual)", given)


def checked_batch(given: Any, adapters: Iterable[ChatAdapter]) -> Batch | None:
    """Return how rows are sent as jobs; None when they are not.

    Args:
        given: as the user gave it: a flag, a `Batch` or a dict.
        adapters: of all endpoints.

    Raises:
        ConfigError: on a wrong value, or when an adapter has no batch API.
    """
    if given is None or given is False:
        return None
    batch = Batch() if given is True else Batch.of(given)
    for adapter in adapters:
        if adapter.batch() is None:
            raise ConfigError(
                f"batch_api: {type(adapter).__name__} has no batch API; the adapters openai, openai-responses, azure, "
                "anthropic, gemini and mistral have one (or leave batch_api out)"
            )
    return batch
