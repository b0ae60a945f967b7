"""How answers are drawn: params by the columns of a row, and seeds."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import ConfigError
from llm_datagen.llm import Endpoint, LLMOperator, LLMRequestError, PromptError
from llm_datagen.llm.http.adapters import BUILT_IN, adapter_of
from llm_datagen.llm.sampling.params import Params
from llm_datagen.llm.types import ChatRequest
from llm_datagen.testing import FakeLLMServer

from ..kit.support import lines, write_jsonl
from .chat_server import ChatServer, Context, Reply, completion, run_rows

ROW = {"_i": 5, "q": "hi", "t": 0.7, "m": 20, "stops": ["a", "b"], "gap": None, "deep": {"on": True}}


def sent(server: ChatServer, params: Any, row: Any = ROW, **options: Any) -> dict[str, Any]:
    """Return what a row sends besides model and messages."""
    asyncio.run(run_rows(server.operator(params=params, **options), [dict(row)]))
    body = server.seen[-1].body
    return {name: value for name, value in body.items() if name not in ("model", "messages")}


def test_a_template_that_is_one_expression_gives_the_value_and_any_other_a_text(server: ChatServer) -> None:
    params = {
        "temperature": "{{ t }}",
        "max_tokens": " {{ m * 2 }} ",
        "stop": "{{ stops }}",
        "flag": "{{ deep.on }}",
        "whole": "{{ deep }}",
        "text": "{{ q }}-{{ m }}",
        "chosen": "{% if t > 0.5 %}hot{% else %}cold{% endif %}",
        "inner": {"list": [1, "{{ t }}", {"x": "{{ m }}"}], "plain": "p"},
        "left_out": "{{ gap }}",
        "kept": None,
    }
    assert sent(server, params) == {
        "temperature": 0.7,
        "max_tokens": 40,
        "stop": ["a", "b"],
        "flag": True,
        "whole": {"on": True},
        "text": "hi-20",
        "chosen": "hot",
        "inner": {"list": [1, 0.7, {"x": 20}], "plain": "p"},
        "kept": None,
    }


def test_of_a_text_that_is_no_number_there_is_no_number(server: ChatServer) -> None:
    """Cells of CSV are texts, also empty ones. Jinja2's own filters would make a 0 of all that is no number."""
    row = {"_i": 5, "q": "hi", "t": " 0.7", "n": "12", "empty": "", "gap": None, "word": "hot"}
    params = {
        "temperature": "{{ t | float }}",
        "max_tokens": "{{ n | int }}",
        "top_p": "{{ empty | float }}",
        "top_k": "{{ gap | int }}",
        "min_p": "{{ empty | float(0.5) }}",
        "seed": "{{ word | int(default=3) }}",
    }
    assert sent(server, params, row) == {"temperature": 0.7, "max_tokens": 12, "min_p": 0.5, "seed": 3}
    for name in ("float", "int"):
        with pytest.raises(PromptError) as caught:
            sent(server, {"top_p": f"{{{{ word | {name} }}}}"}, row)
        assert str(caught.value) == (
            f"the param 'top_p' of row 5 cannot be made: the filter {name} got what is no number: say what stands for "
            f"it, {name}(default=1)"
        )
    with pytest.raises(PromptError, match="the param 'top_p' of row 5 is null"):
        sent(server, {"top_p": "{{ empty | float }}"}, row, null="error")


def test_texts_that_are_no_templates_stay_as_they_are(server: ChatServer) -> None:
    params = {
        "stop": ["{{", "}}", "{%", "a{{2}}", "{# no #}"],
        "regex": "[a-z]{2,3}",
        "grammar": 'root ::= "{" x "}"',
        "text": "{{ '{{ t }}' }}",
        "object": '{"a": {"b": {}}, "c": {d}}',
        "tools": [{"type": "function", "function": {"name": "f", "description": "Fills {{ t }} in."}}],
    }
    assert sent(server, params) == params
    assert sent(server, {"stop": "{% set x = '{{ t }}' %}{{ x }}"}) == {"stop": "{{ t }}"}


