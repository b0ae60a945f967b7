"""Data sets on the Hugging Face hub as inputs, at one commit also over resumes."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import ConfigError, DatagenError, HubError, StreamChangedError, StreamMissingError
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify
from llm_datagen.streams import StreamFactory

from ..examples.pages import DOCS, blocks_of
from ..kit.hub import TOKEN, FakeHub
from ..kit.support import Bench, Stopping, lines


def text(values: Any) -> bytes:
    return "".join(f'{{"n": {n}}}\n' for n in values).encode()


def parquet(values: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"n": list(values), "more": [str(n) for n in values]}), file, row_group_size=4)
    return file.getvalue()


def shards(hub: FakeHub) -> None:
    """Give the hub 30 rows of the split "train" in three files of different kinds, and one of "test"."""
    hub.files["data/train-00000-of-00003.jsonl"] = text(range(10))
    hub.files["data/train-00001-of-00003.jsonl.gz"] = gzip.compress(text(range(10, 20)), mtime=0)
    hub.files["data/train-00002-of-00003.parquet"] = parquet(range(20, 30))
    hub.files["data/test-00000-of-00001.csv"] = b"n\n100\n"
    hub.files["README.md"] = b"# A data set\n"


def found(hub: FakeHub, uri: str) -> list[str]:
    source = StreamFactory.source(uri)
    return [stream.path.removeprefix("hf://datasets/org/set/") for stream in source.streams]  # type: ignore[union-attr]


def ids_of(bench: Bench) -> list[tuple[int, int]]:
    return sorted((row["n"], row["_i"]) for row in lines(bench.output))


def test_a_split_is_one_input_whose_files_are_downloaded_one_after_the_other(bench: Bench, hub: FakeHub) -> None:
    shards(hub)
    uri = "hf://datasets/org/set?split=train&columns=n"
    hub.files.update({"data/train-00000-of-00003.jsonl": parquet(range(10))})
    hub.files = {name.replace("jsonl", "parquet"): data for name, data in hub.files.items() if ".gz" not in name}
    made = bench.pipeline([Stopping()], input_uri=uri, source_column="from").create("a")
    assert hub.downloads() == ["README.md", "data/train-00000-of-00003.parquet"]
    assert made.run().rows_out == 20
    assert hub.downloads()[2:] == ["data/train-00002-of-00003.parquet"]
    assert lines(bench.output)[-1] == {
        "n": 29,
        "from": {"file": "data/train-00002-of-00003.parquet", "row": 9},
        "_i": 19,
    }
    noted = bench.run_state("a")["nodes"][0]["input_fingerprint"]
    assert noted["revision"] == hub.head()
    assert [name for name, _ in noted["files"]] == [
        "data/train-00000-of-00003.parquet",
        "data/train-00002-of-00003.parquet",
    ]
    assert [finding for account in verify(bench.run_state("a")) for finding in account.findings] == []
    ours = [path for path in bench.folder.rglob("*") if path.is_file()]
    assert not [path for path in ours if TOKEN.encode() in path.read_bytes()]


class Another(Stopping):
    version = "2"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("stop", [0, 7, 10, 25, 29])
def test_a_resume_reads_the_commit_that_the_run_began_with(bench: Bench, hub: FakeHub, stop: int) -> None:
    shards(hub)
    settings = {"input_uri": "hf://datasets/org/set?split=train", "parallel_size": 3}
    bench.pipeline([Stopping(stop)], **settings).create("a").run()
    hub.head()
    hub.files = {"data/train-00000-of-00001.jsonl": text(range(1000, 1003))}
    report = bench.pipeline([Stopping()], **settings).resume("a").run()
    assert report.status == "completed"
    assert ids_of(bench) == [(n, n) for n in range(30)]
    assert [step.item["n"] for step in trace(bench.run_state("a"), 25) if step.item] == [25, 25]
    hub.requests.clear()
    assert bench.pipeline([Stopping()], **settings).resume("a").run().rows_out == 30
    assert hub.requests == []
    bench.pipeline([Another()], **settings).resume("a", on_change="rerun").run()
    assert ids_of(bench) == [(n, n) for n in range(30)]


@pytest.mark.slow
def test_a_killed_run_goes_on_without_the_hub_with_what_is_in_the_cache(bench: Bench, hub: FakeHub) -> None:
    shards(hub)
    code = (
        "import os, signal, sys, llm_datagen\n"
        "def step(row):\n"
        "    if row['n'] == 27 and sys.argv[1] == 'kill': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return row\n"
        "made = llm_datagen.UnifiedPipeline([step], 'hf://org/set@v1?split=train', 'out.jsonl', results_dir='results',"
        " log_file=None, writer_config={'flush_batch_size': 1})\n"
        "(made.create if sys.argv[1] == 'kill' else made.resume)('a').run()\n"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.run([*run, "kill"], cwd=bench.folder, check=False).returncode == -signal.SIGKILL
    assert lines(bench.output)
    hub.refusal = 500
    subprocess.run([*run, "go on"], cwd=bench.folder, check=True)
    assert ids_of(bench) == [(n, n) for n in range(30)]


def test_a_commit_that_is_gone_is_told_and_the_run_can_be_resumed_when_it_is_back(bench: Bench, hub: FakeHub) -> None:
    shards(hub)
    settings = {"input_uri": "hf://datasets/org/set?split=train", "parallel_size": 1}
    bench.pipeline([Stopping(5)], **settings).create("a").run()
    history, hub.history = hub.history, {}
    hub.files = {"data/train.jsonl": text([1])}
    with pytest.raises(DatagenError, match=r"train-0000[12]-of-00003\.\S+ is gone from the hub at commit"):
        bench.pipeline([Stopping()], **settings).resume("a").run()
    hub.history = history
    bench.pipeline([Stopping()], **settings).resume("a").run()
    assert ids_of(bench) == [(n, n) for n in range(30)]


def test_a_hub_that_fails_for_a_while_is_asked_again_and_else_the_run_ends_to_be_resumed(
    bench: Bench, hub: FakeHub
) -> None:
    shards(hub)
    settings = {"input_uri": "hf://datasets/org/set?split=train"}
    made = bench.pipeline([Stopping()], **settings).create("a")
    hub.refusal = 503
    with pytest.raises(DatagenError, match=r"train-0000[12]-of-00003\.\S+: (it cannot be reached|.*status 503)"):
        made.run()
    hub.refusal, hub.failures = 0, 1
    assert bench.pipeline([Stopping()], **settings).resume("a").run().status == "completed"
    assert ids_of(bench) == [(n, n) for n in range(30)]


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (401, "RepoNotFound", "no such data set or organisation, or your token may not see it"),
        (403, "GatedRepo", "access is granted on its page"),
        (401, "", "log in with `hf auth login`"),
        (403, "", "your token may not"),
        (500, "", "status 500"),
    ],
)
def test_what_the_hub_refuses_is_said_without_the_token(hub: FakeHub, status: int, code: str, says: str) -> None:
    hub.refusal, hub.error_code = status, code
    with pytest.raises(HubError, match=says) as refused:
        found(hub, "hf://org/set?split=train")
    assert TOKEN not in str(refused.value)


CARD = b"""---
license: mit
configs:
- config_name: en
  default: true
  data_files:
  - {split: train, path: "en/*.jsonl"}
  - {split: held.out, path: [en/more/b.jsonl]}
