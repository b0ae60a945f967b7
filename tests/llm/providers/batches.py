"""What the batch APIs of the providers are like, as `tests/llm/test_batch_apis.py` tries it."""

from __future__ import annotations

from typing import NamedTuple


class BatchApi(NamedTuple):
    """A batch API.

    Attributes:
        found: by what a job is found again.
        partial: whether there are results after it expired or was cancelled.
        deleted: at the end.
    """

    found: str
    partial: bool
    deleted: str


_OPENAI = BatchApi("its metadata, else the name of its file", True, "files")
BATCHES = {
    "openai": _OPENAI,
    "openai-responses": _OPENAI,
    "azure": _OPENAI,
    "anthropic": BatchApi("its custom ids once it has ended; until then its number of rows and its age", True, "job"),
    "gemini": BatchApi("its display name", False, "files and job"),
    "mistral": BatchApi("its metadata, else the name of its file", True, "files and job"),
}
"""By the name of the adapter. Others have none."""
