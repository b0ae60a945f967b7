"""The run state on disk, and the lock that keeps it to one process."""

from llm_datagen.runs.store import RunFolder

__all__ = ["RunFolder"]
