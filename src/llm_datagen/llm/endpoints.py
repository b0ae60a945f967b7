"""What is known of an endpoint before it is called: plain data, checked once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from llm_datagen.config import (
    check_count,
    check_flag,
    check_positive,
    check_seconds,
    check_text,
    object_of,
    refuses_unknown,
)
from llm_datagen.errors import ConfigError
from llm_datagen.llm.cost.budget import Budget, check_budget
from llm_datagen.llm.cost.prices import Prices, given_prices
from llm_datagen.llm.engines.options import Engine
from llm_datagen.llm.http.adapters import adapter_of
from llm_datagen.llm.http.address import Address, checked_key
from llm_datagen.llm.http.streaming.options import Stream
from llm_datagen.llm.limits.limiter import Limits
from llm_datagen.llm.sampling.params import check_no_template
from llm_datagen.llm.secret import Secret
from llm_datagen.llm.types import Prefix
from llm_datagen.streams.formats.json_text import dumps

RESERVED_PARAMS = ("model", "messages", "response_format", "stream", "n")


@refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint: where it is, which model answers there, and what it may be asked for.

    Attributes:
        model: the model's name, as the endpoint knows it.
        base_url: its URL; None: what the environment or the adapter says.
        api_key: the key, a text or pydantic's `SecretStr`; it is wrapped, so that it does not show.
        api_key_env: the environment variable that holds the key; None: the adapter's.
        adapter: the API that it speaks, see `adapter_of`.
        weight: its share of the calls, relative to the other weights of the pool.
        requests_per_minute: calls that it allows within any minute; None: as many as are wanted.
        tokens_per_minute: tokens, of prompts and answers together, in the same way.
        timeout: seconds that one try of a call may take in all; None: as the operator says.
        max_response_bytes: the longest body of an answer, unpacked; a longer one is not read to its end, and the call
            fails. None: as the operator says.
        params: fields of the request for this endpoint alone; they win over those of the operator.
        prices: what its calls cost; None: what is known of the model, and nothing for an engine.
        engine: runs the model on this machine, in place of an endpoint: an `Engine`, a dict with its attributes, or
            its kind. `model` is its path then, unless the engine has one.
        takes_default_key: whether a `base_url` that was given gets the key of the adapter's environment variable when
            no key is named. Else the key of one provider would be sent to another one.
        address: where the calls go.

    Raises:
        ConfigError: on a wrong value; a key is not shown.
    """

    model: str
    base_url: str | None = None
    api_key: Any = field(default=None, repr=False)  # a text, or `Wrapped`, of which pydantic makes no JSON Schema
    api_key_env: str | None = None
    adapter: Any = "openai"
    weight: float = 1.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout: float | None = None
    max_response_bytes: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    prices: Prices | Mapping[str, float] | None = None
    engine: Engine | Mapping[str, Any] | str | None = None
    takes_default_key: bool = field(default=False, repr=False)
    address: Address = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise ConfigError(f"model must be the name of a model, not {self.model!r}")
        if self.api_key_env is not None:
            check_text("api_key_env", self.api_key_env)
        if self.api_key is not None and self.api_key_env is not None:
            raise ConfigError("give api_key or api_key_env, not both")
        if self.api_key is not None:
            object.__setattr__(self, "api_key", checked_key(self.api_key))
        check_positive("weight", self.weight, "number")
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
        if self.max_response_bytes is not None:
            check_count("max_response_bytes", self.max_response_bytes)
        object.__setattr__(self, "params", checked_params(self.params))
        check_no_template(self.params, f"an endpoint of model {self.model!r}")
        given_prices(self.prices)
        _ = self.limits
        if self.engine is not None:
            self._take_engine(Engine.of(self.engine))
            return
        adapter = adapter_of(self.adapter)
        if adapter.library and self.base_url is None:
            provider = self.model.partition("/")[0] if "/" in self.model else adapter.library
            address = Address.of_library(adapter.library, provider, self.model, adapter)
        else:
            address = Address(self.base_url, adapter, self.model)
        object.__setattr__(self, "address", address)

    def _take_engine(self, engine: Engine) -> None:
        given = {"base_url": self.base_url, "api_key": self.api_key, "api_key_env": self.api_key_env}
        for name, value in {**given, "adapter": None if self.adapter == "openai" else self.adapter}.items():
            if value is not None:
                raise ConfigError(f"give engine or {name}, not both: an engine runs the model on this machine")
        object.__setattr__(self, "engine", engine)
        address = Address.of_library("engine", engine.name, self.model, engine.known.adapter())
        object.__setattr__(self, "address", address)
        if self.prices is None:
            object.__setattr__(self, "prices", Prices(input=0, output=0))

    @classmethod
    def of(cls, given: Endpoint | Mapping[str, Any]) -> Endpoint:
        """Return the endpoint that a user gave, perhaps as a dict with the names of the attributes.

        Raises:
            ConfigError: on a name that is not known, or a wrong value. What is no endpoint is not shown.
        """
        if not isinstance(given, cls | Mapping):
            raise ConfigError(f"an endpoint must be an Endpoint or a dict, not a value of type {type(given).__name__}")
        return object_of(cls, "an endpoint", given, without=("takes_default_key",))

    @property
    def limits(self) -> Limits:
        """What it allows within any minute."""
        return Limits(requests_per_minute=self.requests_per_minute, tokens_per_minute=self.tokens_per_minute)

    @property
    def engine_identity(self) -> str:
        """What of its engine changes answers, as text; empty when nothing does."""
        return self.engine.identity() if isinstance(self.engine, Engine) else ""

    def key(self) -> Secret | None:
        """Return the key that is sent, or None.

        Raises:
            ConfigError: when the environment variable that was named is not set, or its value cannot be sent.
        """
        if isinstance(self.api_key, Secret):
            return self.api_key
        if self.engine is not None:
            return None
        takes_default = self.takes_default_key or self.base_url is None
        default = self.address.adapter.api_key_env if takes_default else ""
        key = checked_key(os.environ.get(self.api_key_env or default))
        if key is None and self.api_key_env is not None:
            raise ConfigError(
                f"the environment variable {self.api_key_env}, api_key_env of {self.address.label}, is not set: set it"
            )
        return key


