"""Another provider: an adapter says how a request is put and how an answer is read; the rest stays as it is.

The API here is the native one of Ollama (``/api/chat``), spoken by a fake on this machine. Run it with
``python custom_adapter.py [DIRECTORY]``; without a directory it works in a temporary one. It needs the extra ``llm``:
``pip install 'llm-datagen[llm]'``.
"""

import contextlib
import json
import sys
import tempfile
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import ChatAdapter, ChatRequest, LLMOperator, Reply


class OllamaAdapter(ChatAdapter):
    """Speaks to Ollama."""

    base_url = "http://localhost:11434"  # unless LLMOperator is given another

    def path(self, model: str) -> str:
        return "/api/chat"

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        options = dict(request.params)
        body: dict[str, Any] = {"model": request.model, "messages": request.messages, "stream": False}
        if "response_format" in options:  # the schema of `output`
            body["format"] = options.pop("response_format")["json_schema"]["schema"]
        return {**body, "options": options}

    def read(self, data: Any) -> Reply:
        return Reply(
            text=data["message"]["content"],
            finish_reason=data.get("done_reason"),  # "stop", or "length" when it was cut off
            usage={"prompt_tokens": data.get("prompt_eval_count", 0), "completion_tokens": data["eval_count"]},
        )


class FakeOllama(BaseHTTPRequestHandler):
    """Answers as Ollama does, with the prompt in capitals."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert (self.path, request["stream"], request["options"]) == ("/api/chat", False, {"temperature": 0})
        message = {"role": "assistant", "content": request["messages"][-1]["content"].upper()}
        answer = {"message": message, "done_reason": "stop", "prompt_eval_count": 4, "eval_count": 2}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    Path("words.jsonl").write_text('{"word": "pond"}\n{"word": "ship"}\n', encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeOllama) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        shout = LLMOperator(
            "Say {{ word }}",
            model="your-model",
            base_url=f"http://127.0.0.1:{server.server_port}",  # for a real Ollama, leave this out
            adapter=OllamaAdapter,  # in YAML: adapter: custom_adapter:OllamaAdapter
            params={"temperature": 0},
        )
        pipeline = UnifiedPipeline([shout], "jsonl://words.jsonl", "jsonl://said.jsonl", parallel_size=2, ordered=True)
        report = pipeline.create("words", if_exists="overwrite").run()
        server.shutdown()

    rows = [json.loads(line) for line in Path("said.jsonl").read_text(encoding="utf-8").splitlines()]
    print("rows:", rows)
    print("usage:", report.usage)
    assert [row["answer"] for row in rows] == ["SAY POND", "SAY SHIP"]
    assert [(used["requests"], used["completion_tokens"]) for used in report.usage] == [(2, 4)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
