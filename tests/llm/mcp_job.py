"""One stage with the tools of an MCP server, to be killed and started again. Arguments: the endpoint, the server."""

from __future__ import annotations

import sys

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator, McpServer


def main(base_url: str, books: str) -> None:
    server = McpServer(command=[sys.executable, books], allow=["shelf", "search"], env={"STARTS": "starts"})
    ask = LLMOperator("{{ q }}", model="m", base_url=base_url, tools=[server], name="librarian")
    pipeline = UnifiedPipeline([ask], "jsonl://in.jsonl", "jsonl://out.jsonl", parallel_size=8)
    pipeline.create("job", if_exists="resume").run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
