"""Every adapter is tried with the same cases, against a real HTTP server that speaks its API.

The page ``docs/reference/providers.md`` is made of the same table.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.llm import EndpointRefusedError, LLMAnswerError, LLMOperator, LLMRequestError, PromptError
from llm_datagen.llm.cost.known_prices import known_prices
from llm_datagen.llm.http.adapters import BUILT_IN, adapter_of
from llm_datagen.llm.http.providers.openai import OpenAIAdapter
from llm_datagen.llm.http.reading import inner
from llm_datagen.llm.limits import shared
from llm_datagen.llm.types import ChatRequest

from ..kit.support import lines, write_jsonl
from .chat_server import ChatServer, Context, Reply, run_rows
from .providers import APIS, CASES, GEMINI, RESPONSES, Api, Sent
from .providers.api import IMAGE, IMAGE_DATA, KEY, SCHEMA, TOOL, TOOL_TURNS, WAIT, WEB_IMAGE

PROMPT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be {{ how }}."},
    {"role": "user", "content": "{{ q }}", "images": ["{{ image }}"]},
    {"role": "assistant", "content": "A cat."},
    {"role": "user", "content": "And now?"},
]
ROW = {"_i": 3, "q": "What is it?", "how": "kind", "image": ""}


def look_up(q: str) -> str:
    """Looks it up."""
    return f"found {q}"


@dataclass
class Provider:
    """A server that speaks an API, and an environment that names it. With `streams`, answers are streamed."""

    api: Api
    server: ChatServer
    streams: bool = False
    ctx: Context = field(default_factory=Context)

    def ask(self, *answers: Sent, prompt: Any = PROMPT, row: Mapping[str, Any] = ROW, **options: Any) -> Any:
        """Return the row that comes out when the server gives these answers, and the last one from then on."""
        left = list(answers)

        def reply(_seen: Any) -> Reply:
            sent = left.pop(0) if len(left) > 1 else left[0]
            if not self.streams or sent.status != 200:
                return Reply(sent.body, sent.status, dict(sent.headers))
            if sent == self.api.failures["no_answer"]:
                return Reply("", pieces=[b"data: {}\n\n"])
            data = self.api.stream(sent.body)
            pieces = [data[at : at + 7] for at in range(0, len(data), 7)]
            return Reply("", pieces=pieces, headers={"Content-Type": self.api.stream_type, **sent.headers})

        self.server.reply = reply
        given = {"max_retries": 0, "outage_after": 0, "max_repairs": 0, "stream": self.streams, **options}
        operator = LLMOperator(prompt, model=self.api.model, adapter=self.api.adapter, **given)
        (made,) = asyncio.run(run_rows(operator, [dict(row)], self.ctx))
        return made

    def failure(self, case: str, error: type[Exception], **options: Any) -> Any:
        """Return the error of a row; it is of this type."""
        with pytest.raises(error) as caught:
            self.ask(self.api.failures[case], **options)
        return caught.value

    @property
    def body(self) -> dict[str, Any]:
        """The body of the last request."""
        return self.server.seen[-1].body


def found_in(part: Any, data: Any) -> bool:
    """Return whether a part stands somewhere in JSON data."""
    inside = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return bool(part == data) or any(found_in(part, each) for each in inside)


@pytest.fixture
def provider(server: ChatServer, api: Api, monkeypatch: pytest.MonkeyPatch) -> Provider:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "OPENAI_API_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(api.url_env, server.base_url.removesuffix("/v1") + api.base)
    monkeypatch.setenv(api.key_env, KEY)
    return Provider(api, server)


def check_request(provider: Provider, case: str) -> None:
    api = provider.api
    match case:
        case "text":
            made = provider.ask(api.answer, params={"temperature": 0.5, "max_tokens": 50})
            assert made == {**ROW, "answer": "yes"}
            (seen,) = provider.server.seen
            name, value = api.key_header
            path, fields = (api.stream_path, api.stream_fields) if provider.streams else (api.path, {})
            assert (seen.path, seen.headers[name], seen.body) == (path, value, {**api.request, **fields})
            assert KEY not in str([seen.path, seen.body])
        case "tool_turns":
            row = {"_i": 3, "held": TOOL_TURNS}
            assert provider.ask(api.answer, prompt=[{"placeholder": "held"}], row=row)["answer"] == "yes"
            assert api.tool_turns in provider.body.values()
        case "image" | "web_image":
            is_web = case == "web_image"
            assert provider.ask(api.answer, row={**ROW, "image": WEB_IMAGE if is_web else IMAGE})["answer"] == "yes"
            assert found_in(api.web_image if is_web else api.image, provider.body)
        case "schema":
            assert provider.ask(api.structured, output=SCHEMA)["mood"] == "good"
            assert {name: provider.body[name] for name in api.schema} == api.schema
        case "schema_refused":
            assert provider.ask(api.failures[case], api.structured, output=SCHEMA)["mood"] == "good"
            first, second = provider.server.seen
            assert all(first.body[name] == api.schema[name] != second.body.get(name) for name in api.schema)
            assert "mood" in str(second.body)
        case "schema_by_tool":
            assert api.tool_answer is not None
            assert provider.ask(api.tool_answer, output=SCHEMA, structured="tool")["mood"] == "good"
            assert {name: provider.body[name] for name in api.tool} == api.tool
        case "tool_calls":
            made = provider.ask(api.call, params={"tools": [TOOL]}, extra_columns={"tool_calls": "calls"})
            assert (made["answer"] or None, made["calls"]) == (None, api.calls)
            assert found_in("look_up", provider.body)
        case "tools":
            made = provider.ask(api.thoughtful_call, api.answer, tools=[look_up])
            assert made["answer"] == "yes"
            first, second = provider.server.seen
            (name,) = (name for name, value in second.body.items() if value != first.body[name])
            assert second.body[name] == [*first.body[name], *api.round]
        case "seed":
            provider.ask(api.answer, seed=7)
            assert isinstance(inner(provider.body, *api.seed), int)
        case "several":
            assert api.several is not None
            sent, where = api.several
            assert [row["answer"] for row in provider.ask(sent, n=2)] == ["yes", "no"]
            assert (inner(provider.body, *where), len(provider.server.seen)) == (2, 1)


def check_answer(provider: Provider, case: str) -> None:
    api = provider.api
    match case:
        case "reasoning":
            made = provider.ask(api.answer, extra_columns={"reasoning": "thoughts"})
            assert (made["thoughts"], made["answer"]) == ("hm", "yes")
        case "cached" | "reasoning_tokens":
            provider.ask(api.answer)
            used = {"provider": "127.0.0.1", "model": api.model, "requests": 1, **api.usage}
            assert provider.ctx.usage == [used]
            assert f"{case.removesuffix('_tokens')}_tokens" in used
        case "cut_off":
            assert "was cut off at the token limit" in str(provider.failure(case, LLMAnswerError))
        case "refusal":
            assert "is a refusal by the model" in str(provider.failure(case, LLMAnswerError))
        case "filtered_answer":
            assert "was withheld by the content filter" in str(provider.failure(case, LLMAnswerError))
        case "filtered_prompt":
            error = provider.failure(case, Exception)
            assert type(error) in (LLMAnswerError, LLMRequestError)
            assert ("content filter" in str(error), len(provider.server.seen)) == (True, 1)
        case "empty":
            assert "cannot be used: it is empty" in str(provider.failure(case, LLMAnswerError))


def check_failure(provider: Provider, case: str) -> None:
    api = provider.api
    again: dict[str, Any] = {"max_retries": 2, "retry_wait": 0.0001}
    match case:
        case "rate_limit":
            error = provider.failure(case, LLMRequestError)
            assert (error.amounts_to, error.retry_after, error.may_pass, error.is_free) == (429, WAIT, True, True)
        case "overload" | "no_answer":
            made = provider.ask(api.failures[case], api.answer, outage_after=60, **again)
            assert (made["answer"], len(provider.server.seen)) == ("yes", 2)
        case "bad_request":
            error = provider.failure(case, LLMRequestError, **again)
            assert (error.amounts_to, error.may_pass, len(provider.server.seen)) == (error.status, False, 1)
            assert "check model, params and the schema" in str(error) or error.status == 422
        case "too_long":
            error = provider.failure(case, LLMRequestError, **again)
            assert (error.status, error.amounts_to, len(provider.server.seen)) == (400, 413, 1)
            assert "the prompt is too long" in str(error)
        case "wrong_key":
            error = provider.failure(case, EndpointRefusedError, **again)
            assert f"check api_key, or the environment variable {api.key_env}" in str(error)
            shown = "".join(traceback.format_exception(error)) + repr(vars(error)) + "".join(provider.ctx.lines)
            assert not any(KEY[at : at + 8] in shown for at in range(len(KEY) - 7))
        case "unknown_model":
            assert provider.failure(case, EndpointRefusedError, **again).amounts_to == 404


def is_sibling(api: Api) -> bool:
    """Return whether an API is OpenAI's chat completions at another address, or with a few other names."""
    return api.adapter != "openai" and isinstance(adapter_of(api.adapter), OpenAIAdapter)


