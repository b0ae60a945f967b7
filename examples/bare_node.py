"""A node by itself, without a pipeline: first over a file that is there, then behind a program that still writes.

Run it with ``python bare_node.py [EMPTY_DIRECTORY]``; without a directory it works in a temporary one.
"""

import contextlib
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from llm_datagen import INodeContext, StreamFactory, UnifiedNode


def double(items: list[Any], ctx: INodeContext) -> list[dict[str, Any]]:
    return [{"value": 2 * item["value"]} for item in items]


def write_live() -> None:
    """Write some rows now and then, and seal the stream at the end."""
    with StreamFactory.create("jsonl://live.jsonl").get_writer() as writer:
        for start in range(0, 100, 10):
            writer.write([{"value": value} for value in range(start, start + 10)])
            time.sleep(0.03)


def values_of(uri: str) -> list[int]:
    reader = StreamFactory.create(uri).get_reader(follow=False)
    return sorted(row["value"] for rows, _ in reader.read(1000) for row in rows)


def main() -> None:
    # A file: seal() says that no more rows will come. Without it the node would wait for them.
    Path("in.jsonl").write_text("".join(json.dumps({"value": value}) + "\n" for value in range(1000)))
    in_stream = StreamFactory.create("jsonl://in.jsonl")
    in_stream.seal()
    node = UnifiedNode(node_id="n1", parallel_size=5, batch_size=10)
    node.bind_io(input_bus=in_stream, output_bus=StreamFactory.create("jsonl://out.jsonl"))
    node.set_processor(double)
    report = node.run()
    print(f"{node.node_id}: {report.status}, {report.rows_out} rows; sealed: {Path('out.jsonl.done').exists()}")
    assert values_of("jsonl://out.jsonl") == list(range(0, 2000, 2))

    # A stream that is being written: the node takes rows as they come, and ends when the writer seals.
    writer = threading.Thread(target=write_live)
    writer.start()
    follower = UnifiedNode("n2", idle_timeout=10.0)  # an error, should nothing new come for 10 s
    follower.bind_io("jsonl://live.jsonl", "jsonl://live-out.jsonl").set_processor(double)
    report = follower.run()
    writer.join()
    print(f"{follower.node_id}: {report.status}, {report.rows_out} rows in {report.seconds:.2f} s")
    assert values_of("jsonl://live-out.jsonl") == list(range(0, 200, 2))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
