"""Inputs that can be read once (rows in memory, standard input), copied to the folder of the run before it begins.

    spooled-input.jsonl       the copy, as another program would have written it: a resume needs nothing else
    spooled-input.json        in its place, what rows are generated from
    spooled-input.jsonl.tmp   while it is copied; the run state is written behind it

So a run is there, with all of its input, or it is not there. Where the output is ``-``, its rows lie in output.jsonl in
that folder, and go to standard output when the run is completed.
"""

from __future__ import annotations

import codecs
import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BufferedReader
from itertools import islice
from typing import Any, cast

from llm_datagen.errors import ConfigError, RowValueError, StopRun
from llm_datagen.pipeline.memory_rows import rows_in
from llm_datagen.runs import RunFolder
from llm_datagen.runs.store import SPOOLED
from llm_datagen.streams import Generate, JsonlStream, Stream, StreamFactory
from llm_datagen.streams.file_streams import TextStream
from llm_datagen.streams.storage.local import LocalStorage
from llm_datagen.streams.storage.objects import ObjectStorage
from llm_datagen.streams.storage.os_errors import named

STANDARD = "-"
"""Standard input, or standard output."""

_EXTENSIONS = {"jsonl": "jsonl", "csv": "csv", "json": "json", "text": "txt"}
_OF_LINES = (JsonlStream, TextStream)
_PIECE = 1 << 20


def is_standard(uri: Any) -> bool:
    """Return whether a URI names standard input or output: ``-``, or with its format, as in ``csv://-``."""
    return isinstance(uri, str) and _format_of(uri) is not None


def _format_of(uri: str) -> str | None:
    protocol, separator, rest = uri.partition("://")
    if uri == STANDARD:
        return "jsonl"
    return protocol if separator and rest == STANDARD and protocol in _EXTENSIONS else None


def is_copied(settings: Mapping[str, Any]) -> bool:
    """Return whether the input of a pipeline is one that is read once."""
    return settings["input"] is not None or is_standard(settings["input_uri"])


def copy_uri(settings: Mapping[str, Any], uri: str | None, pipeline_id: str) -> str | None:
    """Return the URI of the copy of an input that is read once; None of any other input.

    Args:
        settings: those of the pipeline.
        uri: the URI of the input, if it has one.
        pipeline_id: the id of the run.
    """
    if isinstance(settings["input"], Generate):
        return f"generate://{RunFolder(settings['results_dir'], pipeline_id).place_of(f'{SPOOLED}.json')}"
    kind = "jsonl" if settings["input"] is not None else _format_of(uri or "")
    return None if kind is None else _uri_in(settings, pipeline_id, kind, SPOOLED)


def output_uri(settings: Mapping[str, Any], uri: str, pipeline_id: str) -> str:
    """Return where the rows of an output lie: standard output is fed from the folder of the run."""
    kind = _format_of(uri)
    return uri if kind is None else _uri_in(settings, pipeline_id, kind, "output")


def _uri_in(settings: Mapping[str, Any], pipeline_id: str, kind: str, name: str) -> str:
    folder = RunFolder(settings["results_dir"], pipeline_id)
    if folder.is_on_store:
        return folder.place_of(f"{name}.{_EXTENSIONS[kind]}")
    path = folder.path / f"{name}.{_EXTENSIONS[kind]}"
    return f"{kind}://{path}"


def copy_input(rows: Any, run_state: Mapping[str, Any], *, most: int | None = None) -> None:
    """Copy an input that is read once to where the first node of a new run reads it. When it fails, nothing is left.

    Args:
        rows: the rows, or what they are generated from; None: those of standard input.
        run_state: the run state.
        most: how many rows are wanted; None: all. Of standard input, about so many lines, or all that is no lines.

    Raises:
        ConfigError: when it is no rows, or standard input is closed or empty.
        RowValueError: when the format cannot hold a row, with its number and column.
        DiskError: when the disk refuses.
    """
    stream = StreamFactory.input_of(run_state["nodes"][0])
    assert isinstance(stream, Stream)
    if isinstance(rows, Generate):
        stream.storage.replace(stream.path, rows.dump(), sync=True)
        return
    if rows is not None:
        pieces = _pieces(_encoded(islice(rows_in(rows), most), stream))
    else:
        pieces = _first_lines(_standard_input(), most if isinstance(stream, _OF_LINES) else None)
    temporary = f"{stream.path}.tmp"
    stream.storage.remove(stream.done_path)
    try:
        if isinstance(stream.storage, ObjectStorage):
            bucket, key = stream.storage.bucket_and_key(stream.path)
            bucket.put_pieces(key, pieces)  # there is nothing of it before it is whole
        else:
            assert isinstance(stream.storage, LocalStorage)
            _copy_to_file(stream.storage, pieces, temporary)
            stream.storage.move(temporary, stream.path)
        stream.seal()
    except BaseException:
        for path in (temporary, stream.path, stream.done_path):
            with contextlib.suppress(OSError):
                stream.storage.remove(path)
        raise


