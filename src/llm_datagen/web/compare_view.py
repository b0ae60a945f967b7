"""The JSON of two runs side by side: settings, counts, cost, time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from llm_datagen.runs.limit import shards_begun
from llm_datagen.runs.masking import masked
from llm_datagen.runs.run_progress import seconds_of
from llm_datagen.runs.status import NodeReport
from llm_datagen.shards.run_view import RunView

_COUNTS = ("rows_in", "rows_out", "filtered", "rejected", "skipped", "dead_letters", "failed")
_NOT_SETTINGS = {
    *(field.name for field in fields(NodeReport)), "kept", "pending", "cost", "fingerprint", "input_fingerprint",
    "changed_from", "input_uri", "output_uri", "rows_again", "rows_untold",
}  # fmt: skip
"""What the entry of a node has besides its settings."""


def compare_json(a: RunView, b: RunView) -> dict[str, Any]:
    """Return two runs side by side. Of the settings, only those that differ."""
    settings = {name: (dict(_settings(run))) for name, run in (("a", a), ("b", b))}
    names = [*settings["a"], *(name for name in settings["b"] if name not in settings["a"])]
    return {
        "a": {"id": a.pipeline_id, "status": str(a.status)},
        "b": {"id": b.pipeline_id, "status": str(b.status)},
        "settings": [
            {"name": name, "a": settings["a"].get(name), "b": settings["b"].get(name)}
            for name in names
            if settings["a"].get(name) != settings["b"].get(name)
        ],
        "counts": list(_counts(a, b)),
        "cost": {"a": a.progress.cost, "b": b.progress.cost},
        "seconds": {"a": seconds_of(a.state, is_live=a.is_live), "b": seconds_of(b.state, is_live=b.is_live)},
    }


def _settings(run: RunView) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a run and of its nodes, by names such as ``node_0.operator.with.model``."""
    state = masked(run.state)
    yield from _flat("", {**(state.get("config") or {}), "shards": shards_begun(state)})
    for entry in state.get("nodes") or []:
        own = {name: value for name, value in entry.items() if name not in _NOT_SETTINGS}
        yield from _flat(f"{entry['node_id']}.", own)


def _flat(head: str, held: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in held.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(f"{head}{name}.", value)
        else:
            yield f"{head}{name}", value


def _counts(a: RunView, b: RunView) -> Iterator[dict[str, Any]]:
    """Yield the counts of all nodes: those of the same place in both runs stand beside each other."""
    of_a, of_b = (run.state.get("nodes") or [] for run in (a, b))
    for number in range(max(len(of_a), len(of_b))):
        entries = [entries[number] if number < len(entries) else None for entries in (of_a, of_b)]
        node_id = next(entry["node_id"] for entry in entries if entry is not None)
        for name in _COUNTS:
            values = [None if entry is None else entry.get(name, 0) for entry in entries]
            yield {"name": f"{node_id}.{name}", "a": values[0], "b": values[1]}
