"""Whether the words around JSON give it as the answer, or speak of it: "Here it is: {…}", or "I would not say {…}".

A rule that guesses nothing. In a fence, JSON is the answer unless a word of doubt stands near it. Without one, it is
the answer when every word around it is one of a few that mean no harm. Whatever else is said is asked again.
"""

from __future__ import annotations

import re

_FENCE_BEFORE = re.compile(r"(?:```|~~~)[\w+-]*\s*$")
_FENCE_AFTER = re.compile(r"\s*(?:```|~~~)")
_SENTENCE_END = re.compile(r"[.!?]+[\"'*_`)\]]*\s+|[\u3002\uff01\uff1f]\s*")
_WORD = re.compile(r"\w+")
_PHRASES = re.compile(r"\b(?:json|requested|required|specified) format\b|\bas you like\b")
"""Of words that would mean something else alone."""

_HARMLESS = frozenset(
    _WORD.findall("""
    a above all and any anything answer answers are array as ask asked assistant be below braces can certainly channel
    complete course else extracted feel final following for free further generated glad got have help helps here hope i
    if in is it json know let list ll me message more my need object of ok okay on one output please provided questions
    reply requested required response result results row s so submit sure thank thanks that the them then there
    therefore these this thus to ve valid value values well with yes you your
    答案 回答 结果 结果如下 如下 以下是结果 以下是答案 好的
    """)
)

_DOUBT = re.compile(
    r"\b(?:not?|\w+n['\u2019]t|cannot|never|none|nothing|wrong|incorrect\w*|invalid|mistaken?|mistakes|instead|rather|"
    r"wait|ignore|discard\w*|avoid|refus\w*|unable|sorry|considered|would|could|might|maybe|perhaps|draft\w*|"
    r"examples?|instance|e\.\s?g|such as|(?:something|looks?) like|like|formats?|templates?|schemas?|placeholders?|"
    r"structure|nicht|kein\w*|nein|falsch|pas|faux|incorrecto)\b|不|没|错|例如|比如|譬如|格式|等等",
    re.IGNORECASE,
)


def is_given(text: str, begin: int, end: int, others: list[tuple[int, int]]) -> bool:
    """Return whether the words around JSON give it as the answer.

    Args:
        text: the whole answer.
        begin: where the JSON begins.
        end: where it ends.
        others: where all JSON in the text begins and ends: no word there counts.
    """
    upto = max((other_end for _, other_end in others if other_end <= begin), default=0)
    before, after = text[upto:begin], end
    rest = []
    for other_begin, other_end in sorted(others):
        if other_begin >= end:
            rest.append(text[after:other_begin])
            after = other_end
    behind = " ".join([*rest, text[after:]])
    *sentences, clause = _SENTENCE_END.split(_FENCE_BEFORE.sub("", before))
    is_fenced = _FENCE_BEFORE.search(before) is not None and _FENCE_AFTER.match(text, end) is not None
    said = clause if _WORD.search(clause) else sentences[-1] if sentences else ""
    if is_fenced:
        return not _is_doubtful(said) and not _is_doubtful(behind)
    return _is_harmless(clause) and _is_harmless(behind) and (said is clause or not _is_doubtful(said))


def _is_doubtful(words: str) -> bool:
    return _DOUBT.search(_PHRASES.sub(" ", words.lower())) is not None


def _is_harmless(words: str) -> bool:
    plain = _PHRASES.sub(" ", words.lower())
    return all(word in _HARMLESS or word.isdecimal() for word in _WORD.findall(plain))
