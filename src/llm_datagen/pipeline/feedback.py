"""Which nodes draw from the rows of which others (`ops.Feedback`)."""

from __future__ import annotations

from collections.abc import Sequence

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
    found: dict[str, UnifiedNode] = {}
    for node in nodes:
        wanted = {
            name
            for operator in operators_within(node.operator)
            if isinstance(name := getattr(operator, "feedback_of", None), str)
        }
        for name in wanted:
            if not streaming:
                raise ConfigError(
                    f"{node.node_id}: it draws from rows that another node writes meanwhile (Feedback), so the nodes "
                    "have to run at once: give streaming=True"
                )
            source = _named(nodes, node, name)
            if found.setdefault(node.node_id, source) is not source:
                raise ConfigError(f"{node.node_id}: it draws from the rows of two nodes; give each a node of its own")
    return found


def _named(nodes: Sequence[UnifiedNode], node: UnifiedNode, name: str) -> UnifiedNode:
    if name:
        named = [each for each in nodes if each.node_id == name]
        named = named or [each for each in nodes if operator_name(each.operator) == name]
    else:
        named = [each for each in nodes if not isinstance(each.operator, IdStripper)][-1:]
    where = f"{node.node_id}: Feedback(of={name!r})"
    if not named:
        known = dict.fromkeys([*(each.node_id for each in nodes), *(operator_name(each.operator) for each in nodes)])
        raise ConfigError(f"{where}: there is no such node; {did_you_mean(name, known)}")
    if len(named) > 1:
        ids = ", ".join(each.node_id for each in named)
        raise ConfigError(f"{where}: {ids} have an operator of this name; give the id of one")
    if named[0] is node:
        raise ConfigError(f"{node.node_id}: Feedback draws from another node, and this is itself; give of=…")
    return named[0]
