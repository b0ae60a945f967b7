"""What can go wrong with the model on this machine."""

from __future__ import annotations

from llm_datagen.errors import DatagenError


class LocalModelError(DatagenError):
    """Raised when the model cannot be fetched, or its server does not start; says what to do about it."""
