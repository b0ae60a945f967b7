"""Types of columns whose values a row has as text: moments, decimals, bytes; as inputs of such types give them.

A text becomes a value only where it says that value exactly, so that it comes back when the file is read. A value is
plain data that pyarrow takes for the type: whole numbers of units since 1970, decimals, bytes.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from uuid import UUID

from llm_datagen.streams.arrow_library import arrow

_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_ALIASES = {
    "date": "date32[day]",
    "date32": "date32[day]",
    "date64": "date64[ms]",
    "time": "time64[us]",
    "timestamp": "timestamp[us]",
    "duration": "duration[us]",
    "bytes": "binary",
}
_NAME = re.compile(
    r"date32\[day\]|date64\[ms\]|time32\[m?s\]|time64\[[un]s\]|duration\[(?:s|ms|us|ns)\]|uuid|(?:large_)?binary"
    r"|timestamp\[(?:s|ms|us|ns)(?:, ?(?:tz=)?[^\]\s]+)?\]|decimal(?:32|64|128|256)?\(\d+, ?\d+\)"
    r"|fixed_size_binary\[\d+\]"
)
_CALENDAR_DAYS = 146_097  # of 400 years, after which the calendar begins again
_DATE = r"([+-]?\d{4,})-(\d\d)-(\d\d)"
_CLOCK = r"(\d\d):(\d\d):(\d\d)(?:\.(\d+))?"
_IS_DATE, _IS_TIME = re.compile(_DATE), re.compile(_CLOCK)
_IS_MOMENT = re.compile(rf"{_DATE}[T ]{_CLOCK}(Z|[+-]\d\d:?\d\d)?")
_IS_DURATION = re.compile(r"(-?)PT(\d+)(?:\.(\d+))?S")
_IS_DECIMAL = re.compile(r"-?\d+(?:\.(\d+))?")


def text_type(name: str) -> str | None:
    """Return the full name of a type whose values are text in rows, as pyarrow writes it; None for any other type.

    Raises:
        ValueError: when it names a zone or a number of digits that there is not.
    """
    name = _ALIASES.get(name, name)
    if not _NAME.fullmatch(name):
        return None
    if name.startswith("timestamp") and "," in name:
        unit, _, zone = name[10:-1].partition(",")
        zone = zone.strip().removeprefix("tz=")
        _offset_at(0, zone)
        return f"timestamp[{unit}, tz={zone}]"
    if name.startswith("decimal"):
        bits, precision, scale = _decimal_parts(name)
        if not 0 < precision <= {32: 9, 64: 18, 128: 38, 256: 76}[bits]:
            raise ValueError(f"decimal{bits} has no {precision} digits")
        if scale > precision:
            raise ValueError(f"of {precision} digits, {scale} cannot stand behind the point")
        return f"decimal{bits}({precision}, {scale})"
    return name


@functools.cache
def reader_of(type: str) -> Callable[[object], object] | None:
    """Return what makes a value of a type of a JSON value; it raises ValueError where it says none. None: no such type.

    Args:
        type: as `text_type` returns it.
    """
    if not _NAME.fullmatch(type):
        return None
    kind, _, rest = type.rstrip("])").replace("(", "[").partition("[")
    unit, _, zone = rest.partition(", tz=")
    digits = _DIGITS.get(unit, 0)
    if kind.startswith("decimal"):
        _, precision, scale = _decimal_parts(type)
        return lambda value: _decimal(value, precision, scale)
    of_text: Callable[[str], object] = {
        "date32": _days,
        "date64": lambda text: _days(text) * 86_400_000,
        "time32": lambda text: _time(text, digits),
        "time64": lambda text: _time(text, digits),
        "duration": lambda text: _duration(text, digits),
        "timestamp": lambda text: _moment(text, digits, zone or None),
        "uuid": _uuid,
        "fixed_size_binary": lambda text: _bytes(text, int(rest)),
    }.get(kind, lambda text: _bytes(text, None))
    return lambda value: of_text(_text(value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("it is no text")  # noqa: TRY004 - a row's fault
    return value


def _matched(pattern: re.Pattern[str], text: str, what: str) -> re.Match[str]:
    found = pattern.fullmatch(text) if text.isascii() else None
    if found is None:
        raise ValueError(f"{text[:60]!r} is no {what}")
    return found


def _days(text: str) -> int:
    return _day_number(_matched(_IS_DATE, text, "date such as 2024-01-31"))


def _day_number(found: re.Match[str]) -> int:
    """Return the days since 1970 that the first three groups say."""
    cycles, rest = divmod(int(found[1]) - 1, 400)
    return date(rest + 1, int(found[2]), int(found[3])).toordinal() - 719_163 + cycles * _CALENDAR_DAYS


def _time(text: str, digits: int) -> int:
    return _clock(_matched(_IS_TIME, text, "time such as 23:59:59.5"), 1, digits)


def _clock(found: re.Match[str], first: int, digits: int) -> int:
    """Return the time of a day that four groups say, from number `first` on."""
    hour, minute, second = (int(found[first + number]) for number in range(3))
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"no clock shows {hour:02}:{minute:02}:{second:02}")
    return (hour * 3600 + minute * 60 + second) * _units(digits) + _fraction(found[first + 3], digits)


def _units(digits: int) -> int:
    """Return how many units a second has."""
    return int(10**digits)


def _fraction(text: str | None, digits: int) -> int:
    text = (text or "").rstrip("0")
    if len(text) > digits:
        raise ValueError(f"it has {len(text)} digits behind the point, and the unit of the type {digits}")
    return int(text.ljust(digits, "0") or "0")


def _moment(text: str, digits: int, zone: str | None) -> int:
    found = _matched(_IS_MOMENT, text, "moment such as 2024-01-31T23:59:59.5")
    offset = found[8]
    value = _day_number(found) * 86_400 * _units(digits) + _clock(found, 4, digits)
    if (offset is None) != (zone is None):
        raise ValueError("it has no offset, and the type a zone" if zone else "it has an offset, and the type no zone")
    if zone is not None:
        seconds = 0 if offset == "Z" else int(f"{offset[0]}1") * (int(offset[1:3]) * 3600 + int(offset[-2:]) * 60)
        value -= seconds * _units(digits)
        there = _offset_at(value // _units(digits), zone)
        if seconds != (0 if there % 60 else there):
            raise ValueError(f"its offset {offset} is not that of {zone} at this moment, and would be lost")
    return _of_64_bits(value)


def _offset_at(seconds: int, zone: str) -> int:
    """Return the seconds by which a zone is ahead of UTC, at so many seconds since 1970."""
    if zone in {"UTC", "Z"}:
        return 0
    if re.fullmatch(r"[+-]\d\d:\d\d", zone):
        return int(f"{zone[0]}1") * (int(zone[1:3]) * 3600 + int(zone[4:]) * 60)
    compute, pa = arrow("pyarrow.compute"), arrow()
    try:  # as the reader of the file will see it: other data of zones differ after 2037
        local = compute.local_timestamp(pa.scalar(seconds, pa.timestamp("s", zone)))
    except pa.ArrowInvalid:
        raise ValueError(f"there is no zone {zone!r}") from None
    return int(local.cast(pa.int64()).as_py()) - seconds


def _duration(text: str, digits: int) -> int:
    sign, seconds, fraction = _matched(_IS_DURATION, text, "duration such as PT90.5S").groups()
    value = int(seconds) * _units(digits) + _fraction(fraction, digits)
    return _of_64_bits(-value if sign else value)


def _of_64_bits(value: int) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("64 bits do not hold it in the unit of the type")
    return value


def _decimal(value: object, precision: int, scale: int) -> Decimal:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    text = str(value) if is_whole else _text(value)
    found = _matched(_IS_DECIMAL, text, "decimal such as -1.50")
    fraction = (found[1] or "").rstrip("0")
    if len(fraction) > scale:
        raise ValueError(f"it has {len(fraction)} digits behind the point, and the type {scale}")
    if len(text.lstrip("-").partition(".")[0].lstrip("0")) > precision - scale:
        raise ValueError(f"it has more than {precision - scale} digits before the point")
    return Decimal(text)


def _decimal_parts(name: str) -> tuple[int, int, int]:
    bits, precision, scale = (int(part) if part else 0 for part in re.findall(r"(\d*)\((\d+), ?(\d+)\)", name)[0])
    return bits or (128 if precision <= 38 else 256), precision, scale


def _bytes(text: str, size: int | None) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or base64.b64encode(data).decode() != text:
        raise ValueError(f"{text[:40]!r} is no base64")
    if size is not None and len(data) != size:
        raise ValueError(f"it is {len(data)} bytes, and the type has {size}")
    return data


def _uuid(text: str) -> bytes:
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or str(value) != text:
        raise ValueError(f"{text[:40]!r} is no UUID in lower case")
    return value.bytes
