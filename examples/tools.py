"""LLMOperator lets the model use functions of yours: it executes the calls, and asks again with the results.

The model here is a fake on this machine: it looks up every article of a mail, and answers by what it found. Run it with
``python tools.py [DIRECTORY]``; without a directory it works in a temporary one. It needs the extra ``llm``:
``pip install 'llm-datagen[llm]'``.
"""

import contextlib
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator, Tools
from llm_datagen.testing import FakeLLMServer, ToolCalls

STOCK = {"A-17": 12, "B-2": 0}


def stock(article: str, warehouse: str = "main") -> int:
    """Tells how many pieces there are.

    Args:
        article: the number of the article, such as "A-17".
        warehouse: where to look.
    """
    return STOCK[article]


def fake_model(messages: Any) -> Any:
    results = [message["content"] for message in messages if message["role"] == "tool"]
    if not results:
        articles = re.findall(r"\w-\d+", messages[0]["content"])
        return ToolCalls(*(("stock", {"article": article}) for article in articles))
    if any(result.startswith("Error") for result in results):
        return "We do not know that article."
    return "Yes." if all(int(result) for result in results) else "Not now."


def main() -> None:
    mails = [{"mail": f"Please send {what}."} for what in ("A-17", "A-17 and B-2", "Z-9")]
    Path("mails.jsonl").write_text("".join(json.dumps(mail) + "\n" for mail in mails), encoding="utf-8")
    with FakeLLMServer(answer=fake_model) as server:
        answer = LLMOperator(
            "Can we deliver? {{ mail }}",
            model="your-model",
            base_url=server.base_url,
            tools=Tools([stock], max_rounds=5),
            extra_columns={"messages": "conversation"},
            cache="answers.sqlite",
        )
        pipeline = UnifiedPipeline([answer], "jsonl://mails.jsonl", "jsonl://answers.jsonl", parallel_size=10)
        report = pipeline.create("mails", if_exists="overwrite").run()

    rows = [json.loads(line) for line in Path("answers.jsonl").read_text(encoding="utf-8").splitlines()]
    rows.sort(key=lambda row: row["_i"])
    for message in rows[1]["conversation"]:
        print(message)
    print("usage:", report.usage)
    assert [row["answer"] for row in rows] == ["Yes.", "Not now.", "We do not know that article."]
    assert rows[2]["conversation"][2]["content"] == "Error: KeyError: 'Z-9'"
    assert [used["requests"] for used in report.usage] == [6]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