def slow_siblings(*fast: str) -> list[Any]:
    """Return all APIs; those that are tried by others, too, are slow, and all but the `fast` ones, if any is named."""
    names = fast or [api.adapter for api in APIS if not is_sibling(api)]
    return [pytest.param(api, id=api.adapter, marks=[] if api.adapter in names else [pytest.mark.slow]) for api in APIS]


@pytest.mark.integration
@pytest.mark.parametrize("api", slow_siblings())
def test_an_adapter_does_what_its_page_says(provider: Provider, api: Api) -> None:
    assert set(api.lacks) <= set(CASES)
    try_cases(provider, api)


@pytest.mark.integration
@pytest.mark.parametrize("api", slow_siblings("anthropic"))
def test_an_adapter_does_the_same_when_its_answers_are_streamed(provider: Provider, api: Api) -> None:
    assert "stream" not in api.lacks
    try_cases(replace(provider, streams=True), api)


def try_cases(provider: Provider, api: Api) -> None:
    """Try all that an API has."""
    for case in CASES:
        if case in api.lacks:
            assert case not in api.failures
            continue
        if case == "stream":  # that is every case, in a test of its own
            continue
        provider.server.seen.clear()
        shared._limiters.clear()  # what one case was told to wait does not hold up the next one
        try:
            for check in (check_request, check_answer, check_failure):
                check(replace(provider, ctx=Context()), case)
        except BaseException as error:
            error.add_note(f"in the case {case!r}: {CASES[case]}")
            raise
        assert provider.server.seen, f"nothing was tried of {case!r}"


