"""What a process and the service say to each other: one exchange is a `Message` and its `Reply`.

A process MUST send its messages one after the other. All numbers are sums since its start, so an exchange whose answer
was lost is made up for by the next one, and one that arrives late, or twice, changes nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_datagen.llm.grants.units import MOST, NOTHING, Caps, Units


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


Text = Annotated[str, Field(max_length=500)]
Count = Annotated[int, Field(ge=0, le=MOST)]


class LimitAsk(_Model):
    """What a process says of a limit.

    Attributes:
        scope: stands for the endpoint, its key and its model.
        holder: stands for what says this, since its start.
        caps: calls, and tokens, within a minute.
        call_seconds: the longest that a call may take.
        number: of this message; each one has a higher one.
        known: what was granted so far, as the process knows it.
        ended: calls that have ended so far, and the tokens that they used.
        freed: what was given back so far, unused.
        want: what it would like to hold more.
        least: what it needs for its next call; nothing when no call waits.
    """

    scope: Text
    holder: Text
    caps: Caps
    call_seconds: Annotated[float, Field(gt=0, le=1e9)]
    number: Count
    known: Units
    ended: Units
    freed: Units
    want: Units
    least: Units


class LimitAnswer(_Model):
    """What the service says of a limit.

    Attributes:
        scope: as asked.
        granted: what was granted so far, in all.
        again: seconds after which there may be more; None when nothing was refused.
    """

    scope: Text
    granted: Units
    again: float | None = None


class BudgetAsk(_Model):
    """What a run, or a shard, says of its budget.

    Attributes:
        client: stands for the run, also when it is resumed.
        number: of this request; each one that asks, or gives back, has a higher one. 0: nothing is asked.
        token: stands for this request.
        keep: what it holds from now on, besides what it asks for; `spent` and what calls in flight may spend is in it.
        spent: what was spent for good.
        want: what it would like to hold more.
        least: what it needs more for its next call; nothing when no call waits.
        caps: what all runs may spend together.
        is_over: whether it has ended, and asks no more.
    """

    client: Text
    number: Count
    token: Text
    keep: Units
    spent: Units
    want: Units
    least: Units
    caps: Caps
    is_over: bool = False


class BudgetAnswer(_Model):
    """What the service says of a budget.

    Attributes:
        client: as asked.
        number: of the latest request that counted.
        token: of that request.
        granted: what the run holds in all.
        again: seconds after which there may be more; None when nothing was refused.
        is_never: whether there will be no room for `least`.
        is_scarce: whether others wait, so that what is not needed is to be given back.
        held: with `is_never`, what runs hold that do not run now.
        total: with `is_never`, what all have spent, and what those that do not run now hold.
        refused: why nothing is granted at all; empty when that is not so.
    """

    client: Text
    number: Count
    token: Text
    granted: Units
    again: float | None = None
    is_never: bool = False
    is_scarce: bool = False
    held: Units = NOTHING
    total: Units = NOTHING
    refused: str = ""


class Message(_Model):
    """An exchange's question.

    Attributes:
        version: of these messages.
        limits: what it says of limits.
        budgets: what it says of budgets.
    """

    version: Literal[1] = 1
    limits: tuple[LimitAsk, ...] = ()
    budgets: tuple[BudgetAsk, ...] = ()


class Reply(_Model):
    """An exchange's answer, in the order of the question."""

    limits: tuple[LimitAnswer, ...] = ()
    budgets: tuple[BudgetAnswer, ...] = ()
