"""The tables of settings in the reference. ``python -m tests.examples.settings_tables`` writes them anew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from llm_datagen.config import DataConfig, NodeConfigOptions, WriterConfig, settings_in
from llm_datagen.pipeline.settings import NodeAloneSettings, NodePipelineOptions, PipelineSettings

from .pages import DOCS

REFERENCE = DOCS / "reference.md"
HEAD = "| setting | default | unit | meaning |\n|---|---|---|---|\n"
NODE_ID = "| `node_id` | required | | its id |"
NODES = "| `nodes` | required | | `UnifiedNode`s with streams and operators, in any order |"
TABLES: dict[str, tuple[Any, list[str]]] = {
    "UnifiedPipeline": (PipelineSettings, []),
    "UnifiedNodePipeline": (NodePipelineOptions, [NODES]),
    "NodeConfig": (NodeConfigOptions, []),
    "WriterConfig": (WriterConfig, []),
    "DataConfig": (DataConfig, []),
    "UnifiedNode": (NodeAloneSettings, [NODE_ID]),
}
"""What each section's table shows, and rows before it that are no settings."""

_SEE = re.compile(r" See (?:\[[^\]]*\]\([^)]*\)(?:,? and |, )?)+\.$")
"""What a cell may say behind the text of a setting: where more is told. It is kept."""


def table_in(page: str, section: str) -> str:
    """Return the table of a section as the page has it."""
    start = page.index(HEAD, page.index(f"\n## {section}\n"))
    return page[start : page.index("\n\n", start) + 1]


def table_of(section: str, page: str) -> str:
    """Return the table of a section as the code has it."""
    settings, rows = TABLES[section]
    there = {
        line.split(" | ")[0].strip("| `"): line.removesuffix(" |") for line in table_in(page, section).splitlines()
    }
    lines = list(rows)
    for name, each in settings_in(settings).items():
        see = _SEE.search(there.get(name, ""))
        default = None if section == "NodeConfig" else each.default
        shown = (
            f'"{default}"' if isinstance(default, str) else f"{default:_}" if type(default) is int else repr(default)
        )
        text = each.text + (f".{see[0]}" if see else "")
        lines.append(f"| `{name}` | `{shown}` | {each.unit and each.unit + ' '}| {text} |")
    return HEAD + "".join(f"{line}\n" for line in lines)


def written(page: str) -> str:
    """Return the page with all tables as the code has them."""
    for section in TABLES:
        page = page.replace(table_in(page, section), table_of(section, page))
    return page


if __name__ == "__main__":
    path = Path(REFERENCE)
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
