"""The report that `run()` returns: how it ended, and the rows that it has written."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import ConfigError
from llm_datagen.errors.escape import escape_line
from llm_datagen.runs.output_node import RowsOut
from llm_datagen.runs.status import NodeReport, PipelineStatus, Status, shortcomings, why_short
from llm_datagen.runs.usage import dollars

if TYPE_CHECKING:
    from llm_datagen.runs.output_rows import RunOutput
    from llm_datagen.streams.outputs import UnfitRows

__all__ = ["NodeReport", "PipelineStatus", "RunReport", "Status"]  # what `llm_datagen.report` had in 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport(PipelineStatus):
    """What `run()` returns.

    Attributes:
        seconds: how long the run took.
        own_state: what operators changed of their own data between calls, by the id of the node: "attribute seen".
        output: what the run has written; None of a node by itself, which has no run state.
        outputs: the nodes whose rows have come out, by their ids; none where no other could be meant than the last one.
        unfit: the outputs and exports that lack rows, as these do not fit: each says where it is, how many rows it
            lacks, and which file names them. `rows_out` counts such rows, since the run has them.
    """

    seconds: float = 0.0
    own_state: Mapping[str, Sequence[str]] = field(default_factory=dict)
    output: RunOutput | None = field(default=None, repr=False, compare=False)
    outputs: Sequence[str] = ()
    unfit: Sequence[UnfitRows] = ()

    @property
    def warnings(self) -> list[str]:
        """Warnings, such as ``node_0: no row came out: all 10 failed``, or of rows that do not fit an output."""
        return [*shortcomings(self.nodes), *map(str, self.unfit)]

    @property
    def is_short(self) -> bool:
        """Whether a node is completed, and its input has ended before its target was met."""
        return any(why_short(node) for node in self.nodes)

    def __repr__(self) -> str:
        name = f" {escape_line(self.pipeline_id)}" if self.pipeline_id else ""
        out = escape_line(str(self.out))
        return (
            f"<RunReport{name}: {self.status} after {self.seconds:.1f} s, {self.rows_in:,} in, {out}, "
            f"{self.filtered:,} filtered, {self.failed:,} failed>"
        )

    def rows(self, node: str | None = None, *, ids: bool = False) -> Iterator[Any]:
        """Return the rows that the run has written, one after the other, read while you ask for them.

        Each is what the last operator made of it: mostly a dict. Of a run in shards, those of all shards in order. They
        are read from the files as they are now, up to the last commit: of a run that has failed, those that are there.

        Args:
            node: the id of another node, for the rows that it has written.
            ids: whether each row has its id, in the column `_i`; a value that is no object is in the column `data`
                then.

        Raises:
            ConfigError: when the run has no such node; when it has several outputs, and none was named; or when this is
                the report of a node by itself.
            StreamError: when the rows are not there any more, or cannot be read.
        """
        return self._written().rows(node, ids=ids)

    def to_pandas(self, node: str | None = None, *, ids: bool = False) -> Any:
        """Return the rows as a DataFrame of pandas, in memory; see `rows`.

        Raises:
            ConfigError: when pandas is not installed; or as `rows`.
        """
        from llm_datagen.runs.frames import pandas_frame

        output = self._written()
        return pandas_frame(lambda: output.table(node, ids=ids))

    def to_polars(self, node: str | None = None, *, ids: bool = False) -> Any:
        """Return the rows as a DataFrame of Polars, in memory; see `rows`. Types are those of `to_arrow`.

        Raises:
            ConfigError: when Polars or pyarrow is not installed; or as `rows`.
            RowValueError: when a column holds values of types that do not go together.
        """
        from llm_datagen.runs.frames import polars_frame

        output = self._written()
        return polars_frame(lambda: output.table(node, ids=ids))

    def to_arrow(self, node: str | None = None, *, ids: bool = False) -> Any:
        """Return the rows as a table of pyarrow, in memory, with the types that an export to Parquet has; see `rows`.

        Raises:
            ConfigError: when pyarrow is not installed; or as `rows`.
            RowValueError: when a column holds values of types that do not go together.
        """
        from llm_datagen.runs.frames import arrow_table

        output = self._written()
        return arrow_table(lambda: output.table(node, ids=ids))

    def _written(self) -> RunOutput:
        if self.output is None:
            raise ConfigError(
                "this is the report of a node by itself, or one that was made by hand: read the node's output stream, "
                "StreamFactory.create(uri).get_reader()"
            )
        return self.output

    def _repr_html_(self) -> str:
        """Return what notebooks show: a line of the run, a table with a line per node, and charts over time."""
        head = "".join(f"<th>{name}</th>" for name in ("node", "status", *_COUNTS, "cost"))
        body = "".join(_html_row(node) for node in self.nodes)
        why = "".join(f"<div>{_html(text)}</div>" for text in (self.reason or self.error, *self.warnings) if text)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f"<div>{_html(repr(self))}</div>{why}{table}{self._charts()}"

    def _charts(self) -> str:
        from llm_datagen.runs.report.chart import draw_cost, draw_rates, points_of
        from llm_datagen.runs.timeline import points

        if self.output is None:
            return ""
        try:
            found = points_of(points(self.output.folder))
        except OSError:  # a chart is not worth an error
            return ""
        rates, cost = draw_rates(found, [node.node_id for node in self.nodes]), draw_cost(found)
        charts = [("Rows per second", rates), ("Cost", cost)]
        return "".join(
            f'<div style="max-width:820px;margin:14px 0"><p style="margin:0 0 10px"><b>{title}</b></p>{drawn}</div>'
            for title, drawn in charts
            if drawn
        )

    @property
    def rows_in(self) -> int:
        """Rows of the pipeline's input that are done by the first node."""
        return self.nodes[0].rows_in if self.nodes else 0

    @property
    def rows_out(self) -> int:
        """Rows in the output; of a graph with several, in all of them, unless a pipeline file marks one."""
        return self.out.total

    @property
    def out(self) -> RowsOut:
        """How many rows have come out, and of which nodes."""
        return RowsOut({node.node_id: node.rows_out for node in self.nodes}, self.outputs)

    @property
    def filtered(self) -> int:
        """Rows that some node filtered."""
        return sum(node.filtered for node in self.nodes)

    @property
    def rejected(self) -> int:
        """Rows that some node filtered, for which it gave a reason."""
        return sum(node.rejected for node in self.nodes)

    @property
    def failed(self) -> int:
        """Rows that failed."""
        return sum(node.failed for node in self.nodes)


_COUNTS = ("rows_in", "rows_out", "filtered", "skipped", "dead_letters", "failed", "pending")
"""The counts of a node that a notebook shows."""


def _html(text: str) -> str:
    return html.escape(escape_line(text))


def _html_row(node: NodeReport) -> str:
    counts = [getattr(node, name) for name in _COUNTS]
    numbers = ["?" if count is None else f"{count:,}" for count in counts]
    cells = [_html(node.node_id), _html(node.status), *numbers, "" if node.cost is None else dollars(node.cost)]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
