"""What a run may spend, has spent, and will have spent: by its run state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.runs.caps import caps_of
from llm_datagen.runs.display.node_view import NodeView, tokens_in
from llm_datagen.shards.run_view import RunView
from llm_datagen.shards.spending import RunSpending, Spent


def budget_json(run: RunView, given: Mapping[str, float | int]) -> dict[str, Any] | None:
    """Return the JSON of the budget of a run, the smallest where there are several; None when it has none.

    What is spent is what its account says. While there is none yet, it is that of the nodes whose operators have a
    budget. An operator that cannot be stored has a cap that nobody else knows: both caps are null then.

    Args:
        run: the run.
        given: what the last resume was given in place of what the run state says; see `Origin.caps`.
    """
    nodes, spending = run.progress.nodes, run.spending
    caps = caps_of(run.state)
    if not caps and spending is None:
        return None
    having = {cap.node_id for cap in caps}
    if spending is not None:  # also of those of which nobody else knows whether they have a budget
        having |= {entry["node_id"] for entry in run.state["nodes"] if "cannot" in (entry.get("operator_ref") or {})}
    capped = [node for node in nodes if node.node_id in having]
    if spending is None:
        spending = RunSpending(Spent(sum(node.cost or 0.0 for node in capped), sum(node.tokens for node in capped)))
    return {
        "cap": given.get("usd", min((cap.usd for cap in caps if cap.usd is not None), default=None)),
        "cap_tokens": given.get("tokens", min((cap.tokens for cap in caps if cap.tokens is not None), default=None)),
        "projected": projected(capped),
        **spending.as_dict(),
    }


def projected(nodes: Sequence[NodeView]) -> float | None:
    """Return what a run will have cost in US dollars when all rows are done, if the others cost as much.

    None when no price is known, or it is not known how many rows there are.
    """
    paid = [node for node in nodes if node.cost is not None and node.done]
    if not paid or any(node.total is None for node in paid):
        return None
    return sum((node.cost or 0.0) * max(node.total or 0, node.done) / node.done for node in paid)


def usage_json(node: NodeView, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a node has used."""
    usage = entry.get("usage") or []
    return {
        "node_id": node.node_id,
        "operator": node.operator,
        "cost": node.cost,
        "tokens": sum(map(tokens_in, usage)),
        "usage": usage,
    }
