"""Why a record is no row: what a person must know to fix it."""

from __future__ import annotations

import re

from llm_datagen.config import set_data_config
from llm_datagen.streams.formats.json_text import loads

UTF8_BOM = b"\xef\xbb\xbf"
"""What a file of UTF-8 may begin with."""

_CONVERT = "convert it, such as with: iconv -f {} -t UTF-8"
_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_OTHERS = {
    b"\x1f\x8b": "gzip data: let its name end with .gz",
    b"\x28\xb5\x2f\xfd": "Zstandard data: let its name end with .zst",
    b"\xfd7zXZ\0": "xz data: let its name end with .xz",
    b"BZh91AY&SY": "bzip2 data: let its name end with .bz2",
    b"PAR1\x15": "Parquet: say parquet://",
    b"ARROW1\0": "Arrow: say arrow://",
    b"PK\x03\x04": "a ZIP archive, or a file of Excel: unpack or convert it",
}
_HALF_PAIR = re.compile(rb"\\ud[89a-f]", re.IGNORECASE)
_NO_NUMBER = re.compile(rb"[\[:,\s]-?(?:NaN|Infinity)\b|\A-?(?:NaN|Infinity)\b")


class LongRecord(bytes):
    """The beginning of a record that is longer than a record may be. No decoder takes it for one."""

    __slots__ = ()


class UnreadableRecord(bytes):
    """Why a row cannot be read, in the place of its record. It is no JSON, so that no decoder takes it for a row."""

    __slots__ = ()


def check_encoding(head: bytes, encoding: str = "utf-8") -> None:
    """Check that a file of text does not begin as one of another kind, or of another encoding than UTF-8.

    Raises:
        ValueError: naming the kind or the encoding, and what to do.
    """
    if (kind := next((kind for magic, kind in _OTHERS.items() if head.startswith(magic)), None)) is not None:
        raise ValueError(f"the file is no text, but {kind}")
    if encoding != "utf-8":
        return
    name = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if name is None and len(head) >= 4 and (not head[0]) == (not head[2]) != (not head[1]) == (not head[3]):
        name = "UTF-16BE" if head[1] else "UTF-16LE"  # without a mark: of ASCII, every other byte is NUL
    if name is not None:
        raise ValueError(f"the file is {name}, and must be UTF-8: {_CONVERT.format(name)}")


def text_of(record: bytes, encoding: str = "utf-8") -> str:
    """Return a record as text.

    Raises:
        ValueError: when it is not of the encoding.
    """
    try:
        return record.decode(encoding)
    except UnicodeDecodeError as error:
        what = f"byte 0x{record[error.start]:02x} at position {error.start} is not "
        if encoding != "utf-8":
            right = set_data_config("encoding to the right one")
            raise ValueError(f"{what}{encoding}, which data_config encoding says: {right}") from None
        right = set_data_config("encoding='cp1252'")
        raise ValueError(
            f"{what}UTF-8, so the file is in another encoding, such as Latin-1 or Windows-1252: {right}, or "
            f"{_CONVERT.format('WINDOWS-1252')}"
        ) from None


def explained(error: ValueError, record: bytes) -> ValueError:
    """Return an error that says better why a record is no JSON than a parser does."""
    text = str(error)
    if isinstance(record, LongRecord):
        advice = set_data_config("max_record_bytes")
        return ValueError(f"it is longer than a record may be; if it is meant, {advice}")
    if isinstance(record, UnreadableRecord):
        return ValueError(record.decode())
    if not hasattr(error, "doc"):  # not from a parser of JSON
        return error
    if b"\0" in record:
        return ValueError("it holds NUL characters: the file was damaged by a crash, or is UTF-16")
    try:
        text_of(record)
    except ValueError as found:
        return found
    if "depth limit" in text or "ecursion" in text:
        return ValueError("it is nested too deeply: 1024 levels can be read, and 254 be written")
    if "infinity" in text:  # a number is too large
        try:
            loads(record.decode())
        except (ValueError, RecursionError) as found:
            return ValueError(str(found))
    if (b"NaN" in record or b"Infinity" in record) and _NO_NUMBER.search(record) and _is_json(record):
        advice = set_data_config("nan='null'")
        return ValueError(f"it holds NaN or Infinity, which is no JSON; to read it as null, {advice}")
    if rb"\u" in record and _HALF_PAIR.search(record) and _is_json(record):
        return ValueError(r"it holds half a surrogate pair (\ud…, a cut emoji), which is no text")
    return error


def _is_json(record: bytes) -> bool:
    """Return whether it would be JSON but for what only lenient parsers read."""
    try:
        loads(record.decode(), nan="null")
    except (ValueError, RecursionError):
        return False
    return True
