"""Which nodes draw from the rows of which others (`ops.Feedback`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import did_you_mean
from llm_datagen.operators import operator_name, operators_within
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.runs.id_stripper import IdStripper


def feedback_of(nodes: Sequence[UnifiedNode], *, streaming: bool) -> dict[str, UnifiedNode]:
    """Return the nodes whose rows are drawn, by the ids of the nodes that draw.

    Raises:
        ConfigError: when there is no such node, or several; or they do not run at once.
    """
    drawn = drawn_from({node.node_id: node.operator for node in nodes})
    if drawn and not streaming:
        raise ConfigError(
            f"{next(iter(drawn))}: it draws from rows that another node writes meanwhile (Feedback), so the nodes have "
            "to run at once: give streaming=True"
        )
    by_id = {node.node_id: node for node in nodes}
    return {node_id: by_id[source] for node_id, source in drawn.items()}


def drawn_from(operators: Mapping[str, Any]) -> dict[str, str]:
    """Return the ids of the nodes whose rows are drawn, by those of the nodes that draw.

    Args:
        operators: those of all nodes, by the ids of these, in their order.

    Raises:
        ConfigError: when there is no such node, or several.
    """
    found: dict[str, str] = {}
    for node_id, operator in operators.items():
        parts = operators_within(operator)
        wanted = {name for part in parts if isinstance(name := getattr(part, "feedback_of", None), str)}
        for name in wanted:
            source = _named(operators, node_id, name)
            if found.setdefault(node_id, source) != source:
                raise ConfigError(f"{node_id}: it draws from the rows of two nodes; give each a node of its own")
    return found


def _named(operators: Mapping[str, Any], node_id: str, name: str) -> str:
    names = {each: operator_name(operator) for each, operator in operators.items()}
    if name in operators:
        named = [name]
    elif name:
        named = [each for each, known in names.items() if known == name]
    else:
        named = [each for each, operator in operators.items() if not isinstance(operator, IdStripper)][-1:]
    where = f"{node_id}: Feedback(of={name!r})"
    if not named:
        raise ConfigError(
            f"{where}: there is no such node; {did_you_mean(name, dict.fromkeys([*names, *names.values()]))}"
        )
    if len(named) > 1:
        raise ConfigError(f"{where}: {', '.join(named)} have an operator of this name; give the id of one")
    if named[0] == node_id:
        raise ConfigError(f"{node_id}: Feedback draws from another node, and this is itself; give of=…")
    return named[0]
