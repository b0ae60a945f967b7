"""What the answers of all judges become: the columns of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any, Literal

from llm_datagen.llm.judging.questions import REASON, SCORE, TIE, VERDICT
from llm_datagen.operators.majority import majority

Aggregate = Literal["mean", "median", "majority"]
"""How the scores of several answers become one."""


def scored(answers: Sequence[Mapping[str, Any]], criteria: Sequence[str], aggregate: Aggregate) -> dict[str, Any]:
    """Return the columns of scores.

    Args:
        answers: what each judge said, each time that it was asked.
        criteria: the criteria, each a column; none: there is one score.
        aggregate: how several scores become one.

    Returns:
        Of one answer: ``score`` (the mean of the criteria, if there are some), ``reason``. Of several: ``score``,
        ``scores`` (those of each answer), ``agreement`` (the share of answers that gave the most frequent score; of
        criteria, the mean of that) and ``reasons``. Of criteria, a column each, too.
    """
    names = criteria or (SCORE,)
    votes = {name: [answer[name] for answer in answers] for name in names}
    found = {name: _together(values, aggregate) for name, values in votes.items()}
    columns = dict(found) if criteria else {}
    columns[SCORE] = _mean(list(found.values())) if criteria else found[SCORE]
    if len(answers) == 1:
        return {**columns, REASON: answers[0][REASON]}
    each = [{name: answer[name] for name in names} if criteria else answer[SCORE] for answer in answers]
    agreement = fmean(majority(values)[1] for values in votes.values())
    reasons = [answer[REASON] for answer in answers]
    return {**columns, "scores": each, "agreement": round(agreement, 4), "reasons": reasons}


def compared(pairs: Sequence[Sequence[Mapping[str, Any]]], candidates: tuple[str, str]) -> dict[str, Any]:
    """Return the columns of a comparison.

    Args:
        pairs: for each vote, what the judge said when the first candidate was A, and, if it was asked that too, when
            the second one was.
        candidates: their names.

    Returns:
        ``winner`` (the name of one, or ``tie``: also when the most votes are equal), ``votes`` (that of each judge,
        each time; ``tie`` when it chose by the place), ``agreement`` (the share of the most votes), ``consistent``
        (the share of votes that did not depend on the place; only where both orders were asked) and ``reasons``.
    """
    first, second = candidates
    names = ({"A": first, "B": second, TIE: TIE}, {"A": second, "B": first, TIE: TIE})
    said = [[names[order][answer[VERDICT]] for order, answer in enumerate(pair)] for pair in pairs]
    votes = [each[0] if len(set(each)) == 1 else TIE for each in said]
    winner, agreement = majority(votes)
    columns = {"winner": winner or TIE, "votes": votes, "agreement": agreement}
    if all(len(each) > 1 for each in said):
        columns["consistent"] = round(fmean(len(set(each)) == 1 for each in said), 4)
    return {**columns, "reasons": [answer[REASON] for pair in pairs for answer in pair]}


def scored_columns(criteria: Sequence[str], *, is_single: bool) -> tuple[str, ...]:
    """Return the names of the columns of `scored`."""
    return (*criteria, SCORE, *((REASON,) if is_single else ("scores", "agreement", "reasons")))


def compared_columns(*, both_orders: bool) -> tuple[str, ...]:
    """Return the names of the columns of `compared`."""
    return ("winner", "votes", "agreement", *(("consistent",) if both_orders else ()), "reasons")


def _together(values: Sequence[Any], aggregate: Aggregate) -> Any:
    if len(values) == 1:
        return values[0]
    match aggregate:
        case "mean":
            return _mean(values)
        case "median":
            return median(values)
        case _:
            return majority(values)[0]


def _mean(values: Sequence[Any]) -> float | None:
    """Return the mean; None when one is missing, as the majority of votes that are equal is."""
    return None if None in values else round(fmean(values), 4)
