"""Keys are masked in every form that is told of, and in no error of a call that fails in any way (M28)."""

from __future__ import annotations

import asyncio
import base64
import json
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from yarl import URL

from llm_datagen.llm import LLMAnswerError, LLMError
from llm_datagen.llm.http.redaction import Redaction
from llm_datagen.llm.secret import Secret

from .chat_server import ChatServer, Context, Reply, Seen, completion, run_rows

KEY = 'sk-canary/of+"many"\\marks&and=more~1234567890'
MASK = Redaction(Secret(KEY), URL("https://h/v1"))


def b64(before: str, text: str = KEY, behind: str = "") -> str:
    return base64.b64encode(f"{before}{text}{behind}".encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "capitals": str.upper,
    "percent": lambda key: quote(key, safe=""),
    "percent, small letters": lambda key: quote(key, safe="").lower(),
    "percent, every character": lambda key: "".join(f"%{ord(char):02X}" for char in key),
    "percent, twice": lambda key: quote(quote(key, safe=""), safe=""),
    "json": json.dumps,
    "json, twice": lambda key: json.dumps(json.dumps(key)),
    "json, every character": lambda key: "".join(f"\\u{ord(char):04x}" for char in key),
    "json with slashes": lambda key: json.dumps(key).replace("/", "\\/"),
    "repr": lambda key: repr(key.encode()),
    "source text": lambda key: "".join(f"\\x{ord(char):02x}" for char in key),
    "html": lambda key: key.replace("&", "&amp;").replace('"', "&quot;").replace("/", "&#x2F;").replace("+", "&#43;"),
    "base64": lambda key: b64("", key),
    "base64 of a header": lambda key: b64("Bearer ", key),
    "base64 of a user": lambda key: b64(":", key, ":"),
    "base64, third place": lambda key: b64("ab", key, "x"),
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(f"a{key}".encode()).decode(),
    "base64 in a URL": lambda key: quote(b64("", key), safe=""),
    "hex": lambda key: key.encode().hex(),
    "hex in capitals": lambda key: key.encode().hex().upper(),
    "first half": lambda key: key[: len(key) // 2] + "...",
    "last half": lambda key: "..." + key[len(key) // 2 :],
    "last eight": lambda key: f"{'*' * 20}{key[-8:]}",
    "base64, half": lambda key: b64("", key)[: len(b64("", key)) // 2],
    "percent, half": lambda key: quote(key, safe="")[:30],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", ["{}", 'key="{}", go away', "Bearer {}\nand {} again"])
def test_a_key_is_masked_in_every_form_and_the_rest_is_as_it_was(form: str, text: str) -> None:
    shown = MASK.redacted(text.replace("{}", FORMS[form](KEY)))
    assert "***" in shown
    plain = "".join(part for part in shown.split("***"))
    for size in (8, 12):
        for secret in (KEY, b64("", KEY), b64("a", KEY)[4:], b64("ab", KEY)[4:], KEY.encode().hex()):
            assert not any(secret[at : at + size].lower() in plain.lower() for at in range(len(secret) - size + 1))
    if form != "last eight":
        begin, _, end = text.partition("{}")
        assert shown.startswith(begin)
        assert shown.endswith(end.rpartition("{}")[2])


@pytest.mark.parametrize(
    "text",
    ["", "no secret here", "100% of \\n it, %41 &amp; \\u0041", "sk-can", "***", "the canary sings of many marks"],
)
def test_what_holds_no_key_is_as_it_was(text: str) -> None:
    assert MASK.redacted(text) == text


def test_a_short_key_is_masked_as_a_whole_only() -> None:
    mask = Redaction(Secret("EMPTY"), URL("https://h/v1?version=7"))
    assert mask.redacted("the key EMPTY is an EMPT key of version 7") == "the key *** is an EMPT key of version 7"
    one_letter = Redaction(Secret("a"), URL("https://h/v1"))
    assert one_letter.redacted("a bad Bearer a, and 'a' again") == "*** bad Bearer ***, and '***' again"


def test_the_mask_itself_holds_no_secret() -> None:
    assert "canary" not in repr(vars(MASK))


@pytest.mark.sampled(1)
@pytest.mark.integration
@pytest.mark.parametrize("form", ["plain", "percent", "json, every character", "base64 of a header", "last half"])
def test_an_error_shows_no_form_of_the_key_wherever_it_was_echoed(server: ChatServer, form: str) -> None:
    key = KEY.replace('"', "'")
    echo = FORMS[form](key)
    line = echo.replace("\n", " ")
    replies: list[Reply] = [
        Reply({"error": {"message": f"wrong key: {echo}"}}, 401),
        Reply({"error": {"message": "x" * 290 + echo}}, 500),
        Reply(f"<p>{echo}", 502),
        Reply({"error": echo}),
        Reply({"choices": [{"error": {"message": echo}}]}),
        Reply({"choices": [], "note": echo}),
        Reply(completion("half", finish_reason=echo)),
        Reply({"choices": [{"message": {"content": None, "refusal": echo}, "finish_reason": "stop"}]}),
        Reply("moved", 307, {"Location": f"http://127.0.0.1:1/{line}"}),
        Reply("slow", 429, {"X-Echo": line, "Retry-After": line, "X-RateLimit-Remaining-Requests": line}),
        Reply("", raw=f"HTTP/1.1 200 {line}\r\nContent-Length: 5\r\nno header {line}\r\n\r\n".encode()),
        Reply("", raw=f"HTTP/1.1 200 OK\r\nContent-Encoding: {line}\r\nContent-Length: 1\r\n\r\nx".encode()),
        Reply("", raw=f"{line} is no HTTP\r\n\r\n".encode()),
    ]
    ctx = Context()
    for reply in replies:
        server.reply = lambda seen, reply=reply: reply  # type: ignore[misc]
        with pytest.raises(LLMError) as caught:
            asyncio.run(run_rows(server.operator(api_key=key), [{"_i": 0, "q": "x"}], ctx))
        shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value)) + "".join(ctx.lines)
        hidden = Redaction(Secret(key), URL("https://h")).redacted(shown)
        assert hidden == shown, reply


@pytest.mark.integration
def test_what_a_model_says_is_data_and_goes_into_rows_as_it_is(server: ChatServer) -> None:
    def reply(seen: Seen) -> Reply:
        return Reply(completion(f"the header was {seen.headers['authorization']}"))

    server.reply = reply
    (row,) = asyncio.run(run_rows(server.operator(api_key="sk-canary-1234567890"), [{"_i": 0, "q": "x"}]))
    assert row["answer"] == "the header was Bearer sk-canary-1234567890"


@pytest.mark.integration
def test_a_refusal_is_shown_without_the_key(server: ChatServer) -> None:
    body: Any = completion(None)
    body["choices"][0]["message"]["refusal"] = "I will not, with sk-canary-1234567890"
    server.always(body)
    with pytest.raises(LLMAnswerError, match=r"I will not, with \*\*\*"):
        asyncio.run(run_rows(server.operator(api_key="sk-canary-1234567890"), [{"_i": 0, "q": "x"}]))
