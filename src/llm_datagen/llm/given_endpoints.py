"""The endpoints of an operator, made of what a user gives: one, or a pool; for chats, vectors or scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.llm.cost.prices import InputPrices
from llm_datagen.llm.endpoints import Endpoint
from llm_datagen.llm.http.adapters import BUILT_IN, adapter_of
from llm_datagen.llm.types import Operation


def endpoints_of(
    endpoints: Sequence[Endpoint | Mapping[str, Any]] | None,
    *,
    model: str | None,
    operation: Operation = "chat",
    adapters: Mapping[str, str] = BUILT_IN,
    **single: Any,
) -> tuple[Endpoint, ...]:
    """Return the endpoints of an operator: those of `endpoints`, or else the single one of its other arguments.

    Args:
        endpoints: as the user gave them, or None.
        model: of the single one.
        operation: what they are asked for.
        adapters: the adapters for that, by their names.
        single: what else there is to say of the single one, by the names of `Endpoint`.

    Raises:
        ConfigError: on a wrong value, or when both are given, or none.
    """
    given = _given(endpoints, model=model, **single)
    if operation != "chat":
        given = [_for_operation(each, adapters) for each in given]
    found = tuple(map(Endpoint.of, given)) if endpoints is not None else (Endpoint(takes_default_key=True, **given[0]),)
    for each in found:
        adapter = each.address.adapter
        if adapter.operation != operation:
            raise ConfigError(
                f"{type(adapter).__name__} is an adapter for {adapter.operation}, and here one for {operation} is "
                f"needed: {', '.join(map(repr, adapters))}, or one of your own"
            )
    return found


def _for_operation(given: Endpoint | Mapping[str, Any], adapters: Mapping[str, str]) -> Any:
    """Return an endpoint with its adapter by another list of names; its answers have no price."""
    engine = given.get("engine") if isinstance(given, Mapping) else getattr(given, "engine", None)
    if engine is not None:
        raise ConfigError("an engine on this machine answers chats alone: give the base_url of a server")
    if isinstance(given, Endpoint):
        return replace(given, adapter=adapter_of(given.adapter, adapters))
    if not isinstance(given, Mapping):
        return given
    prices = given.get("prices")
    if isinstance(prices, InputPrices) or (isinstance(prices, Mapping) and "output" not in prices):
        prices = InputPrices.of(prices).prices()
    return {**given, "adapter": adapter_of(given.get("adapter", "openai"), adapters), "prices": prices}


def _given(
    endpoints: Sequence[Endpoint | Mapping[str, Any]] | None, *, model: str | None, **single: Any
) -> Sequence[Any]:
    if endpoints is None:
        if model is None:
            raise ConfigError("give model, or endpoints for a pool of them")
        return [{"model": model, **single}]
    for name, value in {"model": model, **single}.items():
        if value not in (None, "openai"):
            raise ConfigError(f"give {name} or endpoints, not both: in a pool, {name} is said of each endpoint")
    if isinstance(endpoints, str | Mapping) or not isinstance(endpoints, Sequence) or not endpoints:
        found = f"a value of type {type(endpoints).__name__}" if endpoints else "an empty one"
        raise ConfigError(f"endpoints must be a list of endpoints such as {{'model': …}}, not {found}")
    return endpoints
