"""LLMOperator asks a model about every row; its answer, an object that keeps to a JSON schema, becomes columns.

The model here is a fake on this machine. Run it with ``python llm_operator.py [DIRECTORY]``; without a directory it
works in a temporary one. It needs the extra ``llm``: ``pip install 'llm-datagen[llm]'``.
"""

import contextlib
import json
import os
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator

SENTIMENT = {
    "type": "object",
    "properties": {"sentiment": {"type": "string", "enum": ["good", "bad"]}, "stars": {"type": "integer"}},
    "required": ["sentiment", "stars"],
    "additionalProperties": False,
}


class FakeModel(BaseHTTPRequestHandler):
    """Answers as an OpenAI-compatible endpoint does."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_good = "love" in request["messages"][-1]["content"]
        answer = {"sentiment": "good" if is_good else "bad", "stars": 5 if is_good else 1}
        message = {"role": "assistant", "content": json.dumps(answer)}
        usage = {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21}
        body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    reviews = [{"review": "I love it" if number % 3 else "It broke"} for number in range(60)]
    Path("reviews.jsonl").write_text("".join(json.dumps(review) + "\n" for review in reviews), encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeModel) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        # LLMOperator finds its endpoint in the environment. For a real model, leave the server and this line out, and
        # set the two variables in your shell.
        os.environ |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1", "OPENAI_API_KEY": "a-secret"}
        judge = LLMOperator("Is this a good review? {{ review }}", model="your-model", output=SENTIMENT)
        pipeline = UnifiedPipeline([judge], "jsonl://reviews.jsonl", "jsonl://judged.jsonl", parallel_size=10)
        report = pipeline.create("reviews", if_exists="overwrite").run()
        server.shutdown()

    rows = [json.loads(line) for line in Path("judged.jsonl").read_text(encoding="utf-8").splitlines()]
    print("a row:", rows[0])
    print("usage:", report.usage)
    assert all(row["sentiment"] == ("good" if row["_i"] % 3 else "bad") for row in rows)
    assert [(used["requests"], used["total_tokens"]) for used in report.usage] == [(60, 60 * 21)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