def refuse_with_engine(endpoints: Sequence[Endpoint], **given: Any) -> None:
    """Refuse what only an endpoint can do, where a model runs on this machine.

    Args:
        endpoints: of an operator.
        given: arguments of the operator by their names; those that are None or False were not given.

    Raises:
        ConfigError: when one was given, and an endpoint is an engine.
    """
    for name, value in given.items():
        if value not in (None, False) and any(each.engine is not None for each in endpoints):
            raise ConfigError(f"give engine or {name}, not both: an engine runs the model on this machine")


def identity_of(endpoints: Sequence[Endpoint]) -> str:
    """Return what stands for the model when an answer is cached, so that an answer of any endpoint counts for all.

    It is the model's name when all endpoints have the same; else all names and their own params, whatever their order.
    """
    names = {
        each.model + (dumps(each.params, option=_SORTED).decode() if each.params else "") + each.engine_identity
        for each in endpoints
    }
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
        address = each.address
        prices = given_prices(each.prices) or address.adapter.known_prices(each.model)
        check_budget(
            found, {**params, **each.params}, each.model, address.label, prices, operation=address.adapter.operation
        )
    return found


def prefix_for(endpoints: Sequence[Endpoint], prompt_cache: bool, prefix: Prefix | None) -> Prefix | None:
    """Return the beginning of the prompts that the endpoints are to cache; None: they are to cache nothing.

    Args:
        endpoints: where calls go.
        prompt_cache: whether they are to cache it, as the user gave it.
        prefix: what the messages of all rows begin with; None: there is no such thing.

    Raises:
        ConfigError: when `prompt_cache` is no flag; when there is no such beginning, or an API caches nothing.
    """
    if not check_flag("prompt_cache", prompt_cache):
        return None
    if prefix is None:
        raise ConfigError(
            "prompt_cache: the prompts of the rows have no beginning in common: put what they share before the first "
            "variable, or into system"
        )
    for each in endpoints:
        if not each.address.adapter.prompt_cache:
            name = type(each.address.adapter).__name__
            raise ConfigError(f"{name} knows no way to have prompts cached: leave prompt_cache out")
    return prefix


def stream_of(endpoints: Sequence[Endpoint], given: bool | Stream | Mapping[str, Any]) -> Stream | None:
    """Return how answers are streamed; None when they are not.

    Args:
        endpoints: where calls go.
        given: see `Stream.of`.

    Raises:
        ConfigError: when it is nothing of that kind, or one of the endpoints cannot stream.
    """
    found = Stream.of(given)
    for each in endpoints if found is not None else ():
        if each.address.adapter.streaming() is None:
            name = type(each.address.adapter).__name__
            raise ConfigError(f"{name} does not say how its API streams: leave stream out")
    return found


def checked_params(params: Mapping[str, Any] | None, *, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return fields of a request as a dict of their own.

    Args:
        params: as the user gave them.
        without: more fields that the operator sets itself.

    Raises:
        ConfigError: when they are no JSON object, or hold what the operator sets itself.
    """
    if params is not None and not isinstance(params, Mapping):
        raise ConfigError(f"params must be a dict, not {params!r}")
    result = dict(params or {})
    for key in (*RESERVED_PARAMS, *without):
        if key in result:
            raise ConfigError(f"params may not hold {key!r}: the operator sets it")
    try:
        dumps(result)
        json.dumps(result, allow_nan=False, default=str)  # NaN, which orjson writes as null
    except (TypeError, ValueError) as error:
        raise ConfigError(f"params must be JSON data: {error}") from error
    return result


_SORTED = orjson.OPT_SORT_KEYS
