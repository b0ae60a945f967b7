"""Runs as tables, at a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from llm_datagen.cli.export_view import exports_made
from llm_datagen.cli.run_view import details, headline, rows_in
from llm_datagen.errors.escape import escape_line
from llm_datagen.runs.display.name_table import Column, Name, NameTable
from llm_datagen.runs.display.tables import STYLES, node_table
from llm_datagen.runs.words import number, time_in_words
from llm_datagen.shards.run_view import RunView


def list_table(runs: list[RunView]) -> RenderableType:
    """Return a table with a line per run."""
    briefs = [run.brief() for run in runs]
    columns = [
        Column("status", [_status(run, brief) for run, brief in zip(runs, briefs, strict=True)], is_left=True),
        Column("in", [Text(rows_in(brief)) for brief in briefs]),
        Column("out", [Text(_out(brief)) for brief in briefs], stays=2),
        Column("errors", [Text(number(brief["failed"]), style=_red(brief["failed"])) for brief in briefs], stays=3),
    ]
    if any(brief["exports"] for brief in briefs):
        columns.append(Column("exports", [Text(exports_made(brief["exports"])) for brief in briefs], stays=1))
    updated = [Text(time_in_words(brief["updated_at"])) for brief in briefs]
    return NameTable("id", [Name(run.pipeline_id) for run in runs], [*columns, Column("updated", updated, 0, True)])


def run_table(run: RunView) -> RenderableType:
    """Return a table with a line per node."""
    return node_table(run.progress.nodes, title=headline(run), caption=details(run))


def _status(run: RunView, brief: dict[str, Any]) -> Text:
    for stopped, name in (("outages", "outage"), ("stalled", "stalled")):
        if brief[stopped]:
            return Text(name, style=STYLES["stalled"])
    return Text(run.status, style=STYLES.get(run.status, ""))


def _out(brief: dict[str, Any]) -> str:
    """Return how many rows came out; of a graph where that could be of others, of which node, or of how many."""
    which = escape_line(brief["outputs"][0]) if len(brief["outputs"]) == 1 else f"{len(brief['outputs'])} nodes"
    return number(brief["rows_out"]) + (f" ({which})" if brief["outputs"] else "")


def _red(failed: int) -> str:
    return "bold red" if failed else ""
