"""Asks an endpoint for JSON in the best way that it knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

from llm_datagen.errors import ConfigError
from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.http.adapters import ChatAdapter
from llm_datagen.llm.http.structured_modes import MODES, Mode, asks_for_json, is_refused, put, read
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest


class StructuredLayer(Layer):
    """Puts requests with a schema in one of the `MODES`.

    Without a mode, it begins with the first that the adapter speaks. When the endpoint refuses that by name, the same
    call is made in the next one at once: no row fails by it, and no try is counted. What an endpoint took is remembered
    for all calls that follow.

    Args:
        inner: sends a request as it is.
        adapter: speaks the API.
        label: the endpoint, as messages name it.
        mode: the only mode; None: found out.
    """

    def __init__(self, inner: Transport, adapter: ChatAdapter, *, label: str, mode: Mode | None = None) -> None:
        super().__init__(inner)
        self._label = label
        self._modes = [cast(Mode, each) for each in adapter.structured_modes] if mode is None else [mode]
        self._at = 0

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Send the request, once in each mode until one is taken.

        Raises:
            LLMRequestError: when there is no answer in a mode that is not refused by name, or in the last.
            LLMError: when the request cannot be put.
        """
        if not asks_for_json(request):
            return await self._inner.complete(request)
        at, refused = self._at, None
        while True:
            mode = self._modes[at]
            try:
                answer = await self._inner.complete(put(request, mode))
            except LLMRequestError as error:
                after = self._after(max(at, self._at - 1), request)
                if after is None or not is_refused(error, mode):
                    raise
                at, refused = after, refused or error
                continue
            if refused is not None:
                self._settle(at, refused, request)
            others = tuple(read(other, mode) for other in answer.others)
            return replace(read(answer, mode), others=others) if others else read(answer, mode)

    def _after(self, at: int, request: ChatRequest) -> int | None:
        for number in range(at + 1, len(self._modes)):
            if self._modes[number] != "tool" or not request.has_tools:
                return number
        return None

    def _settle(self, at: int, refused: LLMRequestError, request: ChatRequest) -> None:
        """Begin with this mode from now on: it was taken where the others were refused."""
        if at <= self._at:
            return
        before, self._at = self._modes[self._at], at
        if request.ctx is not None:
            request.ctx.log(
                f"{self._label} refuses structured={before!r}: {refused.body}; it is asked by "
                f"{self._modes[at]!r} from now on (set structured to one mode to have no other tried)",
                level="warning",
            )


def checked_mode(structured: Any, adapters: Iterable[ChatAdapter], *, has_schema: bool, has_tools: bool) -> Mode | None:
    """Return the mode that a user has chosen; None for None.

    Args:
        structured: a mode, or None.
        adapters: of all endpoints.
        has_schema: whether `output` is a schema.
        has_tools: whether `params` offer tools.

    Raises:
        ConfigError: when there is no such mode, or it cannot be had.
    """
    if structured is None:
        return None
    if structured not in MODES:
        raise ConfigError(f"structured must be one of {', '.join(map(repr, MODES))} or None, not {structured!r}")
    if not has_schema:
        raise ConfigError("structured is of answers in JSON: give output a schema or a model, or leave structured out")
    if structured == "tool" and has_tools:
        raise ConfigError("structured='tool' takes the place of tools: leave one of the two out")
    for adapter in adapters:
        if structured not in adapter.structured_modes:
            known = ", ".join(map(repr, adapter.structured_modes))
            raise ConfigError(f"{type(adapter).__name__} does not speak structured={structured!r}, but {known}")
    return cast(Mode, structured)
