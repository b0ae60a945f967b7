"""Errors of the engine."""

from ...exceptions import VLLMServerError


class EngineDeadError(VLLMServerError):
    """Raised when the engine's process has died."""
