"""The run state on disk, and the lock that keeps it to one process."""

from typing import TYPE_CHECKING

from llm_datagen.errors.lazy import lazy_names

if TYPE_CHECKING:
    from llm_datagen.runs.store import RunFolder

__all__ = ["RunFolder"]

if not TYPE_CHECKING:
    __getattr__ = lazy_names(
        __name__,
        {
            "store": "RunFolder",
        },
    )
