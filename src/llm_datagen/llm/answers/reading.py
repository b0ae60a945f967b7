"""The JSON of an answer: read as it is, or else out of what models put around it.

Nothing is guessed. What is removed cannot be data: a byte order mark, a think block, fences, prose, a comma after the
last element, a list around the only object, a second copy of the same. What may have lost something on its way is not
read: JSON that does not end, or two objects that differ. Nor is what the words around it do not give as the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from llm_datagen.llm.answers.surroundings import is_given
from llm_datagen.streams.formats.json_text import loads, without_lone_surrogates

_THINK_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_THINK_TAG = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_THINK_BEGIN = re.compile(rf"[\s\ufeff]*{_THINK_TAG.pattern}", re.IGNORECASE)
_ANSWER_BEGIN = re.compile(r"\s*(?:[{\[]|```)")
_OPENING = re.compile(r"[{\[]")
_CLOSING = re.compile(r"[}\]]")
_NO_PROSE = re.compile(r"[\"':]")
_SIGN = re.compile(r'["{}\[\]]')
_STRING_REST = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_LAST_COMMA = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")|(?<![\[{,]),(?=\s*[}\]])', re.DOTALL)


class Reading(NamedTuple):
    """What was read.

    Attributes:
        value: JSON data: exact integers, no NaN, no lone surrogates.
        is_repaired: whether something had to be removed, or replaced.
    """

    value: Any
    is_repaired: bool


def read_json(text: str, *, lenient: bool, wants: type[dict[str, Any]] | type[list[Any]] = dict) -> Reading:
    """Return the object, or the list, that an answer holds.

    Args:
        text: the answer.
        lenient: whether what stands around it is removed; else the answer must be JSON and nothing else.
        wants: what is looked for, ``dict`` or ``list``. JSON that is neither is returned as it is.

    Raises:
        ValueError: saying why there is none, without the answer itself.
    """
    try:
        return _read(text, wants) if lenient else _read_strictly(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _read_strictly(text: str) -> Reading:
    value = loads(text, names="equal")
    if without_lone_surrogates(value) != value:
        raise ValueError("it holds half of a surrogate pair, which is no text")
    return Reading(value, False)


def _read(text: str, wants: type[Any]) -> Reading:
    try:
        value = loads(text, names="equal")
    except ValueError:
        found = _only_one(split_thoughts(text)[1], wants)
        if found is None:
            raise
        return Reading(without_lone_surrogates(found), True)
    found = _only_one(value, wants) if isinstance(value, str) else _as_wanted(value, wants)  # a text: JSON within JSON
    if found is not None:
        return Reading(without_lone_surrogates(found), True)
    clean = without_lone_surrogates(value)
    return Reading(clean, clean != value)


def split_thoughts(text: str) -> tuple[str | None, str]:
    """Return the think block at the beginning of an answer, without its tags, and what follows it.

    A model may leave out the opening tag. What is empty, or not there, is None.

    Raises:
        ValueError: when it begins to think, and does not end.
    """
    begin, end = _THINK_BEGIN.match(text), _THINK_END.search(text)
    if begin is not None and end is None:
        raise ValueError("it begins to think, and does not end")
    if end is None:
        return None, text
    if begin is None and (_ANSWER_BEGIN.match(text) or _THINK_TAG.search(text, 0, end.start())):
        return None, text  # the tags stand within the answer
    thoughts = text[begin.end() if begin else 0 : end.start()].strip()
    return thoughts or None, text[end.end() :].lstrip()


def _only_one(text: str, wants: type[Any]) -> Any:
    """Return the value that `text` holds among other words; None when it holds none.

    Raises:
        ValueError: when it holds several that differ, or one that is damaged, or speaks of it as of something else.
    """
    meant = [each for each in _values_in(text) if _is_meant(each[0], wants)]
    values = [value for value, *_ in meant]
    found = [_as_wanted(value, wants) for value in values]
    whole = [value if other is None else other for value, other in zip(values, found, strict=True)]
    if len({json.dumps(value, sort_keys=True) for value in whole}) > 1:
        raise ValueError(f"it holds {len(whole)} JSON values that differ, and must hold one")
    spans = [(begin, end) for _, begin, end in meant]
    if whole and not any(is_given(text, *span, spans) for span in spans):
        raise ValueError("it holds JSON, but the words around it do not give it as the answer: it must be JSON alone")
    return whole[0] if whole else None


def _is_meant(value: Any, wants: type[Any]) -> bool:
    """Return whether a value is more than prose in brackets, such as ``[1]``."""
    return wants is list or isinstance(value, dict) or any(isinstance(each, dict) for each in value)


def _as_wanted(value: Any, wants: type[Any]) -> Any:
    """Return the object that is alone in a list, where an object is wanted; else None."""
    if wants is dict and isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return value[0]
    return None


def _values_in(text: str) -> Iterator[tuple[Any, int, int]]:
    """Yield the objects and lists that stand in a text, one after the other, each with where it begins and ends.

    Raises:
        ValueError: when one of them does not end, or is no JSON.
    """
    at = 0
    while opening := _OPENING.search(text, at):
        begin = opening.start()
        if _CLOSING.search(text, at, begin):
            raise ValueError("it is not JSON: it closes a bracket that it did not open")
        at = _end_of(text, begin)
        part = text[begin:at]
        try:
            yield loads(_LAST_COMMA.sub(r"\1", part), strict=False, names="equal"), begin, at
        except ValueError:
            if _NO_PROSE.search(part):  # else it is prose in brackets
                raise


def _end_of(text: str, begin: int) -> int:
    """Return where the brackets close that open at `begin`."""
    depth, at = 0, begin
    while sign := _SIGN.search(text, at):
        at = sign.end()
        if sign[0] == '"':
            rest = _STRING_REST.match(text, at)
            if rest is None:
                break
            at = rest.end()
            continue
        depth += 1 if sign[0] in "{[" else -1
        if depth == 0:
            return at
    raise ValueError("it is not JSON: it does not end")
