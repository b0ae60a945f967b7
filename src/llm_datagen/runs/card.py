"""The card of a data set: a README.md beside exported files that says what they are, and how they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.runs.card_parts import CardPart
from llm_datagen.runs.node_kinds import Entry
from llm_datagen.runs.output_node import outputs_to_name
from llm_datagen.runs.topology import inputs_by_place, stream_key
from llm_datagen.runs.usage import tokens_of
from llm_datagen.runs.words import rows_in_words
from llm_datagen.streams.outputs import Exported
from llm_datagen.streams.outputs.column_types import shown
from llm_datagen.streams.outputs.paths import name_of, relative_to

UNKNOWN_LICENSE = "unknown"


def card_of(run_state: Mapping[str, Any], parts: Sequence[CardPart], *, license: str | None, title: str) -> str:
    """Return the card of exports in one folder: Markdown with the YAML head that the Hugging Face hub reads.

    Args:
        run_state: the run state.
        parts: the exports, one at least.
        license: the licence, as the hub names it ("cc-by-4.0"); None: not said.
        title: the heading.
    """
    rows = max(part.made.rows for part in parts)
    lines = ["---", f"license: {license or UNKNOWN_LICENSE}", f"size_categories: [{_size(rows)}]", "tags: [synthetic]"]
    lines += [*_configs(parts), "---", "", f"# {title}", ""]
    lines += [f"{_what(run_state, part, is_one=len(parts) == 1)}" for part in parts]
    if license is None:
        lines += ["", "The licence is not known yet: export again with `--license` (`license=` in Python)."]
    lines += _columns(parts)
    lines += ["", "## How the rows were made", ""]
    lines += ["| step | rows in | rows out | filtered | skipped | dead letters |", "|---|--:|--:|--:|--:|--:|"]
    for node in _steps_to([part.entry for part in parts], run_state["nodes"]):
        counts = (node.get(name, 0) or 0 for name in ("rows_in", "rows_out", "filtered", "skipped", "dead_letters"))
        lines.append(f"| {_cell(node['operator'])} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    for part in parts:
        if part.made.failed:
            of = "" if len(parts) == 1 else f" of {_code(_name(part.made))}"
            lines += ["", f"Left out, as they do not fit into the columns{of}: {rows_in_words(part.made.failed)}."]
    usage = run_state.get("usage") or []
    if usage:
        lines += ["", "## Models", "", "| model | calls | tokens in | tokens out |", "|---|--:|--:|--:|"]
        lines += [_model(each) for each in usage]
    cost = run_state.get("cost")
    if cost is not None:
        lines += ["", f"Cost, as far as prices are known: {_cost(cost)}."]
    return "\n".join(lines) + "\n"


def _configs(parts: Sequence[CardPart]) -> list[str]:
    """Return which files are a data set: those of each export by themselves, as several have the same rows."""
    lines = []
    for part in parts:
        if part.made.target.kind != "hf-folder":
            name = "default" if len(parts) == 1 else _quoted(_name(part.made))
            lines += [f"- config_name: {name}", "  data_files:", *(f"  - {_quoted(p)}" for p in _names(part.made))]
    return ["configs:", *lines] if lines else []


def _what(run_state: Mapping[str, Any], part: CardPart, *, is_one: bool) -> str:
    made = part.made
    of = f" of {_cell(part.entry['node_id'])}" if outputs_to_name(run_state) else ""
    files = "1 file" if len(made.parts) == 1 else f"{len(made.parts)} files"
    what = f"{rows_in_words(made.rows)}{of} in {files}, made by llm-datagen."
    return what if is_one else f"- {_code(_name(made))}: {what}"


def _columns(parts: Sequence[CardPart]) -> list[str]:
    """Return the tables of columns: one for all exports that have the same ones."""
    lines = []
    left = [part for part in parts if part.columns]
    while left:
        same = [part for part in left if list(part.columns.items()) == list(left[0].columns.items())]
        of = "" if len(same) == len(parts) else f" of {', '.join(_code(_name(part.made)) for part in same)}"
        lines += ["", f"## Columns{of}", "", "| column | type |", "|---|---|"]
        lines += [f"| {_cell(name)} | {_cell(shown(type))} |" for name, type in same[0].columns.items()]
        left = [part for part in left if part not in same]
    return lines


def _steps_to(entries: Sequence[Entry], nodes: Sequence[Entry]) -> Sequence[Entry]:
    """Return nodes behind all whose rows have gone into theirs; of a graph, the others are no step to them."""
    needed = {stream_key(entry["output_uri"]) for entry in entries}
    found = []
    for node in reversed(nodes):  # each is behind those that it reads
        if stream_key(node["output_uri"]) in needed:
            needed.update(inputs_by_place(node))
            found.append(node)
    return found[::-1]


def _model(usage: Mapping[str, Any]) -> str:
    counts = [usage.get("requests", usage.get("calls")), tokens_of(usage, "input"), tokens_of(usage, "output")]
    shown_counts = " | ".join("" if count is None else f"{count:,}" for count in counts)
    return f"| {_cell(usage.get('model') or '?')} | {shown_counts} |"


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


def _name(made: Exported) -> str:
    """Return what an export is called on a card."""
    return name_of(made.target.base)


def _code(text: str) -> str:
    return f"`{text}`"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
