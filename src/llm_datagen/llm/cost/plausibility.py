"""Which counts of tokens are believed: what an endpoint says it used is bounded by what the request can use."""

from __future__ import annotations

from collections.abc import Mapping

from llm_datagen.llm.cost.budget import most_prompt_tokens, most_searches
from llm_datagen.llm.limits.token_estimate import answer_limit, prompt_and_output
from llm_datagen.llm.types import ChatRequest

_FEW = 100_000
"""Tokens that are believed of any call: some endpoints put much around the messages, or count thoughts."""
_MANY = 1 << 20
"""Tokens of an answer that are believed when the request does not limit it."""
_TIMES = 4
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def believable(usage: Mapping[str, int], request: ChatRequest) -> tuple[Mapping[str, int], str]:
    """Return the counts, without those that cannot be, and what was wrong with them; "" when nothing was.

    A count below zero cannot be, nor one that is above 100,000 and four times what the request can use: a token for
    each byte of the prompt, and ``max_tokens``. Prompt and answer are believed together or not at all: then they count
    as not said. Nor are both believed to be 0.
    """
    prompt, answer = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    total = usage.get("total_tokens", 0)
    if len(usage) == len(_COUNTS) and 0 < prompt <= _FEW and 0 < answer <= _FEW and 0 < total <= _FEW:
        return usage, ""  # most usages: these counts and no others, and none of them large
    wrong = [name for name in _COUNTS if not 0 <= usage.get(name, 0) <= _most(name, usage.get(name, 0), request)]
    if not wrong and "prompt_tokens" in usage and not (prompt or answer or total):
        wrong = list(_COUNTS[:2])
    if wrong:
        return {}, " and ".join(f"{name} {_short(usage.get(name, 0))}" for name in wrong)
    of_answer = prompt_and_output(usage)[1]
    parts = {name: of_answer if name == "reasoning_tokens" else prompt for name in usage if name not in _COUNTS}
    if "search_units" in parts:
        parts["search_units"] = most_searches(request, most_prompt_tokens(request))
    odd = [name for name, whole in parts.items() if not 0 <= usage[name] <= whole]
    if odd:
        believed = {name: count for name, count in usage.items() if name not in odd}
        return believed, " and ".join(f"{name} {_short(usage[name])}" for name in odd)
    return usage, ""


def _most(name: str, count: int, request: ChatRequest) -> int:
    if count <= _FEW:  # most calls: the size of the prompt need not be known
        return _FEW
    limit = answer_limit(request.params)
    answer = request.choices * (_MANY if limit is None else max(_FEW, _TIMES * limit))
    if name == "completion_tokens":
        return answer
    prompt = max(_FEW, _TIMES * most_prompt_tokens(request))
    return prompt if name == "prompt_tokens" else prompt + answer


def _short(number: int) -> str:
    return f"{number:,}" if abs(number) < 10**15 else f"{float(min(max(number, -(10**300)), 10**300)):.0e}"