def test_all_adapters_are_tried() -> None:
    by_library = [name for name in BUILT_IN if adapter_of(name).library]
    assert [api.adapter for api in APIS] == [name for name in BUILT_IN if name not in by_library]
    assert by_library == ["litellm"]  # tests/llm/test_llm_litellm.py


def test_prices_are_found_by_the_names_of_the_provider() -> None:
    for api in APIS:
        prices = known_prices(api.priced, api.url) if api.url else None
        assert (prices is not None) == bool(api.url), api.adapter
        if prices is not None:
            usage = {"prompt_tokens": 1000, "completion_tokens": 1000}
            assert (prices.cost(usage) or 0) > (prices.cost({**usage, "cached_tokens": 900}) or 0) > 0


@pytest.mark.integration
@pytest.mark.parametrize("api", [api for api in APIS if "web_image" in api.lacks], ids=lambda api: api.adapter)
def test_an_image_by_its_url_is_refused_where_the_api_takes_none(provider: Provider, api: Api) -> None:
    with pytest.raises(PromptError, match=r"row 3 has an image by its URL, and .* takes none"):
        provider.ask(api.answer, row={**ROW, "image": WEB_IMAGE})
    assert not provider.server.seen


TOOL_MESSAGE = {"role": "tool", "tool_call_id": "c9", "content": "7"}
BAD_CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "f"}}]}


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (TOOL_MESSAGE, "row 3 has a message of a tool, and no call before it has its tool_call_id, 'c9'"),
        (BAD_CALL, r"row 3 has a call of a tool that is not as chat completions have it.*KeyError\('arguments'\)"),
    ],
)
def test_messages_of_tools_that_cannot_be_understood_are_refused(held: Any, message: str) -> None:
    for api in APIS:
        if not isinstance(adapter_of(api.adapter), OpenAIAdapter):
            with pytest.raises(PromptError, match=message):
                adapter_of(api.adapter).body(ChatRequest(messages=[held], params={}, model="m", row="row 3"))


