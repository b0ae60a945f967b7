"""`Budget`, `Prices` and `Endpoint`: the same as the dicts with their names, checked when they are made."""

from __future__ import annotations

import asyncio
import inspect
import json
import pickle
from dataclasses import asdict
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from llm_datagen import ConfigError, DataConfig, LogFile, WriterConfig
from llm_datagen.llm import Budget, Endpoint, LLMOperator, Prices
from llm_datagen.llm.grants.environment import ServiceAddress
from llm_datagen.llm.secret import Secret

from .chat_server import ChatServer, run_rows

MANY = {"max_tokens": 100}


@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ({"budget": Budget(usd=5.0)}, {"budget": {"usd": 5.0}}),
        ({"budget": Budget(tokens=7, image_tokens=9)}, {"budget": {"tokens": 7, "image_tokens": 9}}),
        ({"prices": Prices(input=1, output=2)}, {"prices": {"input": 1, "output": 2}}),
        (
            {"prices": Prices(input=1, output=2, cached_input=0.5)},
            {"prices": {"input": 1, "output": 2, "cached_input": 0.5}},
        ),
    ],
)
def test_an_option_is_the_same_as_a_dict_of_its_names(typed: dict[str, Any], plain: dict[str, Any]) -> None:
    given = {"model": "m", "params": MANY, "prices": {"input": 1, "output": 2}}
    one, other = (LLMOperator("{{ q }}", **{**given, **options}) for options in (typed, plain))
    assert one.budget == other.budget
    assert Prices.of(one.endpoints[0].prices or {}) == Prices.of(other.endpoints[0].prices or {})
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.integration
def test_an_endpoint_is_the_same_as_a_dict_of_its_names(server: ChatServer) -> None:
    named: dict[str, Any] = {"model": "m", "base_url": server.base_url, "api_key": "secret-key", "weight": 2.0}
    typed, plain = (LLMOperator("{{ q }}", endpoints=[each]) for each in (Endpoint(**named), named))
    assert typed.endpoints == plain.endpoints
    assert typed.fingerprint() == plain.fingerprint()
    assert "secret-key" not in repr(typed.endpoints)
    row = {"id": "0", "q": "?"}
    assert asyncio.run(run_rows(typed, [row])) == asyncio.run(run_rows(plain, [row]))


def test_the_key_of_the_environment_is_not_sent_to_an_endpoint_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of-openai")
    elsewhere = Endpoint(model="m", base_url="https://elsewhere.example/v1")
    assert elsewhere.key() is Endpoint.of({"model": "m", "base_url": "https://elsewhere.example/v1"}).key() is None
    assert [each.get_secret_value() for each in (Endpoint(model="m").key(),) if each] == ["of-openai"]


@pytest.mark.parametrize("given", ["  of-mine ", SecretStr(" of-mine"), Secret("of-mine")], ids=type)
def test_a_key_is_wrapped_whatever_it_comes_in(given: Any) -> None:
    endpoint = Endpoint(model="m", base_url="http://h", api_key=given)
    key = endpoint.key()
    assert key == Secret("of-mine")
    assert key is not None
    assert key.get_secret_value() == "of-mine"
    assert pickle.loads(pickle.dumps(key)) == key
    address = ServiceAddress("http://h", key)
    assert "of-mine" not in f"{endpoint} {key!r} {key} {address} {asdict(address)} {json.dumps([key], default=str)}"
    with pytest.raises(TypeError, match="not JSON serializable"):
        orjson.dumps(key)


@pytest.mark.parametrize("given", [7, b"of-mine", ["of-mine"], 0, b"", False, SecretStr], ids=repr)
def test_a_key_that_is_no_text_is_refused_and_not_shown(given: Any) -> None:
    with pytest.raises(ConfigError, match=f"^api_key must be a text, not a value of type {type(given).__name__}$"):
        Endpoint(model="m", base_url="http://h", api_key=given)


@pytest.mark.parametrize("given", ["of-mine", ["of-mine"], SecretStr], ids=repr)
def test_what_is_no_endpoint_is_refused_and_not_shown(given: Any) -> None:
    message = f"^an endpoint must be an Endpoint or a dict, not a value of type {type(given).__name__}$"
    with pytest.raises(ConfigError, match=message):
        LLMOperator("x", endpoints=[given])


