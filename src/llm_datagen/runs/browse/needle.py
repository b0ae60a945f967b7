"""What to look for in rows as they lie on disk: a text, in the forms in which the formats write it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import orjson


def needle_of(text: str) -> Callable[[bytes], bool]:
    """Return what tells whether a record holds a text. Letters of ASCII are found in either case.

    Signs that JSON or CSV writes otherwise are found as they are written there: quotes, line ends, escaped letters.
    """
    forms = {
        text.encode("utf-8", "surrogatepass"),
        text.replace('"', '""').encode("utf-8", "surrogatepass"),
        json.dumps(text)[1:-1].encode(),
    }
    with contextlib.suppress(TypeError):  # half a sign: only as an escape
        forms.add(orjson.dumps(text)[1:-1])
    needles = sorted({form.lower() for form in forms})
    if len(needles) == 1:
        needle = needles[0]
        return lambda record: needle in record.lower()
    return lambda record: _has_any(record.lower(), needles)


def _has_any(record: bytes, needles: list[bytes]) -> bool:
    return any(needle in record for needle in needles)
