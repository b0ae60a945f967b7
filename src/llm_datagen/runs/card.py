"""The card of a data set: a README.md beside exported files that says what they are, and how they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.runs.node_kinds import Entry
from llm_datagen.runs.output_node import outputs_to_name
from llm_datagen.runs.topology import inputs_by_place, stream_key
from llm_datagen.streams.outputs import Exported
from llm_datagen.streams.outputs.column_types import shown
from llm_datagen.streams.outputs.paths import relative_to

UNKNOWN_LICENSE = "unknown"


def card_of(run_state: Mapping[str, Any], entry: Entry, made: Exported, *, license: str | None, title: str) -> str:
    """Return the card of an export: Markdown with the YAML head that the Hugging Face hub reads.

    Args:
        run_state: the run state.
        entry: the node whose rows they are.
        made: what was exported.
        license: the licence, as the hub names it ("cc-by-4.0"); None: not said.
        title: the heading.
    """
    head = {"license": license or UNKNOWN_LICENSE, "size_categories": f"[{_size(made.rows)}]"}
    lines = ["---", *(f"{name}: {value}" for name, value in head.items()), "tags: [synthetic]"]
    if made.target.kind != "hf-folder":
        lines += ["configs:", "- config_name: default", "  data_files:", *(f"  - {_quoted(p)}" for p in _names(made))]
    lines += ["---", "", f"# {title}", ""]
    of = f" of {_cell(entry['node_id'])}" if outputs_to_name(run_state) else ""
    files = "1 file" if len(made.parts) == 1 else f"{len(made.parts)} files"
    lines += [f"{made.rows:,} rows{of} in {files}, made by llm-datagen."]
    if license is None:
        lines += ["", "The licence is not known yet: say it in the head of this file."]
    if made.columns:
        lines += ["", "## Columns", "", "| column | type |", "|---|---|"]
        lines += [f"| {_cell(name)} | {_cell(shown(type))} |" for name, type in made.columns.items()]
    lines += ["", "## How the rows were made", ""]
    lines += ["| step | rows in | rows out | filtered | skipped | dead letters |", "|---|--:|--:|--:|--:|--:|"]
    for node in _steps_to(entry, run_state["nodes"]):
        counts = (node.get(name, 0) or 0 for name in ("rows_in", "rows_out", "filtered", "skipped", "dead_letters"))
        lines.append(f"| {_cell(node['operator'])} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    if made.failed:
        lines += ["", f"{made.failed:,} rows do not fit into the columns, and are left out."]
    usage = run_state.get("usage") or []
    if usage:
        lines += ["", "## Models", "", "| model | calls | tokens in | tokens out |", "|---|--:|--:|--:|"]
        lines += [_model(each) for each in usage]
    cost = run_state.get("cost")
    if cost is not None:
        lines += ["", f"Cost, as far as prices are known: {_cost(cost)}."]
    return "\n".join(lines) + "\n"


def _steps_to(entry: Entry, nodes: Sequence[Entry]) -> Sequence[Entry]:
    """Return a node behind all whose rows have gone into its own; of a graph, the others are no step to them."""
    needed = {stream_key(entry["output_uri"])}
    found = []
    for node in reversed(nodes):  # each is behind those that it reads
        if stream_key(node["output_uri"]) in needed:
            needed.update(inputs_by_place(node))
            found.append(node)
    return found[::-1]


def _model(usage: Mapping[str, Any]) -> str:
    name = usage.get("model") or usage.get("name") or "?"
    counts = [usage.get("calls"), usage.get("input_tokens"), usage.get("output_tokens")]
    return f"| {_cell(name)} | " + " | ".join("" if count is None else f"{count:,}" for count in counts) + " |"


def _cost(cost: Any) -> str:
    return ", ".join(f"{value} {name}" for name, value in cost.items()) if isinstance(cost, dict) else f"{cost} USD"


def _size(rows: int) -> str:
    steps = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for most, name in steps if rows < most), "1M<n<10M" if rows < 10_000_000 else "n>10M")


def _names(made: Exported) -> list[str]:
    """Return the paths of the files, as a card beside them names them: one pattern, where there are many."""
    if len(made.parts) > 20:
        return [relative_to(made.target.like_parts(), made.target.root)]
    return [part["path"] for part in made.parts]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
