"""No answer holds a key, whatever an endpoint sends back."""

from __future__ import annotations

import json

import pytest

from llm_datagen.llm import LLMOperator

from ..kit.support import Bench
from ..kit.web import serving
from ..llm.chat_server import ChatServer, Reply, Seen, completion

KEY, URL_KEY, ARGUMENT = "sk-Vq81/Zr+Tn5vB7yHw2", "Xe93~Lm0Pd6.Jc4Ru", "sk-Gk57/Yb+Wf8nQ1tSx3"


def echo(seen: Seen) -> Reply:
    """Refuse every other call, and say the key with which it came."""
    said = f"{seen.headers['authorization']} {seen.path}"
    if "refused" in seen.body["messages"][0]["content"]:
        return Reply({"error": {"message": f"Incorrect API key provided: {said}"}}, 400, {"X-Echo": said})
    return Reply(completion("fine"))


def test_no_answer_holds_a_key(bench: Bench, chat: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    chat.reply = echo
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{chat.base_url}?key={URL_KEY}")
    bench.give([{"q": "refused"}, {"q": "fine"}])
    common = {"model": "m", "max_retries": 0, "budget": {"usd": 100}, "prices": {"input": 1, "output": 2}}
    operators = [
        LLMOperator("{{ q }}", params={"max_tokens": 9}, meta=True, **common, **more)  # type: ignore[arg-type]
        for more in ({}, {"api_key": ARGUMENT, "overwrite_columns": True})
    ]
    report = bench.pipeline(operators, on_error="dead_letter").create("a").run(progress=False)
    assert (report.rows_out, report.nodes[0].dead_letters) == (1, 1)
    with serving(bench.results) as client:
        run = client.get("/api/runs/0.a")
        assert run["budget"]["cap"] == 100
        assert 0 < run["budget"]["spent"] <= run["budget"]["projected"]
        ends = ["", "/timeline", "/log", "/cost", "/failures", "/trace?id=0", "/trace?id=1"]
        ends += [f"/rows?stream={stream['stream']}" for stream in run["streams"]]
        paths = ["/api/server", "/api/runs", "/api/compare?a=0.a&b=0.a", *(f"/api/runs/0.a{end}" for end in ends)]
        answers = {path: client.ask(path).body for path in paths}
        with client.events("/api/events?run=0.a") as events:
            answers["events"] = json.dumps(next(events)).encode()
    for path, body in answers.items():
        assert body, path
        for secret in (KEY, KEY[3:], URL_KEY, ARGUMENT, ARGUMENT[3:]):
            assert secret.encode() not in body, path
