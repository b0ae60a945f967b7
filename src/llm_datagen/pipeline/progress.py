"""A run is shown by the program that runs it: a table in its terminal, or in its notebook."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol

from llm_datagen.errors import ConfigError
from llm_datagen.errors.escape import escape
from llm_datagen.operators import operator_name
from llm_datagen.pipeline.stream_checks import counts_of
from llm_datagen.runs.display.node_view import NodeView, view_of
from llm_datagen.runs.display.terminal import is_terminal
from llm_datagen.runs.hooks import CompositePipelineHooks, IPipelineHooks
from llm_datagen.runs.status import NodeReport, Status
from llm_datagen.runs.told_waits import told_to
from llm_datagen.streams import Stream

Progress = bool | Literal["auto"]
"""Whether the run is shown: always; never; or where there is a terminal or a notebook that shows it."""


def check_progress(value: Any) -> None:
    """Check a setting of progress.

    Raises:
        ConfigError: when `value` is no such setting, or nothing can be shown, as rich is not installed.
    """
    if value is not True and value is not False and value != "auto":
        raise ConfigError(f'progress must be True, False or "auto", not {value!r}')
    if value is True and not _has_rich():
        raise ConfigError("progress=True needs rich; install it with: pip install 'llm-datagen[cli]'")


class Shown(Protocol):
    """A node, as far as it is shown."""

    @property
    def node_id(self) -> str:
        """Its id."""

    @property
    def output(self) -> Stream:
        """What it writes."""

    @property
    def operator(self) -> Any:
        """Its operator."""

    def is_finished(self) -> bool:
        """Return whether its output is whole."""


def node_views(nodes: Iterable[Shown], reports: Iterable[NodeReport]) -> list[NodeView]:
    """Return the nodes as they are before a run: what their streams say is right, whatever the run state says."""
    known = {report.node_id: report for report in reports}
    return [_view(node, known[node.node_id]) for node in nodes]


def _view(node: Shown, report: NodeReport) -> NodeView:
    counts = counts_of(node.output, is_finished=node.is_finished())
    return view_of({**report.as_dict(), **counts, "operator": operator_name(node.operator)})


@contextlib.contextmanager
def shown(
    progress: Progress,
    hooks: IPipelineHooks | None,
    nodes: Callable[[], list[NodeView]],
    status: Callable[[], Status],
) -> Iterator[IPipelineHooks | None]:
    """Give the hooks that a run is to have, so that it is shown; behind the block, the display is closed.

    Args:
        progress: whether it is shown.
        hooks: those of the user.
        nodes: tells the nodes as they are before the run.
        status: tells the status of the run.
    """
    display = _display(progress, nodes, status)
    if display is None:
        yield hooks
        return
    try:
        with told_to(lambda text: print(escape(text), file=sys.stderr, flush=True)):
            yield CompositePipelineHooks([display, hooks] if hooks else [display])
    finally:
        display.close()


def _display(progress: Progress, nodes: Callable[[], list[NodeView]], status: Callable[[], Status]) -> Any:
    if progress is False or not _has_rich():
        return None
    if _is_notebook():
        from llm_datagen.runs.display.notebook import NotebookTable, publisher

        return NotebookTable(publisher(), nodes())
    if is_terminal(sys.stderr):
        from llm_datagen.runs.display.console import SafeConsole
        from llm_datagen.runs.display.live import LiveTable

        return LiveTable(SafeConsole(stderr=True), nodes(), status=status)
    if progress == "auto":
        return None
    from llm_datagen.runs.display.plain import PlainLines

    return PlainLines(lambda line: print(line, file=sys.stderr, flush=True), nodes())


def _has_rich() -> bool:
    from importlib.util import find_spec

    return find_spec("rich") is not None


def _is_notebook() -> bool:
    """Return whether this code runs in the kernel of a notebook; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ in {"ZMQInteractiveShell", "Shell"}  # the second is Colab's
