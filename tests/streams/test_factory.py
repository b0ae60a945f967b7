"""From URIs to streams (M16)."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import ConfigError, DatagenError, StreamError, UnknownProtocolError
from llm_datagen.streams import (
    CsvStream,
    FileStream,
    JsonlStream,
    MemoryStream,
    Stream,
    StreamFactory,
    TableStream,
    factory,
    file_streams,
)
from llm_datagen.streams.compressed import CompressedStream
from llm_datagen.streams.file_streams import CODECS
from llm_datagen.streams.formats.csv import CsvCodec
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.inputs.file_set import FileSet


@pytest.fixture(autouse=True)
def protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registered."""
    monkeypatch.setattr(StreamFactory, "_protocols", dict(StreamFactory._protocols))
    monkeypatch.setattr(factory, "CODECS", codecs := dict(CODECS))
    monkeypatch.setattr(file_streams, "CODECS", codecs)
    for name in ("_TABLES", "_MAY_BE_MANY", "_MAY_BE_COMPRESSED"):
        monkeypatch.setattr(factory, name, copy(getattr(factory, name)))


@pytest.mark.parametrize(
    ("uri", "kind", "path", "codec"),
    [
        ("jsonl://a/b.jsonl", JsonlStream, "a/b.jsonl", JsonlCodec),
        ("jsonl:///abs/b.whatever", JsonlStream, "/abs/b.whatever", JsonlCodec),
        ("csv://b.csv", CsvStream, "b.csv", CsvCodec),
        ("csv://b.jsonl", CsvStream, "b.jsonl", CsvCodec),
        ("file://b.CSV", FileStream, "b.CSV", CsvCodec),
        ("file:///x/b.jsonl", FileStream, "/x/b.jsonl", JsonlCodec),
        ("file://b.ndjson", FileStream, "b.ndjson", JsonlCodec),
        ("b.csv", FileStream, "b.csv", CsvCodec),
        ("/x/b.jsonl", FileStream, "/x/b.jsonl", JsonlCodec),
        ("memory://name", MemoryStream, "name", JsonlCodec),
        ("jsonl://a://b", JsonlStream, "a://b", JsonlCodec),
    ],
)
def test_a_uri_names_a_stream(uri: str, kind: type[Stream], path: str, codec: type[Any]) -> None:
    """M16: protocol, path and format; nothing is touched."""
    stream = StreamFactory.create(uri)
    assert type(stream) is kind
    assert (stream.uri, stream.path) == (uri, path)
    assert isinstance(stream.codec, codec)
    assert not Path(path).exists()
    assert repr(stream) == f"{kind.__name__}({uri!r})"


def test_streams_can_be_made_without_the_factory() -> None:
    """M16: with a protocol or a bare path."""
    assert JsonlStream("a.jsonl").path == JsonlStream("jsonl://a.jsonl").path == "a.jsonl"
    assert CsvStream("x").path == "x"


