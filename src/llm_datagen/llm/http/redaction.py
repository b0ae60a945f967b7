"""Secrets are taken out of what an endpoint or a library says, before it becomes part of an error.

A secret is found as it is, in any case of letters, and as it is after escaping for URLs (also twice), JSON, HTML or
source text; in base64, at whatever place of the text that was encoded, and in hex; and every piece of one of these that
has eight characters or more. A shorter secret is found where it is no part of a word. What is changed in another way,
such as reversed or broken up by blanks, is not found.
"""

from __future__ import annotations

import base64
import re
import traceback
from collections.abc import Iterator

from yarl import URL

from llm_datagen.llm.secret import Secret

_SHORTEST = 8
"""Characters of a piece of a secret that is taken out, and of a value in a URL's query that may be a key: shorter ones
are versions and switches."""
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_ESCAPED = re.compile(
    r"%(?:25)*([0-9a-fA-F]{2})|\\+u00([0-9a-fA-F]{2})|\\+x([0-9a-fA-F]{2})|&#[xX]0*([0-9a-fA-F]{2});|&#0*([0-9]{2,3});"
    r"|\\+([^\\ux])|(&amp;|&lt;|&gt;|&quot;)"
)
_NAMED = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"'}


class Redaction:
    """Knows the secrets of an endpoint: its key, and what is in the query of its URL.

    Args:
        api_key: the key; None when there is none.
        url: where calls go.
        others: more secrets.
    """

    def __init__(self, api_key: Secret | None, url: URL, *others: str) -> None:
        values = [value for value in url.query.values() if len(value) >= _SHORTEST]
        raw = [part.partition("=")[2] for part in url.raw_query_string.split("&")]
        values += [value for value in raw if len(value) >= _SHORTEST]
        values += [value for value in others if value]
        if api_key is not None:
            values.append(api_key.get_secret_value())
        # Hashes of pieces by the pieces' size, so that no secret is kept here, where a traceback may show it.
        self._pieces: dict[int, set[int]] = {}
        for form in {form.translate(_LOWER) for value in values for form in _forms(value)}:
            size = min(len(form), _SHORTEST)
            hashes = self._pieces.setdefault(size, set())
            hashes.update(hash(form[at : at + size]) for at in range(len(form) - size + 1))

    def redacted(self, text: str) -> str:
        """Return `text` with ``***`` in place of every secret, and of every piece of one that is long enough."""
        plain, starts = _unescaped(text)
        plain = plain.translate(_LOWER)
        found: list[tuple[int, int]] = []
        for size, pieces in self._pieces.items():
            spans = [(at, at + size) for at in range(len(plain) - size + 1) if hash(plain[at : at + size]) in pieces]
            found += spans if size == _SHORTEST else [span for span in spans if _stands_alone(plain, *span)]
        if not found:
            return text
        shown, upto = [], 0
        for start, end in _merged(sorted(found)):
            shown += [text[upto : starts[start]], "***"]
            upto = starts[end]
        return "".join(shown) + text[upto:]

    def cause(self, error: BaseException) -> BaseException | None:
        """Return `error`, to raise another from; None when its traceback would show a secret."""
        shown = "".join(traceback.format_exception(error))
        return error if self.redacted(shown) == shown else None


def _forms(secret: str) -> Iterator[str]:
    """Return the secret, and what is left of it in base64 and in hex whatever stands before and behind it."""
    yield secret
    yield _unescaped(secret)[0]
    data = secret.encode()
    if len(data) < _SHORTEST:
        return
    yield data.hex()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + data).decode()
        form = encoded[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]  # only what its own bits decide
        yield form
        yield form.translate({ord("+"): "-", ord("/"): "_"})


def _unescaped(text: str) -> tuple[str, list[int]]:
    """Return the text with escapes read, and of each of its characters, and of its end, the place in `text`."""
    plain: list[str] = []
    starts: list[int] = []
    upto = 0
    for match in _ESCAPED.finditer(text):
        plain.append(text[upto : match.start()])
        starts.extend(range(upto, match.start()))
        percent, u_code, x_code, html, decimal, char, name = match.groups()
        digits = percent or u_code or x_code or html
        plain.append(chr(int(digits, 16)) if digits else chr(int(decimal)) if decimal else char or _NAMED[name])
        starts.append(match.start())
        upto = match.end()
    plain.append(text[upto:])
    starts.extend(range(upto, len(text) + 1))
    return "".join(plain), starts


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Return whether a part of a text is no part of a longer word."""
    return not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum())


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    start, end = spans[0]
    for next_start, next_end in spans[1:]:
        if next_start > end:
            yield start, end
            start, end = next_start, next_end
        else:
            end = max(end, next_end)
    yield start, end
