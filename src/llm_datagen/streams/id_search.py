r"""Whether records may carry ids, told without decoding them: most inputs have none, and to decode them takes long.

A name in JSON can be written with escapes, as ``"\u005fi"`` or ``"_\u0069"``: where bytes could be such, the answer is
yes. It is yes, too, of each format that is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from llm_datagen.streams.formats.base import Decoder
from llm_datagen.streams.formats.csv import CsvDecoder
from llm_datagen.streams.formats.jsonl import JsonDecoder
from llm_datagen.streams.formats.text import TextDecoder
from llm_datagen.streams.ids import ID_FIELD
from llm_datagen.streams.inputs.table_rows import TableRow, lines_decoder

_NAME = b'"%s"' % ID_FIELD.encode()
_ESCAPE = b"\\u00"
_ESCAPED = re.compile("|".join(rf"\\u{ord(sign):04x}" for sign in ID_FIELD).encode(), re.IGNORECASE)


def may_have_ids(records: Sequence[Any], decode: Decoder) -> bool:
    """Return whether any of some records may have an id; False is certain.

    Args:
        records: the records.
        decode: how they are decoded.
    """
    lines = lines_decoder(decode)
    if lines is not None:
        if any(ID_FIELD in columns for columns in {each.columns for each in records if each.__class__ is TableRow}):
            return True
        return may_have_ids([each for each in records if each.__class__ is not TableRow], lines)
    if not records:
        return False
    if isinstance(decode, CsvDecoder):
        return ID_FIELD in decode.columns
    if isinstance(decode, TextDecoder):
        return False
    if decode is orjson.loads or isinstance(decode, JsonDecoder):
        return _is_named(b"".join(records))
    return True


def _is_named(text: bytes) -> bool:
    """Return whether some JSON may hold the name, as it is or with escapes."""
    return _NAME in text or (_ESCAPE in text and _ESCAPED.search(text) is not None)
