"""What is known of an endpoint before it is called: plain data, checked once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import orjson
from pydantic import SecretStr

from llm_datagen.config import check_count, check_seconds, check_text
from llm_datagen.errors import ConfigError
from llm_datagen.llm.cost.budget import Budget, checked_budget
from llm_datagen.llm.cost.prices import given_prices
from llm_datagen.llm.http.adapters import adapter_of
from llm_datagen.llm.http.body import MAX_RESPONSE_BYTES
from llm_datagen.llm.http.endpoint import Endpoint, checked_key
from llm_datagen.llm.limits.limiter import Limits, checked_limits
from llm_datagen.streams.formats.json_text import dumps

RESERVED_PARAMS = ("model", "messages", "response_format", "stream", "n")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """An endpoint: where it is, which model answers there, and what it may be asked for.

    Attributes:
        model: the model's name, as the endpoint knows it.
        base_url: its URL; None: what the environment or the adapter says.
        api_key: the key; a text is wrapped, so that it does not show.
        api_key_env: the environment variable that holds the key; None: the adapter's.
        adapter: the API that it speaks, see `adapter_of`.
        weight: its share of the calls, beside the other weights of the pool.
        requests_per_minute: calls that it allows within any minute; None: as many as are wanted.
        tokens_per_minute: tokens, of prompts and answers together, in the same way.
        timeout: seconds that one try of a call may take in all.
        max_response_bytes: the longest body of an answer, unpacked; a longer one is not read to its end, and the call
            fails.
        params: fields of the request for this endpoint alone; they win over those of the operator.
        prices: US dollars a million tokens, such as ``{"input": 0.15, "output": 0.6}``, see `given_prices`; None: what
            is known of the model.
        takes_default_key: whether it gets the key of the adapter's environment variable when none is named.
        endpoint: where the calls go.

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
    timeout: float = 120.0
    max_response_bytes: int = MAX_RESPONSE_BYTES
    params: Mapping[str, Any] = field(default_factory=dict)
    prices: Mapping[str, float] | None = None
    takes_default_key: bool = True
    endpoint: Endpoint = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise ConfigError(f"model must be the name of a model, not {self.model!r}")
        if self.api_key_env is not None:
            check_text("api_key_env", self.api_key_env)
        if self.api_key is not None and self.api_key_env is not None:
            raise ConfigError("give api_key or api_key_env, not both")
        if isinstance(self.api_key, str):
            object.__setattr__(self, "api_key", checked_key(self.api_key))
        weight = self.weight
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise ConfigError(f"weight must be a positive number, not {weight!r}")
        check_seconds("timeout", self.timeout)
        check_count("max_response_bytes", self.max_response_bytes)
        object.__setattr__(self, "params", checked_params(self.params))
        given_prices(self.prices)
        checked_limits(self.requests_per_minute, self.tokens_per_minute)
        object.__setattr__(self, "endpoint", Endpoint(self.base_url, adapter_of(self.adapter), self.model))

    @classmethod
    def of(cls, given: Mapping[str, Any], **defaults: Any) -> Self:
        """Return the endpoint that a mapping describes: names and values as those of the attributes.

        Raises:
            ConfigError: on a name that is not known, or a wrong value.
        """
        if not isinstance(given, Mapping):
            raise ConfigError(f"an endpoint must be a mapping such as {{'model': …, 'base_url': …}}, not {given!r}")
        names = [each.name for each in fields(cls) if each.name not in ("endpoint", "takes_default_key")]
        for name in given:
            if name not in names:
                raise ConfigError(f"an endpoint has no {name!r}; it has {', '.join(names)}")
        if "model" not in given:
            raise ConfigError("an endpoint must say its model")
        # The key of one provider is not sent to another one because nobody said which key to send.
        return cls(**{**defaults, **given}, takes_default_key="base_url" not in given)

    def key(self) -> SecretStr | None:
        """Return the key that is sent, or None.

        Raises:
            ConfigError: when the environment variable that was named is not set, or its value cannot be sent.
        """
        if isinstance(self.api_key, SecretStr):
            return self.api_key
        default = self.endpoint.adapter.api_key_env if self.takes_default_key else ""
        key = checked_key(os.environ.get(self.api_key_env or default))
        if key is None and self.api_key_env is not None:
            raise ConfigError(
                f"the environment variable {self.api_key_env}, api_key_env of {self.endpoint.label}, is not set: set it"
            )
        return key


def specs_of(
    endpoints: Sequence[Mapping[str, Any]] | None,
    *,
    model: str | None,
    timeout: float,
    max_response_bytes: int = MAX_RESPONSE_BYTES,
    **single: Any,
) -> tuple[EndpointSpec, ...]:
    """Return the endpoints of an operator: those of `endpoints`, or else the single one of its other arguments.

    Args:
        endpoints: a mapping each, or None.
        model: of the single one.
        timeout: of all that do not say their own.
        max_response_bytes: in the same way.
        single: what else there is to say of the single one, by the names of `EndpointSpec`.

    Raises:
        ConfigError: on a wrong value, or when both are given, or none.
    """
    if endpoints is None:
        if model is None:
            raise ConfigError("give model, or endpoints for a pool of them")
        return (EndpointSpec(model=model, timeout=timeout, max_response_bytes=max_response_bytes, **single),)
    for name, value in {"model": model, **single}.items():
        if value not in (None, "openai"):
            raise ConfigError(f"give {name} or endpoints, not both: in a pool, {name} is said of each endpoint")
    if isinstance(endpoints, str | Mapping) or not isinstance(endpoints, Sequence) or not endpoints:
        raise ConfigError(f"endpoints must be a list of mappings such as {{'model': …}}, not {endpoints!r}")
    return tuple(EndpointSpec.of(each, timeout=timeout, max_response_bytes=max_response_bytes) for each in endpoints)


def identity_of(specs: Sequence[EndpointSpec]) -> str:
    """Return what stands for the model when an answer is kept, so that an answer of any endpoint counts for all.

    It is the model's name when all endpoints have the same; else all names and their own params, whatever their order.
    """
    each = {spec.model + (dumps(spec.params, option=_SORTED).decode() if spec.params else "") for spec in specs}
    return " | ".join(sorted(each))


def limits_of(specs: Sequence[EndpointSpec]) -> Limits:
    """Return what all endpoints allow together within any minute; what one of them does not limit is not limited."""

    def total(limits: list[int | None]) -> int | None:
        known = [limit for limit in limits if limit is not None]
        return sum(known) if len(known) == len(limits) else None

    return Limits(
        requests_per_minute=total([spec.requests_per_minute for spec in specs]),
        tokens_per_minute=total([spec.tokens_per_minute for spec in specs]),
    )


def budget_of(specs: Sequence[EndpointSpec], budget: Any, params: Mapping[str, Any]) -> Budget | None:
    """Return the budget that a user gave; None for None.

    Args:
        specs: where calls go.
        budget: see `checked_budget`.
        params: the fields of the requests, without those that an endpoint has of its own.

    Raises:
        ConfigError: when it cannot be kept at one of the endpoints.
    """
    budgets = [
        checked_budget(budget, {**params, **spec.params}, spec.model, spec.endpoint.label, given_prices(spec.prices))
        for spec in specs
    ]
    return budgets[0]


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
