"""A protocol of your own: JSON lines in gzip files, ``gzip://rows.jsonl.gz``, as the input and the output of a run.

docs/how-to/add-a-protocol.md explains it. Run it with ``python custom_protocol.py [DIRECTORY]``; without a directory it
works in a temporary one.
"""

import bisect
import contextlib
import gzip
import json
import struct
import sys
import tempfile
import threading
import zlib
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from llm_datagen import ConfigError, JsonlStream, StreamCorruptError, StreamFactory, UnifiedPipeline
from llm_datagen.streams import AppendFile, LocalStorage, ReadFile

# A gzip file is members, one behind the other, that are unpacked one by one. Each append makes whole members, of
# 1 MiB of text at most, and says in the header of each how long it is: so a place is found without unpacking.
MEMBER_BYTES = 1 << 20
HEADER = struct.Struct("<4sIBBHccHII")  # of gzip, RFC 1952, with one extra field: "LD", bytes packed, bytes of text
MAGIC = b"\x1f\x8b\x08\x04"


def pack(text: bytes) -> bytes:
    """Return a member that holds `text`."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = deflate.compress(text) + deflate.flush() + struct.pack("<II", zlib.crc32(text), len(text))
    return HEADER.pack(MAGIC, 0, 0, 255, 12, b"L", b"D", 8, HEADER.size + len(packed), len(text)) + packed


class Ends(NamedTuple):
    """Where the whole members of a file end: number k begins at byte ``packed[k]``, and its text at ``text[k]``."""

    stamp: tuple[int, int, int]
    packed: list[int]
    text: list[int]


class GzipStorage(LocalStorage):
    """The files of this machine, those that end with ``.gz`` packed. All offsets and sizes are those of the text."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # several threads ask for the size of a file
        self._known: dict[str, Ends] = {}

    def size(self, path: str) -> int | None:
        if not path.endswith(".gz"):
            return super().size(path)
        try:
            return self.ends(path).text[-1]
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open_read(self, path: str) -> ReadFile:
        return GzipReadFile(self, path) if path.endswith(".gz") else super().open_read(path)

    def open_append(self, path: str) -> AppendFile:
        file = super().open_append(path)  # with its lock
        return GzipAppendFile(self, path, file) if path.endswith(".gz") else file

    def ends(self, path: str) -> Ends:
        """Return where the whole members of a file end. What was found before is not looked for again."""
        stat = Path(path).stat()
        stamp = stat.st_ino, stat.st_size, stat.st_mtime_ns
        with self._lock:
            ends = self._known.get(path)
            if ends is None or ends.stamp != stamp:
                with self.open_file(path, "rb") as file:
                    is_grown = ends and ends.stamp[0] == stamp[0] and ends.stamp[1] < stamp[1]
                    packed, text = ends[1:] if ends and is_grown and self._is_as_known(file, ends) else ([0], [0])
                    while found := self._member(file, packed[-1], stat.st_size):
                        packed.append(packed[-1] + found[0])
                        text.append(text[-1] + found[1])
                ends = self._known[path] = Ends(stamp, packed, text)
            return ends

    def _is_as_known(self, file: FileIO, ends: Ends) -> bool:
        """Return whether the last member is still what it was: another process may have cut the file, and gone on."""
        if len(ends.packed) == 1:
            return True
        last = ends.packed[-1] - ends.packed[-2], ends.text[-1] - ends.text[-2]
        return self._member(file, ends.packed[-2], ends.stamp[1]) == last

    def _member(self, file: FileIO, at: int, size: int) -> tuple[int, int] | None:
        """Return the bytes, packed and as text, of the member that begins at byte `at`; None when it is not whole."""
        head = self.read(file, at, HEADER.size)
        if len(head) == HEADER.size and head.startswith(MAGIC) and head[12:16] == b"LD\x08\x00":
            packed, text = HEADER.unpack(head)[-2:]
            return (packed, text) if at + packed <= size else None  # torn: it was never committed
        if len(head) < HEADER.size and MAGIC.startswith(head[:4]):
            return None  # torn, or the end of the file
        if not head.startswith(MAGIC[:3]):
            if not at:
                raise StreamCorruptError(f"{file.name} is not a gzip file")
            return None
        inflate, length, start = zlib.decompressobj(wbits=zlib.MAX_WBITS + 16), 0, at  # another program made it
        while not inflate.eof:
            data = inflate.unconsumed_tail or self.read(file, at, MEMBER_BYTES)
            at += 0 if inflate.unconsumed_tail else len(data)
            if not data:
                raise StreamCorruptError(f"{file.name} ends within a member: it is not whole")
            length += len(unpack(inflate, data, MEMBER_BYTES, file))
        return at - len(inflate.unused_data) - start, length


