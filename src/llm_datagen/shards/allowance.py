"""What each shard may use of the limits and the budget of the whole: by a service that its driver runs, or a share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llm_datagen.operators import operators_within
from llm_datagen.runs import RunFolder
from llm_datagen.runs.file_names import KEPT
from llm_datagen.shards.claim import latest
from llm_datagen.shards.spec import shards_folder

if TYPE_CHECKING:
    from llm_datagen.llm.grants.service import GrantService
    from llm_datagen.llm.grants.units import Units

GRANTS = "LLM_DATAGEN_GRANTS"
SHARE = "LLM_DATAGEN_SHARE"
"""The variables that tell a process where the service is, or which share it has; see `llm.grants.environment`."""


class Allowance:
    """Tells shards, by their environment, what they may use.

    Where the environment of this process says it already, all shards have that. Else, if models have limits or a
    budget, a service shares them among the shards that run.

    Args:
        operators: those of the whole.
        folder: that of the whole, in which the service keeps its files, on this machine.
        host: the name of this machine as shards reach it; None: they run on it, and nobody else reaches the service.
    """

    def __init__(self, operators: Iterable[Any], folder: RunFolder, host: str | None = None) -> None:
        self._service: GrantService | None = None
        is_said = os.environ.get(GRANTS) or os.environ.get(SHARE)
        if not is_said and _are_limited(operators):
            from llm_datagen.llm.grants.service import service_for

            known = _spent_before(folder)
            self._service = (
                service_for(folder.path, known=known)
                if host is None
                else service_for(folder.path, host="0.0.0.0", address=host, known=known)
            )

    def environment(self) -> Mapping[str, str]:
        """Return the variables of all shards."""
        return {} if self._service is None else self._service.environment()

    def stop(self) -> None:
        """Serve no more. May be called more than once."""
        if self._service is not None:
            self._service.stop()


def share_of(number: int, count: int) -> Mapping[str, str]:
    """Return the variables of a shard that others start: its part of all limits and budgets, fixed.

    Where the environment says what this process may use, there are none.
    """
    return {} if os.environ.get(GRANTS) or os.environ.get(SHARE) else {SHARE: f"{number}/{count}"}


@contextmanager
def environment_with(variables: Mapping[str, str]) -> Iterator[None]:
    """Have some variables in the environment of this process, for as long as the block runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _spent_before(folder: RunFolder) -> Mapping[str, tuple[Units, Units]]:
    """Return what the shards of a run hold of a budget and have spent, by what a service knows each by.

    One whose shards were run before by others, with fixed shares or by another service, does not know of it.
    """
    from llm_datagen.llm.cost.holding import client_before
    from llm_datagen.llm.cost.spend_file import FILE_NAME, SpendFile
    from llm_datagen.llm.grants.units import Units

    shards = shards_folder(folder)
    if shards.is_on_store:
        return {}
    found: dict[str, tuple[Units, Units]] = {}
    for path in sorted(shards.path.glob(f"[0-9]*/{KEPT}/**/{FILE_NAME}")):
        file, run = SpendFile(path.parent), path.relative_to(shards.path).parts[0]
        spending = file.read_all()
        booked = spending.spent.plus(spending.in_flight)
        if file.grants is not None:
            found[file.grants.client] = Units(*file.grants.granted), Units(*booked.minus(file.grants.inherited))
        elif (
            any(booked) and latest(shards.location, int(run.partition(".")[0])) == run
        ):  # the one before it has spent that, too
            found[client_before(run)] = Units(*booked), Units(*booked)
    return found


def _are_limited(operators: Iterable[Any]) -> bool:
    """Return whether operators call models with limits, or with a budget."""
    if "llm_datagen.llm.model_operator" not in sys.modules:
        return False  # then none of them calls any
    from llm_datagen.llm.model_operator import ModelOperator

    models = [each for operator in operators for each in operators_within(operator) if isinstance(each, ModelOperator)]
    limits = [endpoint.limits for each in models for endpoint in each.endpoints]
    return any(each.budget is not None for each in models) or any(
        each.requests_per_minute is not None or each.tokens_per_minute is not None for each in limits
    )