def test_an_error_names_row_param_and_column(server: ChatServer) -> None:
    cases: dict[str, tuple[Any, str]] = {
        "name": ({"temperature": "{{ temp }}"}, "the param 'temperature' of row 5 uses an undefined name: 'temp'"),
        "deep": ({"a": {"b": ["{{ x.y }}"]}}, r"the param 'a.b\[0\]' of row 5 uses an undefined name: 'x'"),
        "type": ({"top_p": "{{ q / 2 }}"}, "the param 'top_p' of row 5 cannot be made: TypeError in the template"),
        "data": ({"top_p": "{{ stops.append }}"}, "the param 'top_p' of row 5"),
        "lazy": ({"stop": "{{ stops | map('upper') }}"}, "the param 'stop' of row 5 is no JSON data"),
        "not a number": (
            {"top_p": "{{ 'nan' | float + stops | length }}"},
            "the param 'top_p' of row 5 is no JSON data",
        ),
        "infinite": ({"a": "{{ {'b': [stops | length / 1e-320]} }}"}, "the param 'a' of row 5 is no JSON data"),
    }
    for params, message in cases.values():
        with pytest.raises(PromptError, match=message):
            sent(server, params)
    assert not server.seen
    with pytest.raises(PromptError, match="the param 'temperature' of row 5 is null"):
        sent(server, {"temperature": "{{ gap }}"}, null="error")
    with pytest.raises(ConfigError, match="the param 'temperature' is not a Jinja2 template: line 1"):
        LLMOperator("x", model="m", params={"temperature": "{{ my temp }}"})
    for text in ("{{ t }", "{ t }}", "{{ t | float", "a {{ q }", "{% if t }"):
        with pytest.raises(ConfigError, match=r"the param 'a\.b\[0\]' is not a Jinja2 template") as caught:
            LLMOperator("x", model="m", params={"a": {"b": [text]}})
        assert f", and looks like one: {text!r}; write" in str(caught.value)
    with pytest.raises(ConfigError, match="and looks like one"):
        Endpoint(model="m", params={"top_p": "{{ t }"})
    with pytest.raises(ConfigError, match="an endpoint of model 'm' may have no template in its params, as 'top_p' is"):
        Endpoint(model="m", params={"top_p": "{{ t }}"})


def test_what_the_provider_refuses_fails_the_row_alone(server: ChatServer) -> None:
    def reply(seen: Any) -> Reply:
        if seen.body["temperature"] > 2:
            return Reply({"error": {"message": "temperature is too high", "param": "temperature"}}, 400)
        return Reply(completion("yes"))

    server.reply = reply
    rows = [{**ROW, "_i": 1, "t": 3}, {**ROW, "_i": 2, "t": 1}]
    operator = server.operator(params={"temperature": "{{ t }}"}, outage_after=60)
    with pytest.raises(LLMRequestError, match=r"row 1: .*temperature is too high.*check model, params"):
        asyncio.run(run_rows(operator, rows[:1]))
    (made,) = asyncio.run(run_rows(operator, rows[1:]))
    assert made["answer"] == "yes"


def test_rows_with_other_params_have_answers_of_their_own_in_the_cache(server: ChatServer, tmp_path: Path) -> None:
    operator = server.operator(params={"temperature": "{{ t }}"}, cache=str(tmp_path / "c.db"))
    rows = [{**ROW, "_i": number, "t": t} for number, t in enumerate((0.1, 0.2, 0.1))]
    asyncio.run(run_rows(operator, rows))
    assert [seen.body["temperature"] for seen in server.seen] == [0.1, 0.2]


def test_a_budget_counts_the_limit_of_each_row(server: ChatServer) -> None:
    ctx = Context()
    options: dict[str, Any] = {"params": {"max_tokens": "{{ m }}"}, "budget": {"tokens": 500}}
    operator = server.operator(**options)
    (made,) = asyncio.run(run_rows(operator, [dict(ROW)], ctx))
    assert made["answer"] == "yes"
    with pytest.raises(Exception, match=r"budget of 500 tokens is reached: .*the next call can take up to 1,\d\d\d"):
        asyncio.run(run_rows(server.operator(**options), [{**ROW, "m": 1000}], ctx))
    for wrong in (None, "20", 0, 2.5, True):
        with pytest.raises(PromptError, match="the param 'max_tokens' of row 5 must be a whole number above 0"):
            asyncio.run(run_rows(server.operator(**options), [{**ROW, "m": wrong}], ctx))
    assert len(server.seen) == 1
    with pytest.raises(ConfigError, match="budget needs a limit of the answers"):
        server.operator(params={"temperature": "{{ t }}"}, budget={"tokens": 500})


