"""Turns that an API wants back as it wrote them, with calls of tools: thoughts that are signed, or needed to go on.

An adapter that reads one puts it among the extras of its reply. It comes back in the message of the assistant, for
the API and the model that wrote it; for others, it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.llm.types import OWN_TURN, ChatRequest


def as_extra(api: str, turn: Any) -> dict[str, Any]:
    """Return what an adapter puts among the extras of a reply that calls tools; nothing for nothing."""
    return {OWN_TURN: {"api": api, "turn": turn}} if turn else {}


def own_turn(message: Mapping[str, Any], request: ChatRequest, api: str) -> Any:
    """Return the turn that `api` wrote, by the model that is asked; None when the message has none."""
    own = message.get(OWN_TURN)
    if not isinstance(own, Mapping) or (own.get("api"), own.get("model")) != (api, request.model):
        return None
    return own["turn"]


def merged(request: ChatRequest, api: str) -> Sequence[Mapping[str, Any]]:
    """Return the messages with the fields that the API wants back in them: of an API whose turns are fields."""
    if not any(OWN_TURN in message for message in request.messages):
        return request.messages
    found = []
    for message in request.messages:
        plain = {name: value for name, value in message.items() if name != OWN_TURN}
        found.append({**plain, **(own_turn(message, request, api) or {})})
    return found
