"""`Engine`: the same as a dict of its names; what of it is part of a resume; what it cannot go with."""

from __future__ import annotations

from typing import Any

import pytest

from llm_datagen import ConfigError
from llm_datagen.llm import Budget, Endpoint, Engine, LLMOperator, Prices
from llm_datagen.llm.endpoints import identity_of
from llm_datagen.llm.http.providers.openai import OpenAIAdapter


def operator(**given: Any) -> LLMOperator:
    return LLMOperator("{{ q }}", **{"model": "/models/m.gguf", **given})


def test_an_engine_is_the_same_as_a_dict_of_its_names_or_its_kind() -> None:
    typed, plain, kind = (
        operator(engine=each) for each in (Engine(kind="llama", workers=2), {"kind": "llama", "workers": 2}, "llama")
    )
    assert typed.endpoints == plain.endpoints
    assert kind.endpoints[0].engine == Engine(kind="llama")
    pool = LLMOperator("{{ q }}", endpoints=[Endpoint(model="/models/m.gguf", engine="llama"), {"model": "m"}])
    assert pool.endpoints[0].engine == Engine(kind="llama")


def test_an_engine_stands_where_an_endpoint_does_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of-openai")
    (endpoint,) = operator(engine="llama", budget=Budget(usd=1, tokens=9), params={"max_tokens": 5}).endpoints
    assert (endpoint.address.label, endpoint.address.host) == ("engine://llama/m.gguf", "llama")
    assert endpoint.prices == Prices(input=0, output=0)
    assert operator(engine="llama", prices={"input": 1, "output": 2}).endpoints[0].prices == {"input": 1, "output": 2}
    assert "engine://llama/m.gguf" in repr(operator(engine="llama"))
    assert endpoint.key() is None


def test_what_changes_answers_is_part_of_a_resume_and_of_the_cache_and_nothing_else_is() -> None:
    model = operator(base_url="http://localhost:1/v1")
    moved = Engine(kind="llama", path="/elsewhere/m.gguf", workers=3, threads=2, batch_size=8, context=99)
    for same in (operator(engine="llama"), operator(engine=moved)):
        assert same.fingerprint() == model.fingerprint()  # a server of the model may become an engine, and back
        assert identity_of(same.endpoints) == "/models/m.gguf"
    # Asked for JSON in another way, another library is another adapter.
    assert operator(engine="transformers").fingerprint()["adapter"] == "PromptAdapter"
    for other in (Engine(kind="llama", chat_template="{{ x }}"), Engine(kind="llama", options={"rope_freq_base": 1})):
        changed = operator(engine=other)
        assert set(changed.fingerprint()) - set(model.fingerprint()) == {"engine"}
        assert identity_of(changed.endpoints) != "/models/m.gguf"


def test_devices_make_a_worker_each() -> None:
    assert Engine(kind="llama", devices=["0,1", "2,3"]).workers == 2
    numbers: Any = [0, 1]
    assert Engine(kind="llama", devices=numbers).devices == ("0", "1")
    assert [Engine(kind=kind).calls_at_once for kind in ("llama", "transformers", "vllm")] == [4, 16, 256]
    assert Engine(kind="llama", threads=3).threads_of_worker == 3
    assert Engine(kind="llama", workers=1000).threads_of_worker == 1


def test_a_path_of_this_machine_is_absolute_and_a_name_on_a_hub_is_left(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert Engine(kind="llama").model_path("m.gguf") == str(tmp_path / "m.gguf")
    assert Engine(kind="llama", path="/x/y.gguf").model_path("any") == "/x/y.gguf"
    assert Engine(kind="module:Name").model_path("folder") == str(tmp_path / "folder")
    assert Engine(kind="module:Name").model_path("org/name") == "org/name"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: Engine(kind="ollama"),
            "engine must be 'llama', 'transformers', 'vllm' or 'module:Name', not 'ollama'",
        ),
        (lambda: operator(engine={"workers": 2}), "engine must say 'kind'"),
        (lambda: operator(engine=3), "engine must be an Engine or a dict, not 3"),
        (lambda: Engine(kind="llama", worker=2), "Engine has no setting 'worker'; did you mean 'workers'?"),  # type: ignore[call-arg]
        (lambda: Engine(kind="llama", workers=0), r"engine\['workers'\] must be"),
        (lambda: Engine(kind="llama", devices="0,1"), r"engine\['devices'\] must be a list such as \['0', '1'\]"),
        (lambda: Engine(kind="llama", devices=["0", "1"], workers=3), "2 devices and 3 workers: leave workers out"),
        (lambda: Engine(kind="llama", options={"a": object()}), r"engine\['options'\] must be JSON data"),
        (lambda: Engine(kind="llama", start_timeout=0), r"engine\['start_timeout'\] must be"),
        (lambda: operator(engine="llama", base_url="http://x/v1"), "give engine or base_url, not both"),
        (lambda: operator(engine="llama", api_key="k"), "give engine or api_key, not both"),
        (lambda: operator(engine="llama", adapter="gemini"), "give engine or adapter, not both"),
        (lambda: operator(engine="llama", adapter=OpenAIAdapter()), "give engine or adapter, not both"),
        (lambda: operator(engine="llama", stream=True), "give engine or stream, not both"),
        (lambda: operator(engine="llama", batch_api=True), "give engine or batch_api, not both"),
        (
            lambda: LLMOperator("q", engine="llama", endpoints=[{"model": "m"}]),
            "give engine or endpoints, not both: in a pool, engine is said of each endpoint",
        ),
    ],
)
def test_a_wrong_engine_is_refused_where_it_is_made(make: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()
