"""A pipeline that was named on the command line, tried with some of its rows: what `preview` and `plan` share."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llm_datagen.cli.target import Target
from llm_datagen.ids import RootNames
from llm_datagen.streams import Stream
from llm_datagen.trial import Sample, StageTrial, external_inputs, run_trial

if TYPE_CHECKING:
    from llm_datagen.llm.kept.watching import Watch, WatchedCall

Choose = Callable[[Stream, RootNames | None], Sample]
"""Given an input, and whether its rows are named by their numbers, returns the rows to begin with."""


class Trying:
    """The trial of a pipeline. The streams that it writes lie in a temporary folder, and go with it.

    Args:
        target: the pipeline.
        choose: which rows to begin with.
        rows: how many rows each node gets at most.
        hold_back: whether the calls of models are only noted, not made.

    Attributes:
        image: the nodes, as an image has them.
        samples: the chosen rows and the input they are of, by the input's place.

    Raises:
        ConfigError: when the pipeline is wrong.
        StreamError: when an input cannot be read.
    """

    def __init__(self, target: Target, choose: Choose, *, rows: int, hold_back: bool = False) -> None:
        self.image, self._operators = target.blueprint()
        self._rows = rows
        self._hold_back = hold_back
        self.samples = {stream.place: (stream, choose(stream, root)) for stream, root in external_inputs(self.image)}

    def stages(self) -> Iterator[tuple[StageTrial, list[WatchedCall]]]:
        """Run the nodes, and yield each when it has ended, with the calls of models that it made.

        Raises:
            NodeFailedError: when something else than a row fails.
        """
        samples = {place: sample for place, (_, sample) in self.samples.items()}
        with tempfile.TemporaryDirectory(prefix="llm-datagen-") as folder, self._watched() as watch:
            for stage in run_trial(self.image, self._operators, samples, rows=self._rows, folder=Path(folder)):
                yield stage, watch.of(stage.node_id) if watch else []

    @contextlib.contextmanager
    def _watched(self) -> Iterator[Watch | None]:
        try:
            from llm_datagen.llm.kept.watching import Watch, watching
        except ModuleNotFoundError:  # without the extra `llm`, no node calls a model
            yield None
            return
        with watching(Watch(hold_back=self._hold_back)) as watch:
            yield watch
