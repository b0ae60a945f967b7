"""A file of metrics for the textfile collector of Prometheus' node exporter, written once or beside a run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llm_datagen.config import check_path, check_seconds
from llm_datagen.errors import ConfigError
from llm_datagen.runs.hooks import DefaultPipelineHooks
from llm_datagen.streams.storage.local import LOCAL_STORAGE
from llm_datagen.telemetry.prometheus import MAX_AGE_SECONDS, metrics_text

_ENDING = ".prom"


def checked_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file of metrics, absolute.

    Raises:
        ConfigError: when its name does not end in ``.prom``.
    """
    found = Path(check_path("path", os.fspath(path))).absolute()
    if found.suffix != _ENDING:
        raise ConfigError(
            f"the file of metrics must end in {_ENDING}, else the node exporter does not read it: {found.name!r}"
        )
    return found


def write_metrics(
    results_dirs: Iterable[str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    max_age: float = MAX_AGE_SECONDS,
) -> None:
    """Write the metrics of all runs in some folders to a file, atomically: who reads it sees a whole one.

    Args:
        results_dirs: the folders of the runs, or their URIs.
        path: the file, which ends in ``.prom``.
        max_age: seconds; see `metrics_text`.

    Raises:
        ConfigError: when a folder, the path or `max_age` is none.
        DiskError: when it cannot be written.
    """
    file = checked_file(path)
    LOCAL_STORAGE.replace(str(file), metrics_text(results_dirs, max_age=max_age), sync=False)


class PrometheusFile(DefaultPipelineHooks):
    """Hooks that write a file of metrics while a run goes on: of all runs in its folder.

    It is written when something happens in the run, at most once in `every` seconds, and at its end. Whether it is
    up to date, the metric ``llm_datagen_run_updated_timestamp_seconds`` says.

    Args:
        path: the file, which ends in ``.prom``.
        every: seconds between two writes, at least.
        max_age: seconds; see `metrics_text`.

    Raises:
        ConfigError: when one of them is none.
    """

    def __init__(self, path: str | os.PathLike[str], *, every: float = 15.0, max_age: float = MAX_AGE_SECONDS) -> None:
        self._path = checked_file(path)
        self._every = check_seconds("every", every)
        self._max_age = check_seconds("max_age", max_age)
        self._results_dir = ""
        self._due = 0.0

    def prepare_run(self, cid: str, results_dir: str, run_state: Mapping[str, Any]) -> None:
        """Take the folder of the runs."""
        self._results_dir = results_dir

    def on_pipeline_start(self, cid: str, config: Mapping[str, Any]) -> None:
        """Write the file."""
        self._write()

    def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Mapping[str, Any]) -> None:
        """Write the file, if it is time."""
        if time.monotonic() >= self._due:
            self._write()

    def on_stall(self, cid: str, nid: str, info: Mapping[str, Any]) -> None:
        """Write the file."""
        self._write()

    def on_pipeline_end(self, cid: str, success: bool, error: BaseException | None) -> None:
        """Write the file."""
        self._write()

    def _write(self) -> None:
        if self._results_dir:  # a node by itself has none
            write_metrics([self._results_dir], self._path, max_age=self._max_age)
        self._due = time.monotonic() + self._every
