"""The roots of its errors."""


class VLLMError(Exception):
    """The root."""


class VLLMClientError(VLLMError):
    """A request that cannot be."""


class VLLMServerError(VLLMError):
    """A failure of the engine."""