- config_name: fr
  data_dir: fr
- config_name: odd
  sep: ";"
  data_files: x.csv
---
# Text
"""


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("?split=train", ["en/a.jsonl"]),
        ("?split=held.out&config=en", ["en/more/b.jsonl"]),
        ("?config=fr&split=test", ["fr/test/c.jsonl"]),
        ("/en", ["en/a.jsonl", "en/more/b.jsonl"]),
        ("/**/[bc].jsonl?revision=main", ["en/more/b.jsonl", "fr/test/c.jsonl", "fr/train/c.jsonl"]),
        ("@main/x.csv", ["x.csv"]),
        ("/e[n]", ["e[n]/a.jsonl"]),
        ("/e[n]/a.jsonl", ["e[n]/a.jsonl"]),
        ("/e[n]/more/*", ["en/more/b.jsonl"]),
    ],
)
def test_the_card_says_which_files_make_a_split(hub: FakeHub, query: str, wanted: list[str]) -> None:
    names = [
        "en/a.jsonl",
        "en/more/b.jsonl",
        "fr/test/c.jsonl",
        "fr/train/c.jsonl",
        "x.csv",
        "en/.hidden.jsonl",
        "e[n]/a.jsonl",
    ]
    hub.files = {**dict.fromkeys(names, b""), "README.md": CARD}
    assert found(hub, f"hf://datasets/org/set{query}") == wanted


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "several splits; choose one with .split=…: held.out, train"),
        ("?split=test", "no split 'test'; there is held.out, train"),
        ("?config=de", "no config 'de'; there are en, fr, odd"),
        ("?config=odd", r"how to read the files \(sep\)"),
        ("?revision=v9", "no revision 'v9'"),
        ("?splt=train", "'splt=train' is no option"),
        ("/en?split=train", "it names files"),
        ("/en/a.jsonl?columns=n", "no columns to choose"),
        ("/README.md", "names no format"),
    ],
)
def test_what_does_not_exist_is_refused_and_what_does_is_named(hub: FakeHub, query: str, says: str) -> None:
    hub.files = {"en/a.jsonl": b"", "en/more/b.jsonl": b"", "x.csv": b"", "README.md": CARD}
    with pytest.raises((ConfigError, HubError), match=says):
        found(hub, f"hf://datasets/org/set{query}")


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["a.csv", "b.csv"], {"train": ["a.csv", "b.csv"]}),
        (
            ["data/train-00000-of-00001-ab.parquet", "data/x.y-00000-of-00001.csv", "test.csv"],
            {"train": 1, "x.y": 1},
        ),
        (["data/train-00000.parquet", "dev.json"], {"train": 1, "validation": 1}),
        (["train/a.csv", "eval/train.csv", "c.csv"], {"train": 1, "test": ["eval/train.csv"]}),
        (["training.csv", "my_test_2.csv", "latest.csv", "constrain.csv"], {"train": 1, "test": 1}),
    ],
)
def test_without_a_card_names_tell(names: list[str], wanted: dict[str, Any]) -> None:
    from llm_datagen.streams.inputs.hub_splits import splits_by_name

    splits = splits_by_name(names)
    assert {name: files if isinstance(wanted[name], list) else len(files) for name, files in splits.items()} == wanted


@pytest.mark.parametrize(
    "uri", ["hf://org", "hf://datasets/org", "hf://spaces/org/set", "hf://org/s et", "hf://org//set"]
)
def test_addresses_that_name_no_data_set_are_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="write hf://datasets/org/name"):
        StreamFactory.source(uri)


def test_nothing_is_found_and_nothing_is_written(hub: FakeHub) -> None:
    shards(hub)
    with pytest.raises(StreamMissingError, match="no such file"):
        StreamFactory.create("hf://org/set/none/*.csv").check_source()
    with pytest.raises(DatagenError, match="export it to hf://"):
        StreamFactory.create("hf://org/set").check_path()


def test_a_file_in_the_cache_that_was_cut_short_is_not_read(bench: Bench, hub: FakeHub) -> None:
    shards(hub)
    source = StreamFactory.source("hf://org/set?split=train")
    source.check_source()  # type: ignore[union-attr]
    (cached,) = (bench.folder / "hf-home").rglob("snapshots/*/data/train-00000-of-00003.jsonl")
    Path(os.path.realpath(cached)).write_bytes(json.dumps({"n": 1}).encode())
    with pytest.raises(StreamChangedError, match="remove it from the cache"):
        source.check_source()  # type: ignore[union-attr]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["how-to/read-from-the-hugging-face-hub.md", "tutorials/first-pipeline.md"])
def test_the_five_lines_of_the_docs_make_parquet_of_a_data_set(
    bench: Bench, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"text": [" a", "", "b "]}), file)
    hub.files = {"data/train-00000-of-00001.parquet": file.getvalue()}
    (program,) = (block.text for block in blocks_of(DOCS / name) if "hf://datasets" in block.text)
    assert len([line for line in program.splitlines() if line]) <= 5
    monkeypatch.chdir(bench.folder)
    exec(compile(program, name, "exec"), {})
    assert [row["text"] for row in pq.read_table("clean-00000.parquet").to_pylist()] == ["a", "b"]
