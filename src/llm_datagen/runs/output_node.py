"""Which node of a run writes its output: what is exported, compared, shown, and counted as what came out.

It is the node that a pipeline file gives ``to: output``. In a run without such a mark, it is the one whose stream no
node reads: of a line, the last one. Where there are several, nothing is guessed: all of them count, and whoever wants
the rows of one says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.runs.chosen_nodes import chosen_nodes
from llm_datagen.runs.node_kinds import MARK, Entry, is_id_stripper
from llm_datagen.runs.words import number


def output_of(run_state: Mapping[str, Any], node: str | None = None) -> Entry:
    """Return the node whose stream is the output of a run, or that was asked for; its rows have ids.

    Args:
        run_state: the run state.
        node: the node that is wanted, as `chosen_nodes` takes it; None: the one that writes the output.

    Raises:
        ConfigError: when there is no such node, or its rows have no ids; when the run has several outputs, and none was
            asked for.
    """
    if node is not None:
        found = chosen_nodes(run_state, node)[0]
        if is_id_stripper(found):
            raise ConfigError(f"--node {node}: its rows have no ids; take the node before it, which has the same rows")
        return found
    outputs = outputs_of(run_state)
    if len(outputs) > 1:
        ids = ", ".join(entry["node_id"] for entry in outputs)
        raise ConfigError(
            f"run {run_state['pipeline_id']!r} has several outputs: {ids}; say which one: --node NAME, or in Python "
            "node=NAME. New runs of a pipeline file know it by `to: output`"
        )
    return outputs[0]


def outputs_of(run_state: Mapping[str, Any]) -> Sequence[Entry]:
    """Return the nodes whose rows have come out, with ids: the one of `output_of`, or all that it could be."""
    outputs = _outputs(run_state)
    return [run_state["nodes"][-2] if is_id_stripper(entry) else entry for entry in outputs]


def outputs_to_name(run_state: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the nodes whose rows have come out, by their ids; none where no other could be meant than the last one."""
    nodes = run_state.get("nodes") or []
    is_clear = not any(entry.get(MARK) for entry in nodes[:-1]) and len(_ends(nodes)) <= 1
    return () if is_clear else tuple(entry["node_id"] for entry in _outputs(run_state))


def _outputs(run_state: Mapping[str, Any]) -> Sequence[Entry]:
    """Return the node that is marked; else all whose stream no node reads."""
    nodes: Sequence[Entry] = run_state.get("nodes") or []
    return [entry for entry in nodes if entry.get(MARK)] or _ends(nodes)


def _ends(nodes: Sequence[Entry]) -> Sequence[Entry]:
    """Return the nodes whose stream no node reads. Those of a line are found without a look at any stream."""
    if all(after["input_uri"] == before["output_uri"] for before, after in pairwise(nodes)):
        return nodes[-1:]
    from llm_datagen.runs.topology import wired_streams

    return [each.writer for each in wired_streams(nodes) if each.writer is not None and not each.readers]


@dataclass(frozen=True, slots=True)
class RowsOut:
    """How many rows have come out of a run, and of which nodes.

    Attributes:
        rows: how many rows each node has written, by its id, in their order.
        outputs: what `outputs_to_name` says.
    """

    rows: Mapping[str, int]
    outputs: Sequence[str] = ()

    @property
    def total(self) -> int:
        """How many, of all that count."""
        if self.outputs:
            return sum(self.rows.get(node_id, 0) for node_id in self.outputs)
        return [0, *self.rows.values()][-1]

    @property
    def which(self) -> str:
        """Which nodes count, behind the total: `` (accept)``, `` (odd 2, even 3)``; empty where it is clear."""
        if len(self.outputs) == 1:
            return f" ({self.outputs[0]})"
        each = (f"{node_id} {number(self.rows.get(node_id, 0))}" for node_id in self.outputs)
        return f" ({', '.join(each)})" if self.outputs else ""

    def __str__(self) -> str:
        return f"{number(self.total)} out{self.which}"