def is_copied_in(rows: Iterable[Any], stream: Stream) -> bool:
    """Return whether a copy holds these rows, and no others."""
    at, file = 0, stream.open_data()
    try:
        for piece in _pieces(_encoded(rows, stream)):
            if file.read_at(at, len(piece)) != piece:
                return False
            at += len(piece)
        return stream.size() == at
    except (ConfigError, RowValueError):  # what cannot be copied was not
        return False
    finally:
        file.close()


def _copy_to_file(storage: LocalStorage, pieces: Iterable[bytes], path: str) -> None:
    storage.remove(path)
    file = storage.open_append(path)
    try:
        for piece in pieces:
            file.append(piece)
        file.sync()
    finally:
        file.close()


def _encoded(rows: Iterable[Any], stream: Stream) -> Iterator[bytes]:
    encoder = stream.codec.encoder(b"")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ConfigError(f"input: row {number} is {type(row).__name__}, and must be a dict")
        try:
            yield encoder.encode_other(dict(row)) + b"\n"
        except (ValueError, TypeError) as error:
            why = str(error).removeprefix("row None cannot be written: ")
            raise RowValueError(f"input: row {number}: {why}") from error


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _first_lines(pieces: Iterator[bytes], most: int | None) -> Iterator[bytes]:
    """Yield pieces up to one with which there are so many lines that are not blank, and whole."""
    lines, rest = 0, b""
    for piece in pieces:
        yield piece
        if most is not None:
            *whole, rest = (rest + piece).split(b"\n")
            lines += sum(1 for line in whole if line.strip())
            if lines >= most:
                return


def _standard_input() -> Iterator[bytes]:
    what = "give rows to it (cat rows.jsonl | llm-datagen run …), or name a file as the input"
    if sys.stdin is None or sys.stdin.closed:
        raise ConfigError(f"the input is '-', and standard input is closed; {what}")
    if sys.stdin.isatty():
        raise ConfigError(f"the input is '-', and standard input is a terminal; {what}")
    source = cast(BufferedReader, sys.stdin.buffer)
    is_empty = True
    while data := source.read1(_PIECE):  # what is there, without waiting for more
        is_empty = False
        yield data
    if is_empty:
        raise ConfigError(f"the input is '-', and standard input is empty: nothing came; {what}")


def print_output(run_state: Mapping[str, Any], stopped: Callable[[], bool]) -> None:
    """Write the rows of a run whose nodes are completed to standard output, if that is its output, as they lie on disk.

    When nobody reads any more, the rest goes nowhere: the rows stay in the folder of the run.

    Args:
        run_state: the run state.
        stopped: asked again and again; when it returns True, no more is written.

    Raises:
        StopRun: when it was stopped.
        DiskError: when standard output cannot be written.
    """
    if not prints_output(run_state):
        return
    entry = run_state["nodes"][-1]
    write, flush = _standard_output((entry.get("data_config") or {}).get("encoding", "utf-8"))
    file, at = StreamFactory.output_of(entry).open_data(), 0
    try:
        with contextlib.suppress(BrokenPipeError):
            while data := file.read_at(at, _PIECE):
                if stopped():
                    raise StopRun("it was stopped while its rows were written; a resume writes all of them")
                write(data)
                at += len(data)
            flush()
    except OSError as error:
        raise named(error, "standard output") from error
    finally:
        file.close()


def _standard_output(encoding: str) -> tuple[Callable[[bytes], object], Callable[[], object]]:
    """Return how to write bytes to standard output, and how to flush it; in a notebook it takes text only."""
    output = sys.stdout
    if output is None:
        raise ConfigError("the output is '-', and standard output is closed; name a file as the output")
    output.flush()
    if (buffer := getattr(output, "buffer", None)) is not None:
        return buffer.write, buffer.flush
    decoder = codecs.getincrementaldecoder(encoding)()
    return lambda data: output.write(decoder.decode(data)), output.flush


def prints_output(run_state: Mapping[str, Any]) -> bool:
    """Return whether the output of a run is standard output."""
    return is_standard(run_state.get("config", {}).get("output_uri"))
