"""Compressions of files: gzip, bzip2, xz and Zstandard.

A file of each of them is a sequence of *members* (frames, streams), each of which can be unpacked by itself. Zstandard
has frames, too, that hold nothing of the file: what other programs note in them, as `pzstd` does before each frame.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from llm_datagen.errors import ConfigError

_GZIP_BITS = 16 + zlib.MAX_WBITS
_SKIPPED_MAGIC = tuple(bytes((first, 0x2A, 0x4D, 0x18)) for first in range(0x50, 0x60))
_SKIPPED_HEAD_BYTES = 8


class Decompressor(Protocol):
    """Unpacks one member, piece by piece, as `bz2.BZ2Decompressor` does."""

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes of what was given."""

    @property
    def unused_data(self) -> bytes:
        """What was given behind the end of the member."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return what comes of more of the member, `max_length` bytes at most."""


class _GzipDecompressor:
    """A member of a gzip file."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_GZIP_BITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail and not self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _SkippedFrame:
    """A skippable frame of Zstandard (RFC 8878, 3.1.2): a magic number, the length of what follows, and that."""

    needs_input = True

    def __init__(self) -> None:
        self._head = b""
        self._left: int | None = None
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return self._left == 0

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self._left is None:
            self._head += data
            if len(self._head) < _SKIPPED_HEAD_BYTES:
                return b""
            length, data = self._head[4:_SKIPPED_HEAD_BYTES], self._head[_SKIPPED_HEAD_BYTES:]
            self._left = int.from_bytes(length, "little")
        self.unused_data = data[self._left :]
        self._left = max(0, self._left - len(data))
        return b""


@dataclass(frozen=True, slots=True)
class Compression:
    """One of the compressions.

    Attributes:
        name: its name.
        magic: what a member begins with.
        decompressor: makes what unpacks a member.
        compress: returns bytes as a whole member.
        errors: what is raised by data that is damaged.
        skipped: what members begin with that hold nothing of the file.
    """

    name: str
    magic: bytes
    decompressor: Callable[[], Decompressor]
    compress: Callable[[bytes], bytes]
    errors: tuple[type[Exception], ...]
    skipped: tuple[bytes, ...] = ()

    def member(self, head: bytes) -> Decompressor | None:
        """Return what unpacks the member that begins with `head`; None when that is no data of this compression.

        Of a file that ends within the beginning of a member, `head` is what there is.
        """
        if _may_begin(head, self.magic):
            return self.decompressor()
        return _SkippedFrame() if any(_may_begin(head, magic) for magic in self.skipped) else None


def _may_begin(head: bytes, magic: bytes) -> bool:
    return head.startswith(magic) or magic.startswith(head)


def _zstandard() -> Compression:
    module = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        zstd: Any = importlib.import_module(module)
    except ImportError:
        raise ConfigError("files in Zstandard need backports.zstd: pip install 'llm-datagen[zstd]'") from None
    with_checksum = {zstd.CompressionParameter.checksum_flag: 1}
    return Compression(
        "Zstandard",
        b"\x28\xb5\x2f\xfd",
        zstd.ZstdDecompressor,
        lambda data: bytes(zstd.compress(data, options=with_checksum)),
        (zstd.ZstdError, EOFError),
        _SKIPPED_MAGIC,
    )


_OTHERS = {
    ".gz": Compression(
        "gzip", b"\x1f\x8b", _GzipDecompressor, lambda data: gzip.compress(data, 6, mtime=0), (zlib.error, EOFError)
    ),
    ".bz2": Compression("bzip2", b"BZh", bz2.BZ2Decompressor, bz2.compress, (OSError, EOFError)),
    ".xz": Compression("xz", b"\xfd7zXZ\0", lzma.LZMADecompressor, lzma.compress, (lzma.LZMAError, EOFError)),
}

ENDINGS = (*_OTHERS, ".zst")
"""What names of compressed files end with."""


def ending_of(path: str) -> str | None:
    """Return which of these endings a path has; None when it has none."""
    ending = os.path.splitext(path)[1].lower()  # noqa: PTH122 - a PurePath of each of 10,000 files takes long
    return ending if ending in ENDINGS else None


def compression_of(ending: str) -> Compression:
    """Return the compression of files with this ending.

    Raises:
        ConfigError: when what it needs is not installed.
    """
    return _zstandard() if ending == ".zst" else _OTHERS[ending]
