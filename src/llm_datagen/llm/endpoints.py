"""What is known of an endpoint before it is called: plain data, checked once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import SecretStr

from llm_datagen.config import check_count, check_positive, check_seconds, check_text, object_of, refuses_unknown
from llm_datagen.errors import ConfigError
from llm_datagen.llm.cost.budget import Budget, check_budget
from llm_datagen.llm.cost.prices import Prices, given_prices
from llm_datagen.llm.http.adapters import adapter_of
from llm_datagen.llm.http.address import Address, checked_key
from llm_datagen.llm.limits.limiter import Limits
from llm_datagen.streams.formats.json_text import dumps

RESERVED_PARAMS = ("model", "messages", "response_format", "stream", "n")


@refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint: where it is, which model answers there, and what it may be asked for.

    Attributes:
        model: the model's name, as the endpoint knows it.
        base_url: its URL; None: what the environment or the adapter says.
        api_key: the key; a text is wrapped, so that it does not show.
        api_key_env: the environment variable that holds the key; None: the adapter's.
        adapter: the API that it speaks, see `adapter_of`.
        weight: its share of the calls, relative to the other weights of the pool.
        requests_per_minute: calls that it allows within any minute; None: as many as are wanted.
        tokens_per_minute: tokens, of prompts and answers together, in the same way.
        timeout: seconds that one try of a call may take in all; None: as the operator says.
        max_response_bytes: the longest body of an answer, unpacked; a longer one is not read to its end, and the call
            fails. None: as the operator says.
        params: fields of the request for this endpoint alone; they win over those of the operator.
        prices: what its calls cost; None: what is known of the model.
        takes_default_key: whether a `base_url` that was given gets the key of the adapter's environment variable when
            no key is named. Else the key of one provider would be sent to another one.
        address: where the calls go.

    Raises:
        ConfigError: on a wrong value; a key is not shown.
    """

    model: str
    base_url: str | None = None
    api_key: SecretStr | str | None = field(default=None, repr=False)
    api_key_env: str | None = None
    adapter: Any = "openai"
    weight: float = 1.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout: float | None = None
    max_response_bytes: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    prices: Prices | Mapping[str, float] | None = None
    takes_default_key: bool = field(default=False, repr=False)
    address: Address = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise ConfigError(f"model must be the name of a model, not {self.model!r}")
        if self.api_key_env is not None:
            check_text("api_key_env", self.api_key_env)
        if self.api_key is not None and self.api_key_env is not None:
            raise ConfigError("give api_key or api_key_env, not both")
        if isinstance(self.api_key, str):
            object.__setattr__(self, "api_key", checked_key(self.api_key))
        check_positive("weight", self.weight, "number")
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
        if self.max_response_bytes is not None:
            check_count("max_response_bytes", self.max_response_bytes)
        object.__setattr__(self, "params", checked_params(self.params))
        given_prices(self.prices)
        _ = self.limits
        object.__setattr__(self, "address", Address(self.base_url, adapter_of(self.adapter), self.model))

    @classmethod
    def of(cls, given: Endpoint | Mapping[str, Any]) -> Endpoint:
        """Return the endpoint that a user gave, perhaps as a dict with the names of the attributes.

        Raises:
            ConfigError: on a name that is not known, or a wrong value.
        """
        return object_of(cls, "an endpoint", given, without=("takes_default_key",))

    @property
    def limits(self) -> Limits:
        """What it allows within any minute."""
        return Limits(requests_per_minute=self.requests_per_minute, tokens_per_minute=self.tokens_per_minute)

    def key(self) -> SecretStr | None:
        """Return the key that is sent, or None.

        Raises:
            ConfigError: when the environment variable that was named is not set, or its value cannot be sent.
        """
        if isinstance(self.api_key, SecretStr):
            return self.api_key
        takes_default = self.takes_default_key or self.base_url is None
        default = self.address.adapter.api_key_env if takes_default else ""
        key = checked_key(os.environ.get(self.api_key_env or default))
        if key is None and self.api_key_env is not None:
            raise ConfigError(
                f"the environment variable {self.api_key_env}, api_key_env of {self.address.label}, is not set: set it"
            )
        return key


def endpoints_of(
    endpoints: Sequence[Endpoint | Mapping[str, Any]] | None, *, model: str | None, **single: Any
) -> tuple[Endpoint, ...]:
    """Return the endpoints of an operator: those of `endpoints`, or else the single one of its other arguments.

    Args:
        endpoints: as the user gave them, or None.
        model: of the single one.
        single: what else there is to say of the single one, by the names of `Endpoint`.

    Raises:
        ConfigError: on a wrong value, or when both are given, or none.
    """
    if endpoints is None:
        if model is None:
            raise ConfigError("give model, or endpoints for a pool of them")
        return (Endpoint(model=model, takes_default_key=True, **single),)
    for name, value in {"model": model, **single}.items():
        if value not in (None, "openai"):
            raise ConfigError(f"give {name} or endpoints, not both: in a pool, {name} is said of each endpoint")
    if isinstance(endpoints, str | Mapping) or not isinstance(endpoints, Sequence) or not endpoints:
        raise ConfigError(f"endpoints must be a list of endpoints such as {{'model': …}}, not {endpoints!r}")
    return tuple(map(Endpoint.of, endpoints))


def identity_of(endpoints: Sequence[Endpoint]) -> str:
    """Return what stands for the model when an answer is cached, so that an answer of any endpoint counts for all.

    It is the model's name when all endpoints have the same; else all names and their own params, whatever their order.
    """
    names = {each.model + (dumps(each.params, option=_SORTED).decode() if each.params else "") for each in endpoints}
    return " | ".join(sorted(names))


def limits_of(endpoints: Sequence[Endpoint]) -> Limits:
    """Return what all endpoints allow together within any minute; what one of them does not limit is not limited."""

    def total(limits: list[int | None]) -> int | None:
        known = [limit for limit in limits if limit is not None]
        return sum(known) if len(known) == len(limits) else None

    return Limits(
        requests_per_minute=total([each.requests_per_minute for each in endpoints]),
        tokens_per_minute=total([each.tokens_per_minute for each in endpoints]),
    )


def budget_of(endpoints: Sequence[Endpoint], budget: Any, params: Mapping[str, Any]) -> Budget | None:
    """Return the budget that a user gave; None for None.

    Args:
        endpoints: where calls go.
        budget: a `Budget`, or a dict with the names of its attributes.
        params: the fields of the requests, without those that an endpoint has of its own.

    Raises:
        ConfigError: when it is none, or cannot be kept at one of the endpoints.
    """
    if budget is None:
        return None
    found = Budget.of(budget)
    for each in endpoints:
        prices = given_prices(each.prices)
        check_budget(found, {**params, **each.params}, each.model, each.address.label, prices)
    return found


def checked_params(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return fields of a request as a dict of their own.

    Raises:
        ConfigError: when they are no JSON object, or hold what the operator sets itself.
    """
    if params is not None and not isinstance(params, Mapping):
        raise ConfigError(f"params must be a dict, not {params!r}")
    result = dict(params or {})
    for key in RESERVED_PARAMS:
        if key in result:
            raise ConfigError(f"params may not hold {key!r}: the operator sets it")
    try:
        dumps(result)
        json.dumps(result, allow_nan=False, default=str)  # NaN, which orjson writes as null
    except (TypeError, ValueError) as error:
        raise ConfigError(f"params must be JSON data: {error}") from error
    return result


_SORTED = orjson.OPT_SORT_KEYS