def test_endpoints_that_are_no_list_are_refused_and_their_key_is_not_shown() -> None:
    given: Any = {"model": "m", "api_key": "of-mine"}
    with pytest.raises(ConfigError, match=r"^endpoints must be a list of endpoints .*, not a value of type dict$"):
        LLMOperator("x", endpoints=given)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Budget, "a cap"),
        (lambda: Budget(usd=0), "above 0"),
        (lambda: Budget(tokens=0), "budget"),
        (lambda: Budget(usd="5"), "usd.*not '5'"),  # type: ignore[arg-type]
        (lambda: Budget(usd=10**400), r"budget\['usd'\].*at most.*not a number of 1329 bits"),
        (lambda: Budget(usd=10**5000), "a number of 16610 bits"),
        (lambda: Budget(tokens=10**400), r"budget\['tokens'\] must be at most"),
        (lambda: Prices(input="1", output=1), "prices.*not '1'"),  # type: ignore[arg-type]
        (lambda: Prices(input=10**400, output=1), r"prices\['input'\].*not a number of 1329 bits"),
        (lambda: Endpoint(model="m", weight=10**400), "weight must be at most"),
        (lambda: Endpoint(model="m", requests_per_minute=10**400), "requests_per_minute must be at most"),
        (lambda: Endpoint(model="m", timeout=10**400), "timeout must be at most 1,000,000,000,"),
        (lambda: LLMOperator("q", model="m", retry_wait=10**400), "retry_wait must be at most"),
        (lambda: LLMOperator("q", model="m", outage_after=10**400), "outage_after must be at most"),
        (lambda: LLMOperator("q", model="m", max_retries=10**400), "max_retries must be at most"),
        (lambda: Prices(input=-1, output=1), "prices"),
        (lambda: Prices(input=1, output=10**9), "per million tokens"),
        (lambda: Endpoint(model=""), "name of a model"),
        (lambda: Endpoint(model="m", weight=0), "weight"),
        (lambda: Endpoint(model="m", timeout=-1), "timeout"),
    ],
)
def test_a_wrong_option_is_refused_where_it_is_made(make: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Budget(dollars=5), "Budget has no setting 'dollars'; known are usd, tokens, image_tokens"),  # type: ignore[call-arg]
        (lambda: Budget(token=5), "Budget has no setting 'token'; did you mean 'tokens'?"),  # type: ignore[call-arg]
        (lambda: Budget(5), "Budget takes its settings by name only: usd, tokens, image_tokens"),  # type: ignore[call-arg]
        (lambda: Prices(input=1), "Prices must say 'output'"),  # type: ignore[call-arg]
        (lambda: Endpoint(modle="m"), "Endpoint has no setting 'modle'; did you mean 'model'?"),  # type: ignore[call-arg]
        (lambda: Endpoint(weight=2), "Endpoint must say 'model'"),  # type: ignore[call-arg]
        (lambda: LLMOperator("p", modle="m"), "LLMOperator has no setting 'modle'; did you mean 'model'?"),  # type: ignore[call-arg]
        (lambda: LLMOperator(model="m"), "LLMOperator must say 'prompt'"),  # type: ignore[call-arg]
        (lambda: LLMOperator("p", prompt="p"), "LLMOperator is given prompt twice"),  # type: ignore[misc]
        (lambda: OfSubclass("p", modle="m"), "OfSubclass has no setting 'modle'; did you mean 'model'?"),
        (lambda: WriterConfig(queue=1), "WriterConfig has no setting 'queue'; did you mean 'queue_size'?"),  # type: ignore[call-arg]
        (lambda: DataConfig(nans=1), "DataConfig has no setting 'nans'; did you mean 'nan'?"),  # type: ignore[call-arg]
        (lambda: LogFile("x", backup=1), "LogFile has no setting 'backup'; did you mean 'backups'?"),  # type: ignore[call-arg]
    ],
)
def test_an_argument_that_is_not_taken_is_refused_with_the_nearest(make: Any, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make()
    assert str(refused.value) == says


def test_the_signature_of_a_checked_constructor_is_its_own() -> None:
    assert list(inspect.signature(Budget).parameters) == ["usd", "tokens", "image_tokens"]
    assert {"prompt", "model"} <= set(inspect.signature(LLMOperator).parameters)
    assert pickle.loads(pickle.dumps(Budget(usd=5))) == Budget(usd=5.0)


class OfSubclass(LLMOperator):
    """Passes on what it is given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
