"""The tables of settings in the reference. ``python -m tests.examples.settings_tables`` writes them anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_datagen.config import DataConfig, NodeConfigOptions, WriterConfig, settings_in
from llm_datagen.pipeline.settings import NodeAloneSettings, NodePipelineOptions, PipelineSettings

from .pages import DOCS

HEAD = "| setting | default | unit | meaning |\n|---|---|---|---|\n"

MORE = {
    "batch_by": "[batches of siblings](../how-to/compare-siblings.md)",
    "data_config": "[DataConfig](config.md#dataconfig)",
    "delivery": "[guarantees](../explanation/guarantees.md#delivery)",
    "executor": "[worker processes](../how-to/use-worker-processes.md)",
    "fsync": "[guarantees](../explanation/guarantees.md#what-survives-what)",
    "hooks": "[hooks](hooks.md)",
    "id_scheme": "[ids](../explanation/ids.md)",
    "keep_ids": "[outputs without ids](../how-to/write-output-without-ids.md)",
    "log_file": "[the platform log](log.md)",
    "node_configs": "[NodeConfig](config.md#nodeconfig)",
    "on_error": "[files on disk](files.md)",
    "operators": "[files on disk](files.md)",
    "writer_config": "[WriterConfig](config.md#writerconfig)",
}
"""Where more is told of a setting."""


@dataclass(frozen=True)
class Table:
    """A table of settings on a page.

    Attributes:
        page: the page, in the folder of the reference.
        heading: the heading above it.
        settings: what it shows.
        first: a row before these, which is no setting.
        unset: whether the default is None for all: "as the pipeline says".
    """

    page: str
    heading: str
    settings: Any
    first: str = ""
    unset: bool = False

    @property
    def path(self) -> Path:
        """The page."""
        return DOCS / "reference" / self.page

    def shown(self) -> str:
        """Return the table as the page has it."""
        page = self.path.read_text(encoding="utf-8")
        start = page.index(HEAD, page.index(f"{self.heading}\n"))
        return page[start:].partition("\n\n")[0].rstrip("\n") + "\n"

    def of_code(self) -> str:
        """Return the table as the code has it."""
        lines = [self.first] if self.first else []
        for name, each in settings_in(self.settings).items():
            default = _literal(None if self.unset else each.default)
            more = f". See {MORE[name]}." if name in MORE else ""
            lines.append(f"| `{name}` | `{default}` | {each.unit and each.unit + ' '}| {each.text}{more} |")
        return HEAD + "".join(f"{line}\n" for line in lines)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:_}" if type(value) is int else repr(value)


NODES = (
    "| `nodes` | required | | `UnifiedNode`s with streams and operators, in any order; or a function that is given the "
    "run's id and returns them, so that each run has "
    "[its own streams](../how-to/write-a-pipeline-file.md#the-same-in-python) |"
)
TABLES = [
    Table("pipeline.md", "# UnifiedPipeline", PipelineSettings),
    Table("pipeline.md", "## UnifiedNodePipeline", NodePipelineOptions, first=NODES),
    Table("config.md", "## NodeConfig", NodeConfigOptions, unset=True),
    Table("config.md", "## WriterConfig", WriterConfig),
    Table("config.md", "## DataConfig", DataConfig),
    Table("node.md", "# UnifiedNode", NodeAloneSettings, first="| `node_id` | required | | its id |"),
]


def write() -> None:
    """Write all tables as the code has them."""
    for table in TABLES:
        page = table.path.read_text(encoding="utf-8")
        table.path.write_text(page.replace(table.shown(), table.of_code()), encoding="utf-8")


if __name__ == "__main__":
    write()