@pytest.mark.parametrize("uri", ["oss://bucket/a", "JSON://x", "://x", "jsonl ://x"])
def test_an_unknown_protocol_is_an_error_that_lists_the_known_ones(uri: str) -> None:
    """M16: it is a DatagenError and a ValueError."""
    with pytest.raises(
        UnknownProtocolError,
        match="is not known; known are jsonl://, csv://, json://, text://, parquet://, arrow://, memory://, file",
    ) as caught:
        StreamFactory.create(uri)
    assert isinstance(caught.value, DatagenError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("uri", ["", None, 5, b"jsonl://x", Path("x.jsonl"), "jsonl://", "memory://"])
def test_what_is_no_uri_is_an_error_that_shows_it(uri: Any) -> None:
    """M3: at construction."""
    with pytest.raises(ConfigError) as caught:
        StreamFactory.create(uri)
    assert repr(uri) in str(caught.value)


@pytest.mark.parametrize("uri", ["file://a.avro", "noextension", "file:///x/.jsonl.gz"])
def test_an_extension_without_a_format_is_an_error_that_lists_the_known_ones(uri: str) -> None:
    """M16: `file://` goes by extension."""
    with pytest.raises(ConfigError, match=r"names no format; use one of \.jsonl, \.ndjson, \.json, \.csv"):
        StreamFactory.create(uri)


@pytest.mark.parametrize("base", [FileStream, JsonlStream])
@pytest.mark.parametrize("name", ["oss", "oss://"])
def test_a_subclass_that_overrides_path_makes_a_new_protocol(base: type[FileStream], name: str, tmp_path: Path) -> None:
    """M16: the whole stream, its seal and its log lie where `path` says."""

    class OssStream(base):  # type: ignore[valid-type, misc]
        @property
        def path(self) -> str:
            return str(tmp_path / self.uri.removeprefix("oss://"))

    StreamFactory.register(name, OssStream)
    stream = StreamFactory.create("oss://bucket/a.jsonl")
    assert isinstance(stream, OssStream)
    with stream.get_writer() as writer:
        writer.write([1])
    assert sorted(path.name for path in (tmp_path / "bucket").iterdir()) == ["a.jsonl", "a.jsonl.done"]
    assert list(StreamFactory.create("oss://bucket/a.jsonl").get_reader().read()) == [([1], [0])]
    assert "oss://" in StreamFactory.protocols()


def test_a_known_protocol_can_be_replaced() -> None:
    """M16: by register()."""

    class Mine(JsonlStream):
        pass

    StreamFactory.register("jsonl", Mine)
    assert type(StreamFactory.create("jsonl://x")) is Mine


@pytest.mark.parametrize("wrong", [None, 5, "jsonl", object, JsonlStream("x"), Path])
def test_only_stream_classes_can_be_registered(wrong: Any) -> None:
    """M3: the error shows what was given."""
    with pytest.raises(ConfigError, match="is not a subclass of FileStream"):
        StreamFactory.register("mine", wrong)
    assert "mine://" not in StreamFactory.protocols()


@pytest.mark.parametrize("wrong", [None, 5, "", "://", "a/b", "a:b", "oss:///x"])
def test_a_protocol_needs_a_name(wrong: Any) -> None:
    """M3: the error shows what was given."""
    with pytest.raises(ConfigError, match="a protocol is a name such as 'oss'"):
        StreamFactory.register(wrong, JsonlStream)


class SemicolonStream(FileStream):
    codec = JsonlCodec()


class SquareStream(TableStream):
    def open_table(self) -> Any:
        raise NotImplementedError


def test_a_format_of_text_is_known_by_its_ending_its_protocol_compressed_and_in_patterns(tmp_path: Path) -> None:
    StreamFactory.register_format(".ssv", SemicolonStream)
    assert StreamFactory.create("a.SSV").codec is SemicolonStream.codec
    assert isinstance(StreamFactory.create("ssv://a"), SemicolonStream)
    for uri in ("a.ssv.gz", "ssv://a.gz"):
        packed = StreamFactory.create(uri)
        assert isinstance(packed, CompressedStream)
        assert packed.codec is SemicolonStream.codec
    (tmp_path / "a.ssv").write_text('{"n": 1}\n')
    for uri in (f"{tmp_path}/*.ssv", f"ssv://{tmp_path}/"):
        rows = StreamFactory.source(uri).get_reader(follow=False).read()  # type: ignore[union-attr]
        assert list(rows) == [([{"n": 1, "_i": 0}], [0])]


def test_a_format_of_tables_is_known_by_its_ending_and_in_patterns(tmp_path: Path) -> None:
    StreamFactory.register_format(".square", SquareStream)
    assert isinstance(StreamFactory.create("a.square?columns=b"), SquareStream)
    (tmp_path / "a.square").touch()
    files = StreamFactory.source(f"square://{tmp_path}/*")
    assert isinstance(files, FileSet)
    assert isinstance(files.streams[0], SquareStream)
    remote = StreamFactory.create("s3://bucket/a.square?columns=b")
    assert isinstance(remote, SquareStream)
    assert (remote.path, remote.columns) == ("s3://bucket/a.square", ["b"])
    with pytest.raises(StreamError, match="rows are not appended to a table"):
        remote.check_path()


@pytest.mark.parametrize("ending", ["ssv", ".a.b", "", ".SSV", 3, ".gz", "."])
def test_an_ending_that_cannot_be_is_refused(ending: Any) -> None:
    with pytest.raises(ConfigError, match="ending"):
        StreamFactory.register_format(ending, SemicolonStream)


@pytest.mark.parametrize("kind", [FileStream, MemoryStream, int, SemicolonStream.codec])
def test_what_is_no_format_is_refused(kind: Any) -> None:
    with pytest.raises(ConfigError, match="neither a TableStream nor a FileStream with a codec"):
        StreamFactory.register_format(".ssv", kind)
