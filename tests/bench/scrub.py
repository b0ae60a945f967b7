"""A cleaning operator that takes processor time: some 70 µs a row of 500 bytes. It imports nothing but Python."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import Any

_WORDS = re.compile(r"\w+", re.UNICODE)
_NOISE = re.compile(r"[^\w\s.,'-]+")
_SPACES = re.compile(r"\s+")


def scrub(row: Any) -> Any:
    """Normalise a text, take out what does not belong there, and add how many words are repeated."""
    text = unicodedata.normalize("NFKC", row["text"]).strip().lower()
    text = _SPACES.sub(" ", _NOISE.sub("", text))
    words = _WORDS.findall(text)
    pairs = list(pairwise(words))
    repeated = 1 - len(set(pairs)) / len(pairs) if pairs else 0.0
    alphabetic = sum(map(str.isalpha, text)) / max(1, len(text))
    return {"n": row["n"], "text": text, "words": len(words), "repeated": repeated, "alphabetic": alphabetic}
