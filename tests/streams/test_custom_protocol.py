"""A protocol whose files are packed (examples/custom_protocol.py) keeps what is promised (M16, R1, S1, S3)."""

from __future__ import annotations

import gzip
import importlib.util
import json
import random
import signal
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llm_datagen import FunctionOperator, OperatorWarning, StreamCorruptError, StreamFactory, UnifiedPipeline
from llm_datagen.streams import JsonlStream
from llm_datagen.streams.storage.memory import MemoryStorage

from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, eventually, numbered

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_protocol.py"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example as a module; its protocol is forgotten after the test."""
    monkeypatch.setattr(StreamFactory, "_protocols", dict(StreamFactory._protocols))
    spec = importlib.util.spec_from_file_location("custom_protocol", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KILLED = """
import runpy, sys
from llm_datagen import FunctionOperator, UnifiedPipeline

example, folder = sys.argv[1:]
runpy.run_path(example)

def work(item):
    if item["n"] == 3000:
        print("reached", flush=True)
        sys.stdin.read()
    return item

UnifiedPipeline(
    [work, FunctionOperator(lambda item: {**item, "done": True}, name="end")],
    f"gzip://{folder}/in.jsonl.gz",
    f"gzip://{folder}/out.jsonl.gz",
    base_path=folder, results_dir=folder + "/results", log_file=None, default_protocol="gzip://", streaming=True,
    writer_config={"flush_batch_size": 100, "flush_interval": 0.01},
).create("a").run()
"""


@pytest.mark.process
def test_a_killed_run_of_packed_streams_goes_on_and_no_row_is_lost_or_repeated(
    example: ModuleType, tmp_path: Path
) -> None:
    """Also when the kill tore a member: what is behind the last whole one is cut off."""
    with gzip.open(tmp_path / "in.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in numbered(4000))
    between = tmp_path / "a" / "node_0.jsonl.gz"
    child = Program(["-c", KILLED, EXAMPLE, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == "reached\n"
        assert eventually(lambda: (seen := StreamFactory.create(f"gzip://{between}").readable()) and seen.limit)
        child.send_signal(signal.SIGKILL)
        assert child.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    with between.open("ab") as torn:
        torn.write(example.pack(b'{"n": 4001}\n')[:-5])

    called: list[int] = []

    def work(item: Any) -> Any:
        called.append(item["n"])
        return item

    operators = [FunctionOperator(work, name="work"), FunctionOperator(lambda item: {**item, "done": True}, name="end")]
    source, output = (f"gzip://{tmp_path}/{name}.jsonl.gz" for name in ("in", "out"))
    pipeline = UnifiedPipeline(operators, source, output, results_dir=tmp_path / "results", log_file=None)
    pipeline.resume("a", on_change="accept")
    with pytest.warns(OperatorWarning, match="state of its own"):  # the list of calls
        assert pipeline.run().rows_out == 4000
    assert len(called) < 4000
    for path in (between, tmp_path / "out.jsonl.gz"):
        with gzip.open(path) as packed:
            assert sorted(json.loads(line)["n"] for line in packed) == list(range(4000))
        StreamFactory.create(f"gzip://{path}").verify()


def test_packed_bytes_are_read_at_every_offset_and_a_torn_end_is_not_there(example: ModuleType, tmp_path: Path) -> None:
    """Our members and those of gzip, one behind the other; then the file cut at each byte of its last member."""
    path = tmp_path / "a.gz"
    chance = random.Random(7)
    text = chance.randbytes(3 << 20)
    storage = example.GzipStorage()
    path.write_bytes(gzip.compress(text[:100_000]))
    file = storage.open_append(str(path))
    for begin, end in ((100_000, 100_007), (100_007, len(text))):
        file.append(text[begin:end])
        assert storage.size(str(path)) == end
    reading = storage.open_read(str(path))
    for _ in range(60):
        offset, length = chance.randrange(len(text)), chance.choice([1, 70_000, 1 << 20])
        assert reading.read_at(offset, length) == text[offset : offset + length]
    assert reading.read_at(0, len(text) + 1) == text == gzip.decompress(path.read_bytes())
    reading.close()

    file.truncate(100_007)
    whole = path.stat().st_size
    with pytest.raises(StreamCorruptError, match="no member that ends at byte 100001"):
        file.truncate(100_001)
    file.append(b"last")
    file.close()
    data = path.read_bytes()
    for cut in range(whole, len(data)):
        path.write_bytes(data[:cut])
        assert storage.size(str(path)) == 100_007
    file = storage.open_append(str(path))
    file.append(b"again")
    file.close()
    assert gzip.decompress(path.read_bytes()) == text[:100_007] + b"again"


def test_what_is_not_a_whole_gzip_file_is_refused(example: ModuleType, tmp_path: Path) -> None:
    """A damaged or shortened input is an error, and never a shorter input."""
    path = tmp_path / "a.jsonl.gz"
    data = gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(1000)))
    damaged = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
    for wrong, message in ((b'{"n": 1}\n', "not a gzip"), (data[:-20], "not whole"), (damaged, "cannot be unpacked")):
        path.write_bytes(wrong)
        with pytest.raises(StreamCorruptError, match=message):
            list(StreamFactory.create(f"gzip://{path}").get_reader(follow=False).read(10))


def test_a_class_that_still_calls_its_storage_disk_is_warned_and_keeps_it() -> None:
    """The name of version 0.1, for one release: rows never go elsewhere because a name has changed."""
    storage = MemoryStorage()
    with pytest.warns(DeprecationWarning, match=r"Older\.disk is called `storage` now"):

        class Older(JsonlStream):
            disk = storage

    assert Older("older://rows").storage is storage
    stream = JsonlStream("rows.jsonl")
    with pytest.warns(DeprecationWarning, match=r"Stream\.disk is called `storage` now"):
        stream.disk = storage
    assert stream.storage is storage