@pytest.mark.integration
@pytest.mark.sampled(1)
@pytest.mark.parametrize("api", [GEMINI, RESPONSES], ids=lambda api: api.adapter)
def test_a_pipeline_file_names_an_adapter_and_the_key_shows_nowhere(
    provider: Provider, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testing = pytest.importorskip("typer.testing")
    from llm_datagen.cli.app import app

    def run(answer: Sent) -> Any:
        provider.server.always(answer.body, answer.status)
        return testing.CliRunner().invoke(app, ["run", "file.yaml", "--id", f"run-{answer.status}"])

    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", [{"q": "What is it?"}])
    text = "input_uri: jsonl://in.jsonl\noutput_uri: jsonl://out-{id}.jsonl\nresults_dir: results\noperators:\n"
    text += f"- {{use: llm.LLMOperator, with: {{prompt: '{{{{ q }}}}', model: m-1, adapter: {api.adapter}}}}}\n"
    (tmp_path / "file.yaml").write_text(text.replace("-{id}", ""))
    good = run(api.answer)
    assert (good.exit_code, [row["answer"] for row in lines(tmp_path / "out.jsonl")]) == (0, ["yes"])
    (tmp_path / "file.yaml").write_text(text.replace("-{id}", "-2"))
    bad = run(api.failures["wrong_key"])
    assert (bad.exit_code, api.key_env in bad.output) == (1, True)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    for shown in (good.output.encode(), bad.output.encode(), *files):
        assert not any(KEY[at : at + 8].encode() in shown for at in range(len(KEY) - 7))


def asked(*parts: Any) -> ChatRequest:
    return ChatRequest(messages=[{"role": "user", "content": list(parts)}], params={}, model="m", row="row 3")


def test_nothing_of_a_part_is_lost() -> None:
    marked = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    for api in APIS:
        adapter = adapter_of(api.adapter)
        if api.adapter == "ollama":
            with pytest.raises(PromptError, match="row 3 has a part that is neither text nor image"):
                adapter.body(asked(marked))
        else:
            assert found_in(marked, adapter.body(asked(marked))), api.adapter


TOLD_IMAGES = {
    "detail": {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
    "cache_control": {"type": "image_url", "image_url": {"url": IMAGE}, "cache_control": {"type": "ephemeral"}},
}


@pytest.mark.parametrize("name", TOLD_IMAGES)
def test_what_is_said_of_an_image_is_sent_or_refused(name: str) -> None:
    image = TOLD_IMAGES[name]
    refusing = [*(["anthropic"] if name == "detail" else []), "gemini", "bedrock", "ollama"]
    for api in APIS:
        adapter = adapter_of(api.adapter)
        if api.adapter in refusing:
            message = f"row 3 has an image with '{name}', and {api.adapter.title()} cannot be told that"
            with pytest.raises(PromptError, match=message):
                adapter.body(asked(image))
            continue
        sent = image
        if api.adapter == "anthropic":
            source = {"type": "base64", "media_type": "image/jpeg", "data": IMAGE_DATA}
            sent = {"type": "image", "source": source, "cache_control": {"type": "ephemeral"}}
        elif api.adapter == "openai-responses":
            told = {"detail": "low"} if name == "detail" else {"cache_control": {"type": "ephemeral"}}
            sent = {"type": "input_image", "image_url": IMAGE, **told}
        assert found_in(sent, adapter.body(asked(image))), api.adapter


def test_addresses_of_a_pool_are_those_of_its_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("OLLAMA_HOST", "gpu-box")
    for name in ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "OPENAI_API_VERSION", "GEMINI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    azure = "https://mine.openai.azure.com"
    operator = LLMOperator(
        "hi",
        endpoints=[
            {"model": "a:0", "adapter": "bedrock"},
            {"model": "m", "adapter": "ollama"},
            {"model": "models/g", "adapter": "gemini"},
            {"model": "d", "adapter": "azure", "base_url": f"{azure}/openai/v1/"},
            {"model": "d", "adapter": "azure-deployments", "base_url": f"{azure}?api-version=2025-01-01-preview"},
            {"model": "d", "adapter": "azure-deployments", "base_url": azure},
        ],
    )
    assert [str(each.address.url) for each in operator.endpoints] == [
        "https://bedrock-runtime.eu-west-1.amazonaws.com/model/a%3A0/converse",
        "http://gpu-box:11434/api/chat",
        "https://generativelanguage.googleapis.com/v1beta/models/g:generateContent",
        f"{azure}/openai/v1/chat/completions",
        f"{azure}/openai/deployments/d/chat/completions?api-version=2025-01-01-preview",
        f"{azure}/openai/deployments/d/chat/completions?api-version=2024-10-21",
    ]


@pytest.mark.parametrize("adapter", ["azure", "azure-deployments", "bedrock"])
def test_an_address_that_nobody_says_is_asked_for(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = adapter_of(adapter).base_url_env
    for name in (variable, "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Exception, match=f"give base_url, or set the environment variable {variable}"):
        LLMOperator("hi", model="m", adapter=adapter)


def test_params_go_where_each_api_has_them() -> None:
    params: dict[str, dict[str, Any]] = {
        "gemini": {"top_p": 0.9, "stop": "END", "safetySettings": [], "thinkingConfig": {"thinkingBudget": 0}},
        "bedrock": {"top_p": 0.9, "stop": "END", "guardrailConfig": {"guardrailIdentifier": "g"}, "top_k": 3},
        "ollama": {"num_ctx": 8192, "keep_alive": "1h", "think": True, "truncate": True},
        "vllm": {"structured_outputs": {"choice": ["a", "b"]}, "top_k": 3},
        "mistral": {"seed": 7, "max_completion_tokens": 5},
        "openai-responses": {"reasoning_effort": "low", "text": {"verbosity": "low"}},
    }
    sent = {
        name: adapter_of(name).body(ChatRequest(messages=[], params=given, model="m")) for name, given in params.items()
    }
    assert sent == {
        "gemini": {
            "contents": [],
            "safetySettings": [],
            "generationConfig": {"topP": 0.9, "stopSequences": ["END"], "thinkingConfig": {"thinkingBudget": 0}},
        },
        "bedrock": {
            "messages": [],
            "inferenceConfig": {"topP": 0.9, "stopSequences": ["END"]},
            "guardrailConfig": {"guardrailIdentifier": "g"},
            "additionalModelRequestFields": {"top_k": 3},
        },
        "ollama": {
            "model": "m",
            "messages": [],
            "stream": False,
            "truncate": True,
            "shift": False,
            "keep_alive": "1h",
            "think": True,
            "options": {"num_ctx": 8192},
        },
        "vllm": {"model": "m", "messages": [], "structured_outputs": {"choice": ["a", "b"]}, "top_k": 3},
        "mistral": {"model": "m", "messages": [], "random_seed": 7, "max_tokens": 5},
        "openai-responses": {
            "model": "m",
            "input": [],
            "store": False,
            "reasoning": {"effort": "low"},
            "text": {"verbosity": "low"},
        },
    }
