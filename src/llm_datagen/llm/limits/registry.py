"""The limiters of this process: one for all layers that share an endpoint, a key and a model."""

from __future__ import annotations

import hashlib
import threading

from pydantic import SecretStr

from llm_datagen.llm.limits.limiter import Limiter, Limits
from llm_datagen.llm.limits.sliding_window import WINDOW_SECONDS

_limiters: dict[tuple[str, bytes, str], Limiter] = {}
_limiters_lock = threading.Lock()


def limiter_of(endpoint: str, api_key: SecretStr | None, model: str, limits: Limits) -> Limiter:
    """Return the limiter that this process has for a model, attached to `limits`.

    It outlives its layers by a minute: the next run must know what this one has sent.

    Args:
        endpoint: the URL of the calls.
        api_key: the key; only a hash of it is kept.
        model: the model's name.
        limits: what the layer was given; to be detached when it is closed.
    """
    key = api_key.get_secret_value() if api_key else ""
    name = (endpoint, hashlib.sha256(key.encode()).digest(), model)
    with _limiters_lock:
        for other in [other for other, limiter in _limiters.items() if other != name and limiter.is_idle()]:
            del _limiters[other]
        limiter = _limiters.setdefault(name, Limiter(window=WINDOW_SECONDS))
        limiter.attach(limits)
        return limiter
