"""Where the model of the recipes is: an endpoint of yours, a small real model on this machine, or a fake.

    python examples/recipes/qa_from_documents.py            OPENAI_BASE_URL and OPENAI_API_KEY say; without them, a fake
    python examples/recipes/qa_from_documents.py --local    a small model on this machine (93 MB the first time)

A recipe in YAML asks the endpoint of the environment. This puts one there, for as long as a command runs:

    python examples/recipes/endpoint.py [--local] llm-datagen run examples/recipes/qa_from_documents.yaml

The fake makes up answers that fit the recipe's schema: they show what the pipeline does, and mean nothing. It needs the
extra ``llm``, the small model ``local``.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedNodePipeline, UnifiedPipeline
from llm_datagen.testing import FakeLLMServer

MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
"""The model's name; the fake and the small model go by any."""


@contextlib.contextmanager
def endpoint() -> Iterator[None]:
    """Make sure that there is an endpoint in the environment, as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        if "--local" in sys.argv:
            from llm_datagen.cli.demo.server import local_server
            from llm_datagen.llm.engines.embedded.weights import fetch_weights

            server = stack.enter_context(local_server(fetch_weights()))
            os.environ |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.api_key}
        elif not os.environ.get("OPENAI_BASE_URL") and not os.environ.get("OPENAI_API_KEY"):
            fake = stack.enter_context(FakeLLMServer(latency=0.02))
            os.environ |= {"OPENAI_BASE_URL": fake.base_url, "OPENAI_API_KEY": "none"}
            print("No OPENAI_BASE_URL and no OPENAI_API_KEY: a fake makes up the answers.", file=sys.stderr)
        yield


def run(pipeline: UnifiedPipeline | UnifiedNodePipeline, name: str, nodes: Sequence[Mapping[str, Any]] = ()) -> None:
    """Run a recipe from the beginning, and show what came out; `nodes` says what differs from node to node."""
    # With if_exists="resume" it goes on where the last run stopped, whatever stopped it.
    of_nodes: dict[str, Any] = {"node_configs": nodes} if nodes else {}
    report = pipeline.create(name, if_exists="overwrite", **of_nodes).run()
    output = Path(f"tmp/recipes/{name}.jsonl")
    print(f"{report.rows_in} rows in, {report.rows_out} out: {output}")
    with output.open(encoding="utf-8") as rows:
        print("".join(islice(rows, 3)), end="")
    for used in report.usage:
        print("used:", used)


def main() -> int:
    command = [part for part in sys.argv[1:] if part != "--local"]
    if not command:
        print(__doc__)
        return 0
    with endpoint():
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