def unpack(inflate: Any, data: bytes, length: int, file: FileIO) -> bytes:
    try:
        return bytes(inflate.decompress(data, length))
    except zlib.error as error:
        raise StreamCorruptError(f"{file.name} cannot be unpacked: {error}") from error


class GzipReadFile:
    """Reads at offsets of the text: from the beginning of a member, or on from where it was."""

    def __init__(self, storage: GzipStorage, path: str) -> None:
        self._storage, self._path, self._file = storage, path, storage.open_file(path, "rb")
        self._at = self._end = 0  # in the text: the place, and the end of the member that it is in
        self._packed = 0
        self._inflate: Any = None

    def read_at(self, offset: int, length: int) -> bytes:
        if not self._at <= offset < self._end:
            self._at = self._end = -1
        stop, found = min(offset + length, self.size()), bytearray()
        while max(self._at, offset) < stop:
            if self._at == self._end:
                self._begin_member(max(self._at, offset))
            wanted = (stop if self._at >= offset else offset) - self._at
            data = self._next(min(wanted, self._end - self._at))
            found += data if self._at > offset else b""
        return bytes(found)

    def _begin_member(self, offset: int) -> None:
        ends = self._storage.ends(self._path)
        number = bisect.bisect_right(ends.text, offset) - 1
        self._packed, self._at, self._end = ends.packed[number], ends.text[number], ends.text[number + 1]
        self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS + 16)

    def _next(self, length: int) -> bytes:
        found = bytearray()
        while len(found) < length or (self._at + len(found) == self._end and not self._inflate.eof):
            data = self._inflate.unconsumed_tail
            if not data:
                data = self._storage.read(self._file, self._packed, 1 << 16)
                self._packed += len(data)
            if not data or self._inflate.eof:
                raise StreamCorruptError(f"{self._path} was changed while it was read")
            found += unpack(self._inflate, data, max(1, length - len(found)), self._file)
        self._at += len(found)
        return bytes(found)

    def size(self) -> int:
        return self._storage.ends(self._path).text[-1]

    def close(self) -> None:
        self._file.close()


class GzipAppendFile:
    """Appends whole members. It is cut at their ends only: the engine cuts where an append has ended."""

    def __init__(self, storage: GzipStorage, path: str, file: AppendFile) -> None:
        self._storage, self._path, self._file = storage, path, file
        self._is_whole = False  # a process that died may have left a part of a member

    def append(self, data: bytes) -> None:
        if not self._is_whole:
            self._file.truncate(self._storage.ends(self._path).packed[-1])
        self._is_whole = False
        pieces = (data[at : at + MEMBER_BYTES] for at in range(0, len(data), MEMBER_BYTES))
        self._file.append(b"".join(map(pack, pieces)))
        self._is_whole = True

    def truncate(self, length: int) -> None:
        ends = self._storage.ends(self._path)
        if length not in ends.text:
            raise StreamCorruptError(f"{self._path} has no member that ends at byte {length} of the text")
        self._file.truncate(ends.packed[ends.text.index(length)])

    def sync(self) -> None:
        self._file.sync()

    def begin_sync(self, offset: int, length: int) -> None:
        """Do nothing: this only spares `sync` some time."""

    def close(self) -> None:
        self._file.close()


class GzipJsonlStream(JsonlStream):
    """JSON lines in a gzip file; commits and seal beside it are plain."""

    storage = GzipStorage()
    extension = "jsonl.gz"  # of streams between nodes, with default_protocol="gzip://"

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        if not self.path.endswith(".gz"):
            raise ConfigError(f"{uri}: the path must end with .gz")


StreamFactory.register("gzip", GzipJsonlStream)


def main() -> None:
    words = [{"word": f"word {number}"} for number in range(5000)]
    with gzip.open("words.jsonl.gz", "wt", encoding="utf-8") as made_elsewhere:
        made_elsewhere.writelines(json.dumps(word) + "\n" for word in words)

    def shout(row: dict[str, Any]) -> dict[str, Any]:
        return {"word": row["word"].upper()}

    pipeline = UnifiedPipeline(
        [shout, lambda row: {**row, "length": len(row["word"])}],
        "gzip://words.jsonl.gz",
        "gzip://loud.jsonl.gz",
        default_protocol="gzip://",
        streaming=True,
    )
    print(pipeline.describe())
    report = pipeline.run()

    with gzip.open("loud.jsonl.gz", "rt", encoding="utf-8") as packed:  # any program that knows gzip can read it
        rows = [json.loads(line) for line in packed]
    assert report.rows_out == 5000
    assert sorted(row["_i"] for row in rows) == list(range(5000))
    assert all(row["word"] == f"WORD {row['_i']}" for row in rows)
    text = StreamFactory.create("gzip://loud.jsonl.gz").readable()
    print("bytes:", Path("loud.jsonl.gz").stat().st_size, "packed,", text and text.limit, "as text")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
