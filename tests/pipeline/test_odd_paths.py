"""Paths that are none, or nothing for a run: each is refused by name, with what to do, before anything is touched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, DatagenError, DiskError, UnifiedNode
from llm_datagen.llm import LLMOperator
from llm_datagen.testing import Fault, inject

from ..kit.support import Bench, lines, numbered


def same(row: Any) -> Any:
    return row


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "pipe.jsonl")
    return f"jsonl://{folder}/pipe.jsonl"


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return f"{folder}/{name}"


INPUTS: dict[str, tuple[Callable[[Path], str], str]] = {
    "pipe": (fifo, "is not a regular file .* write it to a file first"),
    "stdin": (lambda here: "jsonl:///dev/stdin", "/dev/stdin is not a regular file"),
    "device": (lambda here: "jsonl:///dev/zero", "is not a regular file"),
    "folder": (lambda here: f"jsonl://{here}", "is one of the files that it reads"),
    "array": (lambda here: written(here, "a.jsonl", '[\n{"n": 1},\n{"n": 2}\n]\n'), "a JSON array.* json://"),
    "array with a mark": (lambda here: written(here, "a.jsonl", '\ufeff[{\n"n": 1}]\n'), "a JSON array"),
    "object": (lambda here: written(here, "a.json", '{\n"n": 1\n}\n'), "over several lines.* jq -c '.' a.json"),
    "NUL": (lambda here: "jsonl://a\0.jsonl", "NUL"),
    "half a character": (lambda here: "jsonl://a\ud800.jsonl", "half a character, or bytes that are not UTF-8"),
    "bytes": (lambda here: "jsonl://" + os.fsdecode(b"a\xff.jsonl"), "bytes that are not UTF-8; rename"),
    "home": (lambda here: "jsonl://~/a.jsonl", r"~ is not expanded here"),
    "too long": (lambda here: f"jsonl://{here}/{'x' * 300}", "File name too long .choose a shorter name"),
}

SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "output is a device": ({"output_uri": "jsonl:///dev/stdout"}, "/dev/stdout is not a regular file.* choose another"),
    "output is NUL": ({"output_uri": "jsonl://a\0.jsonl"}, "NUL"),
    "output at home": ({"output_uri": "~/a.jsonl"}, "~ is not expanded here"),
    "output is too long": ({"output_uri": f"jsonl://{'x' * 241}"}, "is too long: 241 bytes, and 240 are possible"),
    "results is NUL": ({"results_dir": "a\0"}, "results_dir has a NUL"),
    "results at home": ({"results_dir": "~/results"}, "results_dir is '~/results', and ~ is not expanded"),
    "results is too long": ({"results_dir": "x" * 300}, "File name too long .choose a shorter name"),
    "base path is NUL": ({"base_path": "a\0"}, "NUL"),
    "log is NUL": ({"log_file": "a\0"}, "log_file has a NUL"),
    "log is half a character": ({"log_file": "a\udfff"}, "log_file is no text"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_an_input_that_cannot_be_read_is_refused(bench: Bench, case: str) -> None:
    uri, why = INPUTS[case][0](bench.folder), INPUTS[case][1]
    before = bench.files()
    with pytest.raises(DatagenError, match=why):
        bench.pipeline([same], input_uri=uri).create("a")
    with pytest.raises(DatagenError, match=why):
        UnifiedNode("n").bind_io(uri, f"jsonl://{bench.output}").set_operator(same).run()
    assert bench.files() == before


@pytest.mark.parametrize("case", SETTINGS)
def test_a_path_that_cannot_be_written_is_refused(bench: Bench, case: str) -> None:
    settings, why = SETTINGS[case]
    bench.give(numbered(2))
    before = bench.files()
    for if_exists in ("error", "overwrite"):
        with pytest.raises(DatagenError, match=why):
            bench.pipeline([same, same], **settings).create("a", if_exists=if_exists)
    assert bench.files() == before


@pytest.mark.integration
def test_rows_that_are_lists_are_rows(bench: Bench) -> None:
    bench.input.write_text("[1, 2]\n[3]\n")
    bench.pipeline([lambda row: {"first": row[0]}]).create("a").run()
    assert [row["first"] for row in lines(bench.output)] == [1, 3]


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "a\0", "a\ud800"])
def test_a_pipeline_id_that_can_be_no_folder_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(ConfigError, match="pipeline_id"):
        bench.pipeline([same]).create(name)
    assert not bench.files()


@pytest.mark.parametrize("name", ["a\0", "a\ud800", "~/cache", ""])
def test_a_cache_that_can_be_no_file_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cache"):
        LLMOperator("x", model="m", cache=name)


@pytest.mark.parametrize(("error", "hint"), [("EACCES", "the right to write there"), ("EROFS", "that can be written")])
@pytest.mark.parametrize("operation", ["mkdir", "lock"])
def test_a_folder_that_cannot_be_written_says_what_to_do(bench: Bench, error: Any, hint: str, operation: Any) -> None:
    bench.give(numbered(2))
    fault = Fault(operation=operation, path="*/results/a*", hit=1, action="raise", error=error)
    with inject(fault), pytest.raises(DiskError, match=hint):
        bench.pipeline([same]).create("a")
    assert not bench.output.exists()
