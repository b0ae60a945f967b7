"""Durable streams of rows: no threads, no actors. Usable by themselves.

From the bottom: `storage/` (operations on files) · `coverage`, `ids`, `rows`, `block` · `formats/` (JSON lines, CSV) ·
`commit_log`, `seal` (what is durable) · `location` (where a stream lies) · `cursor`, `sink` (reading, writing) ·
`stream`, `file_streams`, `factory` (what users name) · `source`, `merged` (what a node reads).
"""

from typing import TYPE_CHECKING

from llm_datagen.errors.lazy import lazy_names

if TYPE_CHECKING:
    from llm_datagen.streams.block import Block
    from llm_datagen.streams.coverage import Coverage, Segment, Span
    from llm_datagen.streams.cursor import Cursor
    from llm_datagen.streams.factory import StreamFactory
    from llm_datagen.streams.file_streams import CsvStream, FileStream, JsonlStream, MemoryStream
    from llm_datagen.streams.fingerprint import Fingerprint
    from llm_datagen.streams.formats.base import Codec, Decoder, Encoder, Split
    from llm_datagen.streams.inputs.cycled import Cycle
    from llm_datagen.streams.inputs.generated import Generate
    from llm_datagen.streams.inputs.table import TableStream
    from llm_datagen.streams.inputs.table_cursor import Table
    from llm_datagen.streams.location import StreamFiles
    from llm_datagen.streams.merge_inputs import MergeInput
    from llm_datagen.streams.merged import MergedStream, inputs_of
    from llm_datagen.streams.read_limit import ReadLimit
    from llm_datagen.streams.reader_writer import StreamReader, StreamWriter
    from llm_datagen.streams.seal import Seal
    from llm_datagen.streams.sink import Sink
    from llm_datagen.streams.source import Source
    from llm_datagen.streams.storage.base import AppendFile, Place, ReadFile, Storage
    from llm_datagen.streams.storage.local import LocalStorage
    from llm_datagen.streams.stream import Stream

__all__ = [
    "AppendFile",
    "Block",
    "Codec",
    "Coverage",
    "CsvStream",
    "Cursor",
    "Cycle",
    "Decoder",
    "Encoder",
    "FileStream",
    "Fingerprint",
    "Generate",
    "JsonlStream",
    "LocalStorage",
    "MemoryStream",
    "MergeInput",
    "MergedStream",
    "Place",
    "ReadFile",
    "ReadLimit",
    "Seal",
    "Segment",
    "Sink",
    "Source",
    "Span",
    "Split",
    "Storage",
    "Stream",
    "StreamFactory",
    "StreamFiles",
    "StreamReader",
    "StreamWriter",
    "Table",
    "TableStream",
    "inputs_of",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_names(
        __name__,
        {
            "block": "Block",
            "coverage": "Coverage Segment Span",
            "cursor": "Cursor",
            "factory": "StreamFactory",
            "file_streams": "CsvStream FileStream JsonlStream MemoryStream",
            "fingerprint": "Fingerprint",
            "formats.base": "Codec Decoder Encoder Split",
            "inputs.cycled": "Cycle",
            "inputs.generated": "Generate",
            "inputs.table": "TableStream",
            "inputs.table_cursor": "Table",
            "location": "StreamFiles",
            "merge_inputs": "MergeInput",
            "merged": "MergedStream inputs_of",
            "read_limit": "ReadLimit",
            "reader_writer": "StreamReader StreamWriter",
            "seal": "Seal",
            "sink": "Sink",
            "source": "Source",
            "storage.base": "AppendFile Place ReadFile Storage",
            "storage.local": "LocalStorage",
            "stream": "Stream",
        },
    )
