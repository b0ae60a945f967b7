"""Keys are in no file that a run writes, whatever goes wrong in it, and in nothing that it prints (M28)."""

from __future__ import annotations

import base64
import json
import signal
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from yarl import URL

from llm_datagen.llm.http.redaction import Redaction
from llm_datagen.llm.secret import Secret

from ..cli.shell import Shell
from ..kit.support import lines, write_jsonl
from .chat_server import ChatServer, Reply, Seen, completion

KEY, URL_KEY, ARGUMENT = "sk-Vq81/Zr+Tn5vB7yHw2", "Xe93~Lm0Pd6.Jc4Ru", "sk-Gk57/Yb+Wf8nQ1tSx3"
NAMED = "sk-Oa26/Ic+Dz9mE4hUj0"

NOTED = """
import logging

logging.basicConfig(filename="debug.log", level=logging.DEBUG)


def noted(row):
    logging.getLogger("noted").debug("%r", row)
    return row
"""


class Echo:
    """Sends the key back in every way that an endpoint or a proxy might; holds the rows that say so until `go`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.held = threading.Event()

    def __call__(self, seen: Seen) -> Reply:
        said = seen.body["messages"][0]["content"]
        key = seen.headers["authorization"]
        echo = f"{said}: {key} {seen.path}"
        forms = [
            quote(key, safe=""),
            json.dumps(key).replace("/", "\\/"),
            key[:-9],
            "…" + key[-12:],
            key[7:].encode().hex(),
        ]
        forms += [base64.b64encode((" " * before + key).encode()).decode() for before in range(3)]
        forms += ["".join(f"\\u{ord(each):04x}" for each in key), base64.urlsafe_b64encode(key.encode()).decode()]
        match said.split()[0]:
            case "refused":
                return Reply({"error": {"message": f"Incorrect API key provided: {echo}"}}, 401)
            case "broken":
                return Reply(f"<html>Bad gateway for {echo}</html>", 502, {"X-Echo": echo.replace("\n", " ")})
            case "strange":
                return Reply(f'{{"no": "completion", "but": "{echo}"}}')
            case "damaged":
                return Reply(completion(echo), missing=9)
            case "changed":
                return Reply({"error": {"message": f"{said}: {' '.join(forms)}"}}, 400, {"X-Echo": " ".join(forms)})
            case "headed":
                return Reply(
                    "", raw=f"HTTP/1.1 200 {' '.join(forms)}\r\nno header {forms}\r\n\r\n".encode("latin-1", "replace")
                )
            case "redirected":
                return Reply(echo, 307, {"Location": f"http://127.0.0.1:1/{seen.headers['authorization'][7:]}"})
            case "garbled":
                return Reply("", raw=f"HTTP/1.1 200 OK\r\n{echo}\r\nno header\r\n\r\n".encode())
            case "hold":
                self.held.set()
                self.go.wait(60)
        return Reply(completion('{"label": "good"}' if "off" not in said else f"no JSON, {said}"))


def test_no_file_and_no_output_of_runs_that_fail_are_killed_cancelled_and_resumed_holds_a_key(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell, echo = Shell(tmp_path), Echo()
    server.reply = echo
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NAMED_KEY", NAMED)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.base_url}?key={URL_KEY}")
    (tmp_path / "noted.py").write_text(NOTED)
    kinds = [
        "refused",
        "fine",
        "broken",
        "strange",
        "damaged",
        "off the schema",
        "redirected",
        "garbled",
        "changed",
        "headed",
    ]
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"{kind} {k}"} for kind in kinds for k in range(2)] + [{"q": "hold"}])
    schema = {"type": "object", "properties": {"label": {"enum": ["good", "bad"]}}, "required": ["label"]}
    common: dict[str, Any] = {"prompt": "{{ q }}", "model": "m", "max_retries": 1, "retry_wait": 0.01, "output": schema}
    common |= {"meta": True, "budget": {"usd": 100}, "prices": {"input": 1, "output": 2}, "params": {"max_tokens": 9}}
    common["overwrite_columns"] = True
    operators = [
        {"use": "llm_datagen.llm:LLMOperator", "with": {**common, "cache": "answers.sqlite"}, "name": "ask"},
        {"use": "llm_datagen.llm:LLMOperator", "with": {**common, "api_key": ARGUMENT}, "name": "ask again"},
        {"use": "llm_datagen.llm:LLMOperator", "with": {**common, "api_key_env": "NAMED_KEY", "meta": True}},
        {"use": "noted:noted"},
    ]
    job = shell.yaml(operators, streaming=True, parallel_size=4, on_error="dead_letter", results_dir="results")
    said = []

    def end(process: Any) -> int:
        said.extend(process.communicate(timeout=60))
        return int(process.returncode)

    with shell.started("run", job, "--id", "a", "--traceback") as process:
        assert echo.held.wait(60)
        process.kill()
        assert end(process) == -signal.SIGKILL
    echo.held.clear()
    with shell.started("resume", "a", "--results-dir", "results") as process:
        assert echo.held.wait(60)
        cancelled = shell.run("cancel", "a", "--no-wait", "--reason", "enough", "--results-dir", "results")
        echo.go.set()
        end(process)
    said += [cancelled.stdout, cancelled.stderr]
    done = shell.run("resume", "a", "--results-dir", "results", "--traceback")
    said += [done.stdout, done.stderr]
    assert done.returncode == 0, done.stderr
    assert {row["q"] for row in lines(shell.output)} == {"fine 0", "fine 1", "hold"}
    taped: dict[str, Any] = {"LLM_DATAGEN_CASSETTE": "tape.jsonl", "LLM_DATAGEN_RECORD_MODE": "all"}
    seen = shell.run("preview", job, "-n", "4", "--traceback", **taped)
    failed = shell.run(
        "run", job, "--id", "b", "--traceback", "--set", "on_error=fail", "--set", "output_uri=b.jsonl", **taped
    )
    said += [failed.stdout, failed.stderr, seen.stdout, seen.stderr]
    assert failed.returncode == seen.returncode == 1

    sent = {seen.headers["authorization"] for seen in server.seen}
    assert sent == {f"Bearer {KEY}", f"Bearer {ARGUMENT}", f"Bearer {NAMED}"}
    assert all(quote(URL_KEY) in seen.path or URL_KEY in seen.path for seen in server.seen)
    assert "***" in failed.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != job]
    assert {"runtime.json", "out.jsonl", "answers.sqlite", "tape.jsonl"} <= {path.name for path in files}
    dead_letters = b"".join(path.read_bytes() for path in files if path.name.endswith(".errors.jsonl"))
    assert all(f'"{kind} 0"'.encode() in dead_letters for kind in kinds if kind != "fine")
    for canary in (KEY, URL_KEY, ARGUMENT, NAMED):
        assert [path for path in files if canary.encode() in path.read_bytes()] == []
        mask = Redaction(Secret(canary), URL("http://h"))
        for text in [*(path.read_bytes().decode(errors="replace") for path in files), "".join(said)]:
            assert mask.redacted(text) == text
