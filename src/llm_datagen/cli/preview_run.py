"""Some rows through a pipeline that was named on the command line: what `preview` and `plan` share."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llm_datagen.cli.target import Target
from llm_datagen.pipeline.preview import NodePreview, Sample, external_inputs, run_preview
from llm_datagen.pipeline.spool import is_standard
from llm_datagen.runs.usage import cost_of
from llm_datagen.streams import Stream
from llm_datagen.streams.ids import RootNames

if TYPE_CHECKING:
    from llm_datagen.llm.observer import ObservedCall, Observer

Choose = Callable[[Stream, RootNames | None], Sample]
"""Given an input, and whether its rows are named by their numbers, returns the rows to begin with."""


class PreviewRun:
    """Some rows through a pipeline. The streams that it writes lie in a temporary folder, which is removed at the end.

    Args:
        target: the pipeline.
        choose: which rows to begin with.
        rows: how many rows each node gets at most.
        most: how many rows are wanted of an input that is read once; None: all.
        hold_back: whether the calls of models are only noted, not made.

    Attributes:
        run_state: the nodes, as a run state has them.
        samples: the chosen rows and the input they are of, by the input's place.

    Raises:
        ConfigError: when the pipeline is wrong.
        StreamError: when an input cannot be read.
    """

    def __init__(
        self, target: Target, choose: Choose, *, rows: int, most: int | None = None, hold_back: bool = False
    ) -> None:
        self._rows = rows
        self._hold_back = hold_back
        with tempfile.TemporaryDirectory(prefix="llm-datagen-") as folder:
            self.run_state, self._operators = target.to_try(Path(folder), most)
            self.samples = {
                stream.place: (stream, choose(stream, root)) for stream, root in external_inputs(self.run_state)
            }
            self._copies = {stream.place for stream, _ in self.samples.values() if stream.path.startswith(folder)}

    def shown(self, stream: Stream) -> str:
        """Return what an input is called: its path, unless it was copied for the preview."""
        if stream.place not in self._copies:
            return stream.path
        return "standard input" if is_standard(self.run_state["config"].get("input_uri")) else "the rows of the input"

    def stages(self) -> Iterator[tuple[NodePreview, list[ObservedCall]]]:
        """Run the nodes, and yield each when it has ended, with the calls of models that it made.

        Raises:
            NodeFailedError: when something else than a row fails.
        """
        samples = {place: sample for place, (_, sample) in self.samples.items()}
        with tempfile.TemporaryDirectory(prefix="llm-datagen-") as folder, self._watched() as watch:
            for stage in run_preview(self.run_state, self._operators, samples, rows=self._rows, folder=Path(folder)):
                yield stage, watch.of(stage.node_id) if watch else []

    @contextlib.contextmanager
    def _watched(self) -> Iterator[Observer | None]:
        try:
            from llm_datagen.llm.observer import Observer, observing
        except ModuleNotFoundError:  # without the extra `llm`, no node calls a model
            yield None
            return
        with observing(Observer(skip_calls=self._hold_back)) as watch:
            yield watch


class Spent(NamedTuple):
    """What previews have used: every call that was served, even if its answer was not usable; no cached ones.

    Attributes:
        prompt_tokens: of all prompts.
        completion_tokens: of all answers.
        cost: US dollars; None when the price of a model is not known.
    """

    prompt_tokens: int
    completion_tokens: int
    cost: float | None


def spent_in(stages: Iterable[NodePreview]) -> Spent:
    """Return what previews have used."""
    usage = [entry for stage in stages for entry in stage.report.usage]
    is_unknown = any("requests" in entry and "cost" not in entry for entry in usage)
    return Spent(
        prompt_tokens=sum(entry.get("prompt_tokens", 0) for entry in usage),
        completion_tokens=sum(entry.get("completion_tokens", 0) for entry in usage),
        cost=None if is_unknown else cost_of(usage) or 0.0,
    )


def made_of(calls: Iterable[ObservedCall]) -> int:
    """Return how many calls were made: a call that the cache answers is none, one that fails is one."""
    return sum(1 for call in calls if not (call.answer and call.answer.is_cached))
