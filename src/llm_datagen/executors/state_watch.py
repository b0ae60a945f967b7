"""Whether an operator keeps something from one call to the next: then a crash takes it away, and rows differ."""

from __future__ import annotations

from typing import Any

from llm_datagen.errors.escape import listed
from llm_datagen.operators import INodeContext, operator_name
from llm_datagen.operators.fingerprint import changed_data, data_of

MOST_NAMED = 5


class StateWatch:
    """Compares the plain data of an operator after its `setup` with what it is before its `teardown`.

    Attributes, what functions close over, their defaults, and the globals that they name count; sizes stand for what is
    large. An operator with ``stateful = True`` is not watched. It costs two comparisons per run, and nothing per row.

    Args:
        operator: the operator.
        ctx: who is told.
    """

    def __init__(self, operator: Any, ctx: INodeContext) -> None:
        self._operator = operator
        self._ctx = ctx
        self._before: dict[str, str | None] | None = None

    def begin(self) -> None:
        """Look, after `setup`."""
        if not getattr(self._operator, "stateful", False):
            self._before = data_of(self._operator)

    def end(self) -> None:
        """Look again, before `teardown`, and warn of what has changed."""
        names = [] if self._before is None else changed_data(self._before, data_of(self._operator))
        if names:
            self._ctx.log(
                f"operator {operator_name(self._operator)} has state of its own: {listed(names, MOST_NAMED)} "
                "changed between calls. It is gone after a crash, so a resume gives other rows than an uninterrupted "
                "run; make it stateless, or say that it is meant: stateful = True",
                level="warning",
                own_state=names,
            )
