"""Which rows share an answer: those with equal requests, which is said once where they may want others; or none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from llm_datagen.llm.types import ChatRequest
from llm_datagen.streams.ids import ID_FIELD

CacheBy = Literal["request", "row"]
"""What an answer is cached by: the request alone, or the row as well."""

_MOST = 10_000
"""So many answers are remembered: rows with one prompt mostly come close to one another, and memory is bounded."""


class SharedAnswerNotice:
    """Notes which row an answer was given to first. Used on the event loop of the node."""

    def __init__(self) -> None:
        self._first: dict[bytes, str] = {}
        self._is_logged = False

    def note(self, key: bytes, request: ChatRequest) -> None:
        """Note that a row gets the answer of `key`; log it if another row has got the same one.

        Nothing is logged where the model has no choice (``temperature`` 0).
        """
        if self._is_logged or request.ctx is None or request.cache_scope or request.params.get("temperature") == 0:
            return
        first = self._first.get(key)
        if first is None:
            if len(self._first) < _MOST:
                self._first[key] = request.row
        elif first != request.row:
            self._is_logged = True
            self._first.clear()
            request.ctx.log(
                f"{request.row} got the cached answer of {first}: equal requests have one answer in the cache. For an "
                "answer of its own to every row, set cache_by='row'; said once",
                level="warning",
            )


def row_key(row: Mapping[str, Any]) -> str:
    """Return what stands for a row: its id and its own fields; not what the engine and operators note in ``_…``."""
    fields = {name: value for name, value in row.items() if name == ID_FIELD or not name.startswith("_")}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()
