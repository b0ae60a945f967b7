"""What is no address of an input, an output or a results folder is refused, with what was expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, UnifiedNode, UnifiedPipeline

from ..kit.support import numbered, write_jsonl

URI = "must be a URI or a path, as text such as 'jsonl://data.jsonl'"
STORES = "give a folder of this machine, or one of a store: s3://, gs://, az://"


def create(**settings: Any) -> Any:
    given = {"input_uri": "in.jsonl", "output_uri": "out.jsonl", "results_dir": "results", "log_file": None, **settings}
    return UnifiedPipeline([len], **given).create("a")


@pytest.fixture(autouse=True)
def there(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", numbered(1))


@pytest.mark.parametrize("name", ["input_uri", "output_uri"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (5, f"{URI}, not 5"),
        (True, f"{URI}, not True"),
        ("", f"{URI}, not ''"),
        ("  ", f"{URI}, not '  '"),
        (b"in.jsonl", f"{URI}, not b'in.jsonl'"),
        ({"to": "x"}, f"{URI}, not a dict; rows are given as input=…, several files as a pattern"),
        (["a.jsonl"], f"{URI}, not a list; rows are given as input=…, several files as a pattern ('data/*.jsonl')"),
        (Path("in.jsonl"), f"{URI}, not PosixPath('in.jsonl'); give str(path)"),
        ("s3:/x/in.jsonl", "is 's3:/x/in.jsonl', a URI that lost a slash, as in a Path; give text: 's3://x/in.jsonl'"),
        (
            "file:/x.jsonl",
            "lost a slash, as in a Path; give text: 'file://x.jsonl', or three slashes before an",
        ),
        ("csv:x.csv", "a protocol is followed by two slashes: give 'csv://x.csv' (a file of this machine with such a"),
        ("foo://x", "the protocol foo:// is not known; known are jsonl://, csv://"),
        ("S3://x/in.jsonl", "the protocol S3:// is not known; known are "),
        ("https://x/in.jsonl", "the protocol https:// is not known; known are "),
        ("S3://x/in.jsonl", "az://; did you mean s3://?"),
        ("https://x/in.jsonl", "az://; download the file, and give its path"),
        ("jsonl://", "'jsonl://' names a protocol but no stream"),
        ("s3://bucket", "'s3://bucket' is no address of an object: give s3://bucket/key"),
    ],
)
def test_what_is_no_address_of_rows_is_refused(tmp_path: Path, name: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        create(**{name: value})
    assert says in str(error.value)
    if says.startswith(("must", "is '", "lost", "a protocol")):
        assert str(error.value).startswith(name)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_file_whose_name_begins_as_a_protocol_is_given_with_its_folder(tmp_path: Path) -> None:
    create(output_uri="./csv:x.jsonl").run(progress=False)
    assert (tmp_path / "csv:x.jsonl").read_text() == '{"_i":0,"data":2}\n'


@pytest.mark.parametrize("name", ["results_dir", "base_path"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "must be the path of a folder, not None"),
        (5, "must be the path of a folder, not 5"),
        ({}, "must be the path of a folder, not {}"),
        ("  ", "is blank ('  '); give a path"),
        ("~/runs", "is '~/runs', and ~ is not expanded here"),
        ("s3:/b/runs", "is 's3:/b/runs', a URI that lost a slash, as in a Path; give text: 's3://b/runs'"),
        (Path("gs://b/runs"), "is 'gs:/b/runs', a URI that lost a slash, as in a Path; give text: 'gs://b/runs'"),
        ("file:/runs", "is 'file:/runs', a URI that lost a slash, as in a Path"),
        ("foo://x", f"is 'foo://x'; {STORES}"),
    ],
)
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str, value: Any, says: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^{name} {re.escape(says)}" if "lost a" not in says[:6] else re.escape(says)
    ):
        create(**{name: value})
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_store_without_a_bucket_and_an_empty_folder_are_refused() -> None:
    with pytest.raises(ConfigError, match="results_dir is 's3://', which names no bucket; give s3://bucket/runs"):
        create(results_dir="s3://")
    with pytest.raises(ConfigError, match="results_dir must be text, not ''"):
        create(results_dir="")


@pytest.mark.parametrize(
    ("input_bus", "output_bus", "says"),
    [
        (None, "o.jsonl", "input_bus must be a stream (StreamFactory.create(uri)) or a URI, not None"),
        (b"x", "o.jsonl", "input_bus must be a stream (StreamFactory.create(uri)) or a URI, not b'x'"),
        ("in.jsonl", ["o.jsonl"], "output_bus must be a stream (StreamFactory.create(uri)) or a URI, not ['o.jsonl']"),
        ("in.jsonl", "s3:/b/o.jsonl", "output_bus is 's3:/b/o.jsonl', a URI that lost a slash"),
        (["in.jsonl", "gs:/b/i.jsonl"], "o.jsonl", "input in1 is 'gs:/b/i.jsonl', a URI that lost a slash"),
    ],
)
def test_what_is_no_stream_of_a_node_is_refused(input_bus: Any, output_bus: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        UnifiedNode("n").set_operator(len).bind_io(input_bus, output_bus)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (None, "the target of an export must be text, not None"),
        ("", "the target of an export must be text, not ''"),
        ("  ", "the target of an export is blank"),
        ("csv:s3:/b/x.csv", "the target of an export is 's3:/b/x.csv', a URI that lost a slash"),
        (
            "http://x/a.csv",
            "the format 'http' is not known; known are parquet, jsonl, csv, chatml, hf-folder; stores",
        ),
    ],
)
def test_what_is_no_target_of_an_export_is_refused(target: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        create(also=[target])
