"""transformers with a tiny model whose weights are numbers by chance, made here: batches, params, seeds, bad folders.

Needs torch and transformers, which are too large for the tests' own environment: run by who changes the engine, in an
environment with ``pip install '.[test,transformers]'``.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, Status
from llm_datagen.llm import Engine, LLMAnswerError, LLMOperator, LLMRequestError
from llm_datagen.llm.engines.pool import join, leave

from ...kit.support import Bench, lines
from ..chat_server import Context, run_rows

REASON = "torch and transformers are large: see the head of the file"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)
tokenizers = pytest.importorskip("tokenizers", reason=REASON)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

CONTEXT = 96
ENGINE: dict[str, Any] = {"kind": "transformers", "options": {"dtype": "float32"}, "threads": 1, "batch_size": 4}
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of some thousand numbers, and a tokenizer with a token for each byte."""
    path = tmp_path_factory.mktemp("model")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: number for number, sign in enumerate([*alphabet, "<pad>", "<end>"])}
    plain = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<end>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.5,
        pad_token_id=vocabulary["<pad>"],
        eos_token_id=vocabulary["<end>"],
        bos_token_id=None,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module", autouse=True)
def _loaded(folder: Path) -> Iterator[None]:
    """Keep the model loaded from test to test: importing the library takes seconds."""
    pool = join(Engine(**ENGINE), str(folder))
    pool.load()
    yield
    leave(pool)


def operator(folder: Path, params: dict[str, Any], **given: Any) -> LLMOperator:
    engine = {**ENGINE, **given.pop("engine", {})}
    return LLMOperator("{{ q }}", model=str(folder), engine=engine, params=params, max_repairs=0, **given)


def texts_of(folder: Path, prompts: Sequence[str], params: dict[str, Any], **given: Any) -> list[Any]:
    """Return the answers, cut off or not, to prompts that are asked at once."""

    async def ask() -> list[Any]:
        made = operator(folder, params, **given)
        await made.setup()
        try:
            calls = [made.process_item({"q": prompt}, Context()) for prompt in prompts]
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await made.teardown()

    return [each.answer if isinstance(each, LLMAnswerError) else each["answer"] for each in asyncio.run(ask())]


