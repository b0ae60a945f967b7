"""llama.cpp with the embedded model, in a worker process: what it answers, refuses, and says of bad files."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_datagen import ConfigError, Status
from llm_datagen.cli.target import find_target
from llm_datagen.llm import Engine, LLMAnswerError, LLMOperator, LLMRequestError
from llm_datagen.llm.engines import pool
from llm_datagen.llm.engines.embedded import MODEL

from ...demo.conftest import weights  # noqa: F401 - a fixture
from ...kit.support import lines
from ..chat_server import Context, run_rows

pytestmark = pytest.mark.model

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["bird", "fish"]}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["kind", "legs"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},  # else the answer may be of any length
}


def workers() -> list[psutil.Process]:
    """Return the workers that this process has started and not ended."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            found += [child] if "engines.serving" in " ".join(child.cmdline()) else []
    return found


async def asked(operator: LLMOperator, rows: list[dict[str, Any]], ctx: Context) -> list[Any]:
    """Ask about all rows at once; return rows and errors."""
    await operator.setup()
    try:
        return await asyncio.gather(*(operator.process_item(row, ctx) for row in rows), return_exceptions=True)
    finally:
        await operator.teardown()


@pytest.mark.slow
def test_it_answers_in_json_and_a_prompt_that_is_too_long_fails_by_name(weights: Path) -> None:  # noqa: F811
    assert weights.exists()
    rows = [{"q": "a sparrow"}, {"q": "a cod"}, {"q": "word " * 400}]
    ctx = Context()
    operator = LLMOperator(
        "What is {{ q }}?",
        model=MODEL,
        engine=Engine(kind="llama", context=256, batch_size=2),
        output=SCHEMA,
        params={"max_tokens": 40, "temperature": 0},
        budget={"usd": 0.01},
        meta=True,
    )
    *answered, error = asyncio.run(asked(operator, rows, ctx))
    # Its own word for the model is a path of this machine.
    assert [row["_meta"]["node_0"]["response_model"] for row in answered] == [None, None]
    assert all(row["kind"] in ("bird", "fish") and row["legs"] in range(10) for row in answered)
    assert isinstance(error, LLMRequestError)
    assert error.amounts_to == 413
    assert "the prompt has 4" in str(error)
    assert "tokens, and prompt and answer may have 256 together: raise context of the engine" in str(error)
    assert len([line for line in ctx.lines if "the engine 'llama' was loaded in" in line]) == 1
    assert ctx.usage[0].items() >= {"provider": "llama", "model": MODEL, "requests": 1, "cost": 0.0}.items()
    assert workers() == []


@pytest.mark.slow
def test_a_seed_says_the_same_again(weights: Path) -> None:  # noqa: F811
    said = []
    for seed in (1, 1, 2):
        engine = Engine(kind="llama", path=str(weights), batch_size=1, options={"cache_prompt": False})
        params = {"max_tokens": 60, "temperature": 1.5, "seed": seed, "stop": ["."]}
        operator = LLMOperator("Tell me of {{ q }}.", model=MODEL, engine=engine, params=params, output="said")
        said.append(asyncio.run(run_rows(operator, [{"q": "a storm at sea"}])))
    assert said[0] == said[1] != said[2]


@pytest.mark.slow
def test_answers_end_at_max_tokens_and_at_stop_words_and_two_nodes_load_it_once(weights: Path) -> None:  # noqa: F811
    async def ask() -> None:
        engine = Engine(kind="llama", path=str(weights), workers=2)
        cut, stopped = (
            LLMOperator("Count to one hundred in words.", model=MODEL, engine=engine, params=params)
            for params in ({"max_tokens": 2}, {"stop": ["e"], "temperature": 0})
        )
        await cut.setup()
        await stopped.setup()
        assert len(workers()) == 2
        with pytest.raises(LLMAnswerError, match="was cut off at the token limit"):
            await cut.process_item({}, Context())
        row = await stopped.process_item({}, Context())
        assert isinstance(row, dict)
        assert "e" not in row["answer"]
        await cut.teardown()
        assert len(workers()) == 2
        await stopped.teardown()
        assert workers() == []

    asyncio.run(ask())


