"""Lines of text as rows, and encodings by name."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_datagen import StreamFactory
from llm_datagen.config import DataConfig
from llm_datagen.errors import ConfigError, DatagenError, RowFormatError

from ..kit.support import Bench, Stopping, lines
from .test_json_arrays import rows_of


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"\n\na\n\n", ["", "", "a", ""]),
        (b"a\r\n\r\nb\r\n", ["a", "", "b"]),
        (b"\xef\xbb\xbfa\n", ["a"]),
        (b'{"n": 1}\n', ['{"n": 1}']),
        (b"a\x0b\x0c\x1c\xc2\x85\xe2\x80\xa8b\n", ["a\x0b\x0c\x1c\x85\u2028b"]),
    ],
)
def test_each_line_is_a_row_and_a_blank_one_too(tmp_path: Path, data: bytes, texts: list[str]) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    (tmp_path / "b").write_bytes(data)
    for uri in (f"{tmp_path}/a.txt", f"text://{tmp_path}/b"):
        assert rows_of(uri) == [{"text": text} for text in texts]


def test_a_line_that_is_not_of_the_encoding_is_named_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\n\nb\xe9\n")
    with pytest.raises(RowFormatError, match=r"a\.txt, line 3: .*0xe9 at position 1 is not UTF-8.* encoding='cp1252'"):
        list(StreamFactory.create(str(path)).get_reader(follow=False).read(10))
    assert rows_of(path, encoding="latin-1") == [{"text": "a"}, {"text": ""}, {"text": "bé"}]
    path.write_bytes(b"a\x81\n")
    with_data = StreamFactory.create(str(path)).with_data(DataConfig(encoding="windows-1252"))
    with pytest.raises(RowFormatError, match=r"line 1: .*0x81 at position 1 is not cp1252"):
        list(with_data.get_reader(follow=False).read(10))


def test_text_is_read_and_resumed_with_blank_lines_and_is_never_written(bench: Bench) -> None:
    path = bench.folder / "notes.txt"
    path.write_text("".join(f"{n}\n\n" for n in range(100)))
    parsed: list[Any] = [lambda item: {"n": int(item["text"] or -1)}, Stopping(50)]
    bench.pipeline(parsed, input_uri=str(path), parallel_size=2).create("a").run()
    bench.pipeline([parsed[0], Stopping()], input_uri=str(path), parallel_size=2).resume("a").run()
    found = sorted((row["_i"], row["n"]) for row in lines(bench.output))
    assert found == [(n, n // 2 if n % 2 == 0 else -1) for n in range(200)]
    with pytest.raises(DatagenError, match="is only read: text holds lines and no columns; write to jsonl://"):
        bench.pipeline([len], output_uri=f"{bench.folder}/out.txt").create("b")


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=10), min_size=1, max_size=3), max_size=5),
    encoding=st.sampled_from(["latin-1", "cp1252", "koi8-r", "ascii", "euc-jp", "utf-8"]),
)
def test_any_rows_come_back_from_json_lines_in_any_encoding(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], encoding: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    stream = StreamFactory.create(str(path)).with_data(DataConfig(encoding=encoding))
    data = b"".join(stream.codec.encoder(b"").encode_other(row) + b"\n" for row in rows)
    assert [json.loads(line) for line in data.decode(encoding).split("\n")[:-1]] == rows, "for other programs, too"
    path.write_bytes(data)
    assert rows_of(path, encoding=encoding) == rows


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-32", "shift_jis", "gb18030", "big5", "utf-7", "cp037"]
)
def test_an_encoding_in_which_bytes_mean_other_things_is_refused_with_what_to_do(encoding: str) -> None:
    with pytest.raises(ConfigError, match=r"encoding cannot be .* iconv -f"):
        DataConfig(encoding=encoding)


@pytest.mark.parametrize("encoding", ["nope", "rot13", "hex", "", "idna", "unicode_escape", "utf-8-sig", "a\0b"])
def test_what_is_no_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(ConfigError, match="encoding"):
        DataConfig(encoding=encoding)


def test_a_run_in_latin_1_reads_and_writes_it(bench: Bench) -> None:
    source = bench.folder / "in.jsonl"
    source.write_bytes('{"a": "é"}\n{"a": "€😀"}\n'.encode("latin-1", "backslashreplace").replace(b"\\U0001f600", b""))
    report = bench.pipeline(
        [lambda item: {"a": item["a"] + "ü€"}], input_uri=str(source), data_config={"encoding": "latin-1"}
    ).run()
    assert report.rows_out == 2
    text = bench.output.read_bytes().decode("latin-1")
    assert [json.loads(line)["a"] for line in text.splitlines()] == ["éü€", "€ü€"]
    with closing(StreamFactory.create(f"jsonl://{bench.output}").cursor()) as cursor:
        assert cursor.read(5) is not None