def in_this_process(folder: Path, prompt: str, count: int) -> str:
    """Return what the library itself makes of a prompt, alone and without anything of ours."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = f"user: {prompt}\nassistant: "
    given = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    tokens = model.generate(**given, max_new_tokens=count, do_sample=False)
    return str(tokenizer.decode(tokens[0, given["input_ids"].shape[1] :], skip_special_tokens=True))


def test_a_batch_answers_as_the_library_does_alone_whatever_the_lengths(folder: Path) -> None:
    prompts = ["a", "some words", "a longer text than the others", "zz", "0123456789"]
    found = texts_of(folder, prompts, {"max_tokens": 12, "temperature": 0})
    assert found == [in_this_process(folder, prompt, 12) for prompt in prompts]


def test_a_seed_gives_the_same_answer_alone_and_in_any_batch(folder: Path) -> None:
    params = {"max_tokens": 12, "temperature": 0.9, "top_p": 0.9, "top_k": 40, "seed": 5}
    (alone,) = texts_of(folder, ["some words"], params)
    among = texts_of(folder, ["x", "some words", "a longer text than the others"], params)
    assert among[1] == alone
    assert texts_of(folder, ["some words"], {**params, "seed": 6}) != [alone]
    two = texts_of(folder, ["some words"] * 2, {"max_tokens": 20, "temperature": 1})
    assert two[0] != two[1]  # without a seed, each is by chance


def test_params_do_what_they_say(folder: Path) -> None:
    (greedy,) = texts_of(folder, ["q"], {"max_tokens": 20, "temperature": 0})
    assert texts_of(folder, ["q"], {"max_tokens": 20, "temperature": 1, "top_k": 1}) == [greedy]
    assert texts_of(folder, ["q"], {"max_tokens": 20, "temperature": 1, "top_p": 0}) == [greedy]
    assert texts_of(folder, ["q"], {"max_tokens": 20, "temperature": 1, "min_p": 1}) == [greedy]
    stop = greedy[3:5]
    (stopped,) = texts_of(folder, ["q"], {"max_tokens": 20, "temperature": 0, "stop": [stop, "never there"]})
    assert stopped == greedy[: greedy.index(stop)]


def test_the_tokens_that_may_come_next_are_those_of_the_library_and_come_as_often_as_they_are_likely() -> None:
    from transformers.generation import logits_process as library

    from llm_datagen.llm.engines.backends.sampling import Sample, Sampling

    tokens = torch.tensor([[3, 4, 7, 7, 5]])
    scores = torch.randn(1, 50, generator=torch.Generator().manual_seed(1))
    for params, processor in (
        ({"top_k": 5}, library.TopKLogitsWarper(5)),
        ({"top_p": 0.6}, library.TopPLogitsWarper(0.6)),
        ({"min_p": 0.2}, library.MinPLogitsWarper(0.2)),
        ({"temperature": 0.3, "top_p": 0.9}, lambda ids, s: library.TopPLogitsWarper(0.9)(ids, s / 0.3)),
    ):
        sampling = Sampling([Sample([3, 4], 9, **params)], 2, set(), str, "cpu")
        assert torch.isfinite(sampling.choose(tokens, scores)).equal(torch.isfinite(processor(tokens, scores)))
    plain: dict[str, Any] = {"temperature": 0}
    penalized = Sampling([Sample([3, 4], 9, **plain, repetition_penalty=1.5)], 2, set(), str, "cpu")
    expected = library.RepetitionPenaltyLogitsProcessor(1.5)(tokens, scores.clone())
    assert torch.allclose(penalized.choose(tokens, scores), expected)
    taken_off = Sampling([Sample([3, 4], 9, **plain, frequency_penalty=0.5, presence_penalty=1)], 2, set(), str, "cpu")
    less = scores - taken_off.choose(tokens, scores)
    assert {number: round(float(less[0, number]), 3) for number in (3, 4, 5, 7)} == {3: 0, 4: 0, 5: 1.5, 7: 2.0}
    likely = torch.tensor([[0.5, 0.3, 0.2]]).log()
    drawn = Sampling([Sample([], 9, seed=1)], 0, set(), str, "cpu")
    chosen = [int(drawn.choose(torch.empty(1, 0, dtype=torch.long), likely).argmax()) for _ in range(2000)]
    assert [abs(chosen.count(number) / 2000 - share) < 0.05 for number, share in enumerate((0.5, 0.3, 0.2))] == [
        True
    ] * 3


@pytest.mark.parametrize(
    ("prompt", "params", "says"),
    [
        ("w" * CONTEXT, {}, f"the prompt has 114 tokens, and prompt and answer may have {CONTEXT} together: raise"),
        ("q", {"logit_bias": {}}, "params: the engine 'transformers' does not know 'logit_bias'; it knows frequency_"),
        ("q", {"temperature": "hot"}, "params: temperature must be a number from 0 to 100, not 'hot'"),
        ("q", {"max_tokens": 0}, "params: max_tokens must be a whole number of at least 1, not 0"),
        ("q", {"stop": [""]}, r"params: stop must be a text or a list of texts, not \[''\]"),
    ],
)
def test_what_cannot_be_is_refused_by_name(folder: Path, prompt: str, params: dict[str, Any], says: str) -> None:
    with pytest.raises(LLMRequestError, match=says) as refused:
        asyncio.run(run_rows(operator(folder, params), [{"q": prompt}]))
    assert not refused.value.may_pass


def test_a_run_counts_tokens_costs_nothing_and_asks_for_json_in_words(folder: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.give([{"q": f"row {number}"} for number in range(20)])
    made = operator(folder, {"max_tokens": 4, "temperature": 0})
    report = bench.pipeline([made], parallel_size=16, on_error="dead_letter").create("run").run(progress=False)
    assert report.status is Status.COMPLETED
    (used,) = report.usage
    assert (used["provider"], used["requests"], used["cost"]) == ("transformers", 20, 0.0)
    letters = lines(Path(f"{bench.output}.errors.jsonl"))  # of signs by chance, few answers end by themselves
    assert len(letters) + report.rows_out == 20
    assert "was cut off at the token limit" in letters[0]["error"]["text"]
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    wide = operator(folder, {"max_tokens": 4}, output=schema)
    with pytest.raises(LLMRequestError, match=r"the prompt has [12],?[0-9]+ tokens"):  # the schema is in the prompt
        asyncio.run(run_rows(wide, [{"q": "q"}]))


def test_a_template_that_raises_fails_the_row(folder: Path) -> None:
    raising = "{{ raise_exception('roles must take turns') }}"
    with pytest.raises(LLMRequestError, match=r"the chat template refuses the messages: .*roles must take turns"):
        asyncio.run(run_rows(operator(folder, {}, engine={"chat_template": raising}), [{"q": "q"}]))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("gone", "there is no folder .*m: check model"),
        ("a file", "m is a file, and a folder as Hugging Face keeps models is needed"),
        ("no config", "m holds no model: there is no config.json in it"),
        ("cut", "transformers cannot load .*m: .*if a file is incomplete or damaged, fetch it again"),
        ("no template", "the tokenizer of .*m has no chat template: give chat_template"),
        ("long", f"context is 1,000 tokens, and .*m allows {CONTEXT}: lower it"),
    ],
)
def test_a_bad_folder_is_told_before_any_row(folder: Path, tmp_path: Path, damage: str, says: str) -> None:
    path = tmp_path / "m"
    if damage == "a file":
        path.touch()
    elif damage != "gone":
        shutil.copytree(folder, path)
    if damage == "no config":
        (path / "config.json").unlink()
    if damage == "cut":
        weights = path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:5000])
    if damage == "no template":
        (path / "chat_template.jinja").unlink(missing_ok=True)
        config = json.loads((path / "tokenizer_config.json").read_text())
        config.pop("chat_template", None)
        (path / "tokenizer_config.json").write_text(json.dumps(config))
    made = operator(path, {}, engine={"context": 1000} if damage == "long" else {})
    with pytest.raises(ConfigError, match=f"(?s)engine 'transformers': .*{says}"):
        asyncio.run(run_rows(made, []))


def test_a_batch_that_does_not_fit_the_memory_is_halved(folder: Path) -> None:
    assert Engine(kind="transformers").calls_at_once == 16
    from llm_datagen.llm.engines.backends.base import CallError, ModelSettings
    from llm_datagen.llm.engines.backends.transformers import TransformersBackend

    settings = ModelSettings(
        model="m",
        path=str(folder),
        calls_at_once=4,
        context=None,
        threads=1,
        chat_template=None,
        options={"dtype": "float32"},
    )

    async def ask(most: int) -> tuple[list[Any], list[int]]:
        backend = TransformersBackend(settings)
        await backend.open()
        generate, sizes = backend._generate_at_once, []

        def short_of_memory(batch: Any) -> None:
            sizes.append(len(batch))
            if len(batch) > most:
                raise torch.OutOfMemoryError
            generate(batch)

        backend._generate_at_once = short_of_memory  # type: ignore[method-assign]
        body = {"messages": [{"role": "user", "content": "q"}], "max_tokens": 3, "temperature": 0}
        calls = [backend.complete(body) for _ in range(4)]
        return await asyncio.gather(*calls, return_exceptions=True), sizes

    answers, sizes = asyncio.run(ask(2))
    assert sizes == [4, 2, 2]
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 1
    answers, sizes = asyncio.run(ask(0))
    assert isinstance(answers[0], CallError)
    assert answers[0].status == 413
