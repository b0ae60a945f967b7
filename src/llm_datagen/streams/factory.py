"""From a URI to a stream."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, ClassVar

from llm_datagen.config import OLDER, DataConfig, check_path
from llm_datagen.config.addresses import masked
from llm_datagen.errors import ConfigError, UnknownProtocolError
from llm_datagen.errors.advice import a_kind
from llm_datagen.streams.compressed import CompressedStream
from llm_datagen.streams.file_streams import (
    CODECS,
    CsvStream,
    FileStream,
    JsonArrayStream,
    JsonlStream,
    MemoryStream,
    TextStream,
)
from llm_datagen.streams.inputs.arrow_file import ArrowStream
from llm_datagen.streams.inputs.computed import INPUT_BOUNDS, bound
from llm_datagen.streams.inputs.cycled import CycledStream
from llm_datagen.streams.inputs.file_set import FileSet
from llm_datagen.streams.inputs.found_files import is_file_set
from llm_datagen.streams.inputs.generated import GeneratedStream
from llm_datagen.streams.inputs.hub import HubFileSet
from llm_datagen.streams.inputs.object_set import ObjectFileSet, is_object_set
from llm_datagen.streams.inputs.parquet import ParquetStream
from llm_datagen.streams.inputs.part import INPUT_END, PartStream, end_at
from llm_datagen.streams.inputs.table import TableStream, without_columns
from llm_datagen.streams.merged import PROTOCOL, MergedStream
from llm_datagen.streams.object_streams import CompressedObjectStream, ObjectStream, table_in_object_store
from llm_datagen.streams.source import Source
from llm_datagen.streams.storage.compression import ending_of
from llm_datagen.streams.storage.object_uri import SCHEMES, refuse_path_of_uri
from llm_datagen.streams.stream import Stream

_MAY_BE_COMPRESSED: set[type[Stream]] = {FileStream, JsonlStream, CsvStream, JsonArrayStream, TextStream}
_MAY_BE_MANY = _MAY_BE_COMPRESSED | {ParquetStream, ArrowStream}
_TABLES: dict[str, type[TableStream]] = {
    ".parquet": ParquetStream,
    ".arrow": ArrowStream,
    ".feather": ArrowStream,
}


class StreamFactory:
    """Makes streams. Protocols: ``jsonl://``, ``csv://``, ``memory://``, ``file://`` (by extension), and others.

    ``hf://`` is a data set on the Hugging Face hub, which is only read.
    ``s3://``, ``gs://`` and ``az://`` (by extension) lie in object stores.
    ``cycle://`` reads another input again and again, ``generate://`` makes rows by chance; see `Cycle` and `Generate`.
    ``part://`` reads some rows of another input.
    ``json://`` (an array) and ``text://`` are only read. A path without a protocol is taken as ``file://``.
    """

    _protocols: ClassVar[dict[str, type[Stream]]] = {
        "jsonl": JsonlStream,
        "csv": CsvStream,
        "json": JsonArrayStream,
        "text": TextStream,
        "parquet": ParquetStream,
        "arrow": ArrowStream,
        "memory": MemoryStream,
        "file": FileStream,
        "hf": HubFileSet,
        "generate": GeneratedStream,
        "cycle": CycledStream,
        "part": PartStream,
        **dict.fromkeys(SCHEMES, ObjectStream),
    }

    _of_users: ClassVar[dict[str, type[Stream]]] = {}
    """What `register` and `register_format` were told: by the protocol, or by the ending, with its dot."""

    @classmethod
    def registered(cls) -> dict[str, type[Stream]]:
        """Return the protocols and formats of the program's own, for `register_again` in another process."""
        return dict(cls._of_users)

    @classmethod
    def register_again(cls, registered: Mapping[str, type[Stream]]) -> None:
        """Make known what is known in another process."""
        for name, stream_class in registered.items():
            if name.startswith("."):
                assert issubclass(stream_class, FileStream)
                cls.register_format(name, stream_class)
            else:
                cls.register(name, stream_class)

    @classmethod
    def register(cls, protocol: str, stream_class: type[Stream]) -> None:
        """Make `protocol` (``"oss"`` or ``"oss://"``) known; a known one is replaced.

        Raises:
            ConfigError: when `protocol` is not a name, or `stream_class` not a stream class.
        """
        name = protocol.removesuffix("://") if isinstance(protocol, str) else ""
        if not name or "/" in name or ":" in name:
            raise ConfigError(f"a protocol is a name such as 'oss' or 'oss://', not {protocol!r}")
        if not (isinstance(stream_class, type) and issubclass(stream_class, Stream)):
            raise ConfigError(f"{stream_class!r} is not a subclass of FileStream (or Stream)")
        cls._protocols[name] = cls._of_users[name] = stream_class

    @classmethod
    def register_format(cls, ending: str, stream_class: type[FileStream]) -> None:
        """Make a format of files known: by its ending (``".psv"``), and as a protocol of that name (``psv://``).

        Files of it may lie in folders and patterns, and be compressed if it is one of text; a known one is replaced.

        Args:
            ending: how the names of its files end.
            stream_class: a `TableStream`, or a `FileStream` with a `codec`.

        Raises:
            ConfigError: when `ending` is none, or `stream_class` is neither.
        """
        name = ending.removeprefix(".") if isinstance(ending, str) else ""
        if not name.isalnum() or not name.isascii() or not ending.startswith(".") or name != name.lower():
            raise ConfigError(f"the ending of a format is a dot and small letters, such as '.psv', not {ending!r}")
        if ending_of(f"x{ending}"):
            raise ConfigError(f"{ending!r} is the ending of a compression; a format has another one")
        is_table = isinstance(stream_class, type) and issubclass(stream_class, TableStream)
        codec = getattr(stream_class, "codec", None)
        is_file = isinstance(stream_class, type) and issubclass(stream_class, FileStream) and codec is not None
        if not is_table and not is_file:
            raise ConfigError(f"{stream_class!r} is neither a TableStream nor a FileStream with a codec")
        cls.register(name, stream_class)
        cls._of_users[ending] = stream_class
        _MAY_BE_MANY.add(stream_class)
        _TABLES.pop(ending, None)
        if issubclass(stream_class, TableStream):
            _TABLES[ending] = stream_class
        else:
            assert codec is not None
            CODECS[ending] = codec
            _MAY_BE_COMPRESSED.add(stream_class)

    @classmethod
    def protocols(cls) -> list[str]:
        """Return the known protocols, such as ``jsonl://``."""
        return [f"{name}://" for name in cls._protocols]

    @classmethod
    def stream_class(cls, uri: str) -> type[Stream]:
        """Return the class of the stream that `uri` names.

        Raises:
            UnknownProtocolError: naming the known ones.
            ConfigError: when `uri` is not text, or names nothing.
        """
        check_path("a stream's URI", uri_text("a stream's URI", uri))
        protocol, separator, rest = uri.partition("://")
        if not separator:
            return cls._protocols["file"]
        if not rest:
            raise ConfigError(f"{uri!r} names a protocol but no stream")
        if protocol not in cls._protocols:
            known = ", ".join(cls.protocols())
            meant = protocol.lower()
            hint = f"; did you mean {meant}://?" if meant in cls._protocols else ""
            if meant in {"http", "https"}:
                hint = "; download the file, and give its path"
            raise UnknownProtocolError(
                f"{masked(uri)!r}: the protocol {protocol}:// is not known; known are {known}{hint}"
            )
        return cls._protocols[protocol]

    @classmethod
    def input_of(cls, entry: Mapping[str, Any]) -> Source:
        """Return what a node reads that the run state describes, with the node's settings."""
        source = cls.source(entry["input_uri"]).with_data(_data_of(entry)).with_source(entry.get("source_column"))
        source.pin(entry.get("input_fingerprint"))
        end_at(source, entry.get(INPUT_END))
        bound(source, entry.get(INPUT_BOUNDS))
        return source

    @classmethod
    def output_of(cls, entry: Mapping[str, Any]) -> Stream:
        """Return the stream that a node writes that the run state describes, with the node's settings."""
        return cls.create(entry["output_uri"]).with_data(_data_of(entry))

    @classmethod
    def source(cls, uri: str) -> Stream | MergedStream:
        """Return what is read at `uri`: a stream, or several that are read as one.

        Raises:
            UnknownProtocolError: naming the known protocols.
            ConfigError: when the URI is not one.
        """
        if isinstance(uri, str) and uri.startswith(PROTOCOL):
            return MergedStream(uri, cls.create)
        if cls.stream_class(uri) in _MAY_BE_MANY and is_file_set(without_columns(uri.partition("://")[2] or uri)):
            return FileSet(uri, cls.create)
        if cls.stream_class(uri) is ObjectStream and is_object_set(uri):
            return ObjectFileSet(uri, cls.create)
        return cls.create(uri)

    @classmethod
    def create(cls, uri: str) -> Stream:
        """Return the stream that `uri` names. Nothing is touched on disk.

        Raises:
            UnknownProtocolError: naming the known protocols.
            ConfigError: when the URI is not one.
        """
        found = cls.stream_class(uri)
        if found is CycledStream or found is PartStream:
            return found(uri, cls.source)
        if found is HubFileSet or found is GeneratedStream:
            return found(uri, cls.create)
        if found is ObjectStream:
            found = CompressedObjectStream if ending_of(uri) else _object_class(uri)
        if found is FileStream:
            found = _TABLES.get(PurePath(without_columns(uri)).suffix.lower(), found)
        if found in _MAY_BE_COMPRESSED and ending_of(uri):
            return CompressedStream(uri, getattr(found, "codec", None))
        return found(uri)