@pytest.mark.slow
def test_a_call_that_takes_too_long_gives_its_slot_back(weights: Path) -> None:  # noqa: F811
    async def ask() -> None:
        engine = Engine(kind="llama", path=str(weights), batch_size=1, context=8000)
        long = LLMOperator(
            "{{ q }}", model=MODEL, engine=engine, timeout=1.0, max_retries=0, params={"ignore_eos": True}
        )
        short = LLMOperator("{{ q }}", model=MODEL, engine=engine, timeout=60.0, params={"max_tokens": 1})
        await long.setup()
        await short.setup()
        with pytest.raises(LLMRequestError, match="no answer within 1 s"):
            await long.process_item({"q": "Tell a story."}, Context())  # of 8,000 tokens: for more than a minute
        with pytest.raises(LLMAnswerError, match="was cut off"):
            await short.process_item({"q": "Hi."}, Context())
        await long.teardown()
        await short.teardown()

    asyncio.run(ask())


@pytest.mark.slow
def test_a_template_of_ones_own_makes_the_prompt(weights: Path) -> None:  # noqa: F811
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    plain, own = (
        LLMOperator(
            "Once upon a",
            model=MODEL,
            engine=Engine(kind="llama", chat_template=given),
            params={"max_tokens": 2, "temperature": 0},
        )
        for given in (None, template)
    )
    tokens = []
    for operator in (plain, own):
        ctx = Context()
        with pytest.raises(LLMAnswerError, match="was cut off"):
            asyncio.run(run_rows(operator, [{}], ctx))
        tokens.append(ctx.usage[0]["prompt_tokens"])
    assert tokens[1] < tokens[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no model file .*m.gguf: check model"),
        (b"PK\x03\x04", r"m.gguf is no GGUF file \(it begins with b'PK\\x03\\x04'\): llama.cpp reads GGUF only"),
        (5_000_000, r"llama.cpp cannot load .*If the file is incomplete .*not within the file bounds"),
        ("folder", r"m.gguf is a folder: name one of its files: part.gguf; a folder of safetensors is for"),
    ],
)
def test_a_bad_file_is_told_before_any_row(tmp_path: Path, weights: Path, content: Any, says: str) -> None:  # noqa: F811
    file = tmp_path / "m.gguf"
    if content == "folder":
        file.mkdir()
        (file / "part.gguf").touch()
    elif content is not None:
        with weights.open("rb") as whole:
            file.write_bytes(content if isinstance(content, bytes) else whole.read(content))
    with pytest.raises(ConfigError, match=f"(?s)engine 'llama': .*{says}"):
        asyncio.run(run_rows(LLMOperator("q", model=str(file), engine="llama"), []))
    assert workers() == []


def test_a_library_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "find_spec", lambda name: None)
    for kind in ("llama", "transformers", "vllm"):
        with pytest.raises(ConfigError, match=rf"needs the extra '{kind}' .*pip install 'llm-datagen\[{kind}\]'"):
            asyncio.run(run_rows(LLMOperator("q", model="m", engine=kind), []))


@pytest.mark.slow
def test_a_wrong_option_of_the_library_is_named(weights: Path) -> None:  # noqa: F811
    for options, says in (({"n_gpu_layer": 2}, "n_gpu_layer=2"), ({"cpuparams.n_threads": "x"}, "n_threads='x'")):
        engine = Engine(kind="llama", path=str(weights), options=options)
        with pytest.raises(ConfigError, match=f"engine options: llama.cpp does not take .*{says}"):
            asyncio.run(run_rows(LLMOperator("q", model="m", engine=engine), []))


def _addresses(process: psutil.Process) -> set[str]:
    return {str(each.laddr) for each in process.net_connections(kind="inet")}


@pytest.mark.slow
def test_the_recipe_asks_about_twenty_rows_without_any_http(
    tmp_path: Path,
    weights: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert weights.exists()
    shutil.copytree("examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    pipeline = find_target("examples/recipes/model_in_this_process.yaml").create(None, "overwrite")
    before = _addresses(psutil.Process())  # servers of other tests
    sockets: set[str] = set()
    pipeline.start()
    report = None
    while report is None:
        with contextlib.suppress(TimeoutError):
            report = pipeline.wait(0.1)
        for process in (psutil.Process(), *workers()):
            with contextlib.suppress(psutil.NoSuchProcess):
                sockets |= _addresses(process)
    assert (report.status, report.rows_out, report.failed) == (Status.COMPLETED, 20, 0)
    rows = lines(Path("tmp/recipes/model_in_this_process.jsonl"))
    assert len(rows) == 20
    assert all(row["sentiment"] in ("positive", "negative") for row in rows)
    assert sockets <= before
    assert workers() == []
