"""The engine 'vllm' against a stand-in of the package: vLLM needs a GPU. The stand-in has its names and arguments."""

from __future__ import annotations

import ast
import asyncio
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError
from llm_datagen.llm import LLMAnswerError, LLMOperator, LLMRequestError

from ..chat_server import Context, run_rows
from .scripted import are_gone

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FAKE = Path(__file__).with_name("fake_vllm")


def real_source() -> Path | None:
    """Return where the package itself is, if it is installed; it is read, not imported."""
    found = find_spec("vllm")
    return None if found is None or found.origin is None else Path(found.origin).parent


REAL = real_source()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of the stand-in, which workers import in the place of the package."""
    monkeypatch.syspath_prepend(str(FAKE))
    path = tmp_path / "m"
    path.mkdir()
    (path / "config.json").write_text('{"context": 40}')
    return path


def operator(folder: Path, *, engine: dict[str, Any] | None = None, **given: Any) -> LLMOperator:
    return LLMOperator("{{ q }}", model=str(folder), engine={"kind": "vllm", **(engine or {})}, max_repairs=0, **given)


def noted(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "notes").read_text().splitlines()]


@pytest.mark.process
def test_calls_go_to_the_engine_with_what_params_say_and_what_is_beyond_it_fails_the_row(folder: Path) -> None:
    params = {"max_tokens": 5, "temperature": 0, "stop": "END", "seed": 3}

    async def ask() -> list[Any]:
        made = operator(folder, engine={"options": {"dtype": "half"}, "context": 30}, params=params)
        wants = operator(folder, engine={"options": {"dtype": "half"}, "context": 30}, output=SCHEMA)
        await made.setup()
        await wants.setup()
        try:
            prompts = ["a b END c", "one two three four five six", "w " * 30, "die now"]
            calls = [made.process_item({"q": prompt}, ctx) for prompt in prompts]
            return await asyncio.gather(*calls, wants.process_item({"q": "x"}, ctx), return_exceptions=True)
        finally:
            await made.teardown()
            await wants.teardown()

    ctx = Context()
    stopped, cut, long, died, structured = asyncio.run(ask())
    assert stopped == {"q": "a b END c", "answer": "a b "}
    assert isinstance(cut, LLMAnswerError)
    assert cut.answer == "two three four five six"
    assert "was cut off at the token limit" in str(cut)
    assert isinstance(long, LLMRequestError)
    assert "the prompt has 30 tokens, and prompt and answer may have 30 together" in str(long)
    assert died == {"q": "die now", "answer": "die now"}  # once more, by an engine that was started again
    assert structured == {"q": "x", "n": 3}
    assert {"provider": "vllm", "requests": 1, "prompt_tokens": 4, "cached_tokens": 1}.items() <= ctx.usage[0].items()
    told = noted(folder)
    engines = [each for each in told if "core" in each]
    assert [(each["max_num_seqs"], each["dtype"]) for each in engines] == [(256, "half")] * 2
    assert are_gone([each["core"] for each in engines])
    first = next(each for each in told if each.get("asked") == "a b END c")
    expected = {"max_tokens": 5, "temperature": 0, "stop": ["END"], "seed": 3, "top_k": 20, "structured_outputs": None}
    assert {name: first[name] for name in expected} == expected
    of_schema = next(each for each in told if each.get("asked") == "x")
    assert of_schema["structured_outputs"]["json"]["required"] == ["n"]
    assert of_schema["max_tokens"] == 29  # what is left of the context


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"params": {"temperature": -1}}, "params: vLLM refuses them: temperature must be non-negative"),
        ({"params": {"tools": [{}]}}, "params: the engine 'vllm' does not know 'tools'"),
        (
            {"output": SCHEMA, "structured": "json_object"},
            "vLLM refuses them: structured outputs: json_obj",
        ),
    ],
)
def test_what_it_refuses_fails_the_row_by_name(folder: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(LLMRequestError, match=says) as refused:
        asyncio.run(run_rows(operator(folder, **given), [{"q": "x"}]))
    assert not refused.value.may_pass


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_told_before_any_row(folder: Path) -> None:
    (folder / "config.json").write_text('{"context": 40, "broken": true}')
    with pytest.raises(ConfigError, match=r"vLLM cannot load .*CUDA out of memory.*if memory is short"):
        asyncio.run(run_rows(operator(folder), []))
    with pytest.raises(ConfigError, match=r"vLLM cannot load .*unexpected keyword argument 'dtyp'"):
        asyncio.run(run_rows(operator(folder, engine={"options": {"dtyp": "half"}}), []))


def names_of(source: Path, module: str, path: str) -> set[str]:
    """Return the names in a class, or of the arguments of a function, as its source has them."""
    found: Any = ast.parse((source / module).read_text(encoding="utf-8"))
    for part in path.split("."):
        found = next(each for each in found.body if getattr(each, "name", None) == part)
    if isinstance(found, ast.ClassDef):
        typed = [each.target for each in found.body if isinstance(each, ast.AnnAssign)]
        plain = [name for each in found.body if isinstance(each, ast.Assign) for name in each.targets]
        return {name.id for name in (*typed, *plain) if isinstance(name, ast.Name)}
    return {each.arg for each in (*found.args.args, *found.args.kwonlyargs)}


@pytest.mark.skipif(REAL is None, reason="vLLM is large and needs a GPU; where it is installed, its source is compared")
def test_the_stand_in_has_the_names_and_arguments_of_the_package() -> None:
    assert REAL is not None
    fake = FAKE / "vllm"
    for module, path in (
        ("sampling_params.py", "SamplingParams"),
        ("sampling_params.py", "StructuredOutputsParams"),
        ("sampling_params.py", "RequestOutputKind"),
        ("v1/engine/async_llm.py", "AsyncLLM.generate"),
        ("v1/engine/async_llm.py", "AsyncLLM.from_engine_args"),
        ("v1/engine/async_llm.py", "AsyncLLM.shutdown"),
        ("v1/engine/async_llm.py", "AsyncLLM.get_tokenizer"),
        ("v1/engine/exceptions.py", "EngineDeadError"),
        ("exceptions.py", "VLLMClientError"),
    ):
        assert names_of(fake, module, path) <= names_of(REAL, module, path), f"{module}: {path}"
    for ours, module, theirs in (
        ("AsyncEngineArgs", "engine/arg_utils.py", "EngineArgs"),
        ("TokensPrompt", "inputs/llm.py", "TokensPrompt"),
    ):
        assert names_of(fake, "__init__.py", ours) <= names_of(REAL, module, theirs), theirs
    for ours in ("CompletionOutput", "RequestOutput"):
        of_fake = names_of(fake, "v1/engine/async_llm.py", ours)
        of_real = names_of(REAL, "outputs.py", ours) or names_of(REAL, "outputs.py", f"{ours}.__init__")
        assert of_fake <= of_real, ours
    assert "get_diff_sampling_param" in (REAL / "config" / "model.py").read_text()
    assert sys.modules.get("vllm") is None, "it is read, not imported"