def _object_class(uri: str) -> type[Stream]:
    table = _TABLES.get(PurePath(without_columns(uri)).suffix.lower())
    return ObjectStream if table is None else table_in_object_store(table)


def uri_text(name: str, value: Any) -> str:
    """Return a URI, or a path, as it was given.

    Raises:
        ConfigError: when it is no text, saying what was expected, and where rows and Paths are given.
    """
    if isinstance(value, str) and value.strip():
        return value
    expected = f"{name} must be a URI or a path, as text such as 'jsonl://data.jsonl'"
    if isinstance(value, os.PathLike):
        raise ConfigError(f"{expected}, not {value!r}; give str(path)")
    if isinstance(value, str | bytes | int | float | None) or not hasattr(value, "__iter__"):
        raise ConfigError(f"{expected}, not {reprlib.repr(value)}")
    raise ConfigError(
        f"{expected}, not {a_kind(type(value))}; rows are given as input=…, several files as a pattern ('data/*.jsonl')"
    )


def refuse_lone_protocol(name: str, uri: str, protocols: Iterable[str]) -> str:
    """Return a URI, or a path, that does not begin as a URI would, but for its slashes.

    Raises:
        ConfigError: when it does.
    """
    refuse_path_of_uri(name, uri)
    protocol, colon, rest = uri.partition(":")
    if colon and not rest.startswith("//") and f"{protocol}://" in protocols:
        raise ConfigError(
            f"{name} is {uri!r}, and a protocol is followed by two slashes: give '{protocol}://{rest}' (a file of this "
            f"machine with such a name is './{uri}')"
        )
    return uri


def _data_of(entry: Mapping[str, Any]) -> DataConfig:
    return DataConfig.of(entry.get("data_config", OLDER))