def test_the_fingerprint_has_the_template_and_templates_can_be_pickled() -> None:
    def parts(params: Any, **options: Any) -> Any:
        return LLMOperator("x", model="m", params=params, **options).fingerprint()

    # Not by the name of a text that is sent as it is, as versions that knew no templates did with every one.
    made = parts({"temperature": "{{ t }}", "stop": "{{ 'a' }}"})
    assert made["params.temperature, a template"].endswith("'{{ t }}'")
    assert [name for name in made if name.startswith("params")] == ["params.temperature, a template", "params.stop"]
    assert parts({"temperature": "{{ t }}"}) != parts({"temperature": "{{ u }}"})
    assert parts({"temperature": 0}) == parts({"temperature": 0}, seed=None)
    params = pickle.loads(pickle.dumps(Params({"temperature": "{{ t }}", "a": {"b": "{{ q }}!"}})))
    assert params.of(ROW) == {"temperature": 0.7, "a": {"b": "hi!"}}


def test_every_sample_of_every_row_has_a_seed_of_its_own_that_stays(server: ChatServer) -> None:
    def seeds(seed: int, rows: list[Any]) -> list[int]:
        server.seen.clear()
        asyncio.run(run_rows(server.operator(seed=seed, n=2), rows))
        return [seen.body["seed"] for seen in server.seen]

    rows = [{"_i": number, "q": "hi"} for number in range(3)]
    made = seeds(7, rows)
    assert (len(set(made)), all(0 <= seed < 1 << 31 for seed in made)) == (6, True)
    assert sorted(seeds(7, rows)) == sorted(made)
    assert not set(seeds(8, rows)) & set(made)
    assert sorted(seeds(7, [{**rows[1], "q": "other"}])) == sorted(made[2:4])
    assert sorted(seeds(7, [{"q": "a"}])) != sorted(seeds(7, [{"q": "b"}]))


def test_the_seed_of_a_row_is_known(server: ChatServer) -> None:
    """What a run asked is asked by a resume with a later version, too."""
    asyncio.run(run_rows(server.operator(seed=7), [{"_i": "row-1", "q": "hi"}]))
    assert server.seen[0].body["seed"] == SEED_OF_ROW_1


SEED_OF_ROW_1 = 1164613785


def test_an_api_without_seeds_refuses_them_by_name() -> None:
    takes = {name for name in BUILT_IN if adapter_of(name).takes_seed}
    assert takes == set(BUILT_IN) - {"openai-responses", "anthropic", "bedrock"}
    with pytest.raises(ConfigError, match="AnthropicAdapter speaks an API that takes no seeds: leave seed out"):
        LLMOperator("x", model="m", adapter="anthropic", seed=7)
    with pytest.raises(ConfigError, match="a seed is in params and in seed"):
        LLMOperator("x", model="m", params={"seed": 1}, seed=7)
    with pytest.raises(ConfigError, match="seed must be a whole number"):
        LLMOperator("x", model="m", seed=0.5)  # type: ignore[arg-type]
    where = {name: adapter_of(name).body(ChatRequest(messages=[], params={"seed": 9}, model="m")) for name in takes}
    assert where["gemini"]["generationConfig"]["seed"] == where["ollama"]["options"]["seed"] == 9
    assert where["mistral"]["random_seed"] == where["vllm"]["seed"] == where["azure"]["seed"] == 9


def test_a_run_anew_with_a_seed_gets_the_same_answers(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"q": "one"}, {"q": "one"}])
    made = []
    for number in range(2):
        with FakeLLMServer() as fake:
            operator = LLMOperator("{{ q }}", model="m", base_url=fake.base_url, seed=3, n=2)
            out = tmp_path / f"out-{number}.jsonl"
            pipeline = UnifiedPipeline(
                [operator], f"jsonl://{tmp_path / 'in.jsonl'}", f"jsonl://{out}", results_dir=str(tmp_path / "r")
            )
            pipeline.create(f"run-{number}").run()
            made.append(sorted(row["answer"] for row in lines(out)))
    assert made[0] == made[1]
    assert len(set(made[0])) == 4
