"""The runs of some folders as text that Prometheus reads, made of their files: of any process, also of dead ones."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llm_datagen.config import check_seconds
from llm_datagen.errors import ConfigError, DatagenError, PipelineNotFoundError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.file_names import RUN_STATE
from llm_datagen.runs.results_dir import absolute
from llm_datagen.runs.sharded import SHARDS
from llm_datagen.runs.store import check_pipeline_id, run_ids
from llm_datagen.runs.versions import split_id
from llm_datagen.shards.run_view import read_run
from llm_datagen.telemetry.prometheus_names import MEASURES
from llm_datagen.telemetry.prometheus_samples import Sample, ShownRun, samples_of

MAX_AGE_SECONDS = 86_400.0
"""How long ago a run may have been saved last that no process works on; older ones are left out."""

MOST_RUNS = 500
"""Runs of a folder that are shown; more than that, the latest ones are, and those that run."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What the text is, for HTTP."""


def metrics_text(
    results_dirs: Iterable[str | os.PathLike[str]], *, max_age: float = MAX_AGE_SECONDS, now: float | None = None
) -> bytes:
    """Return the metrics of all runs in some folders, in the text format of Prometheus (0.0.4), as UTF-8.

    Reads the run state of each run, and changes nothing. Any thread may call it; it blocks on files.

    Args:
        results_dirs: the folders of the runs, or their URIs.
        max_age: seconds. Runs that nobody works on, and that were saved last longer ago, are left out, so that what
            Prometheus keeps has a bound.
        now: the time, in seconds since 1970; None: that of the clock.

    Raises:
        ConfigError: when a folder is none, or `max_age` is no time.
        DiskError: when a store refuses, or cannot be reached.
    """
    since = (time.time() if now is None else now) - check_seconds("max_age", max_age)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Runs(list(dict.fromkeys(map(absolute, results_dirs))), since))
    return generate_latest(registry)


class _Runs(Collector):
    """Collects the metrics of all runs of some folders.

    Args:
        results_dirs: the folders, absolute.
        since: when a run must have been saved, unless a process works on it: seconds since 1970.
    """

    def __init__(self, results_dirs: Sequence[str], since: float) -> None:
        self._results_dirs = results_dirs
        self._since = since

    def collect(self) -> Iterator[Metric]:
        """Yield a family for each metric, with the samples of all runs."""
        families = {
            name: (CounterMetricFamily if each.kind == "counter" else GaugeMetricFamily)(
                name, each.help, labels=each.labels
            )
            for name, each in MEASURES.items()
        }
        for results_dir in self._results_dirs:
            for sample in _samples(results_dir, self._since):
                families[sample.name].add_metric(sample.labels, sample.value)
        yield from families.values()


def _samples(results_dir: str, since: float) -> Iterator[Sample]:
    found, left_out = _folders(results_dir, since)
    unreadable = 0
    for folder in found:
        try:
            run = _look(folder)
        except PipelineNotFoundError:  # it was removed meanwhile; or a folder of a store holds no run
            continue
        except DatagenError:
            unreadable += 1
            continue
        if run.is_live or _saved_at(run) >= since:
            yield from samples_of(run)
        else:
            left_out += 1
    yield Sample("llm_datagen_unreadable_runs", (results_dir,), unreadable)
    yield Sample("llm_datagen_left_out_runs", (results_dir,), left_out)


def _folders(results_dir: str, since: float) -> tuple[list[RunFolder], int]:
    """Return the runs that may be shown, and how many are not. Of old ones, no file is read."""
    folders = [RunFolder(results_dir, run) for run in sorted(run_ids(results_dir)) if _is_run(run)]
    changed = {folder.pipeline_id: _changed_at(folder) for folder in folders}
    latest = sorted(folders, key=lambda folder: changed[folder.pipeline_id], reverse=True)
    shown = []
    for number, folder in enumerate(latest):
        is_recent = number < MOST_RUNS and changed[folder.pipeline_id] >= since
        if is_recent or (not folder.is_on_store and _is_held(folder)):
            shown.append(folder)
    return shown, len(folders) - len(shown)


def _is_run(name: str) -> bool:
    """Return whether a folder may be that of a run, and not of an earlier version of one."""
    try:
        check_pipeline_id(name)
        name.encode()
    except (ConfigError, UnicodeEncodeError):  # somebody else has made it
        return False
    return split_id(name) is None


def _is_held(folder: RunFolder) -> bool:
    """Return whether a process works on a run; of one in shards, what is there of it has to be read."""
    return (folder.path / SHARDS).exists() or folder.lock.is_held()


def _changed_at(folder: RunFolder) -> float:
    """Return when a run was saved last, in seconds since 1970; of one on a store, which has to be read: now."""
    if folder.is_on_store:
        return math.inf
    try:
        return (folder.path / RUN_STATE).stat().st_mtime
    except OSError:
        return 0.0


def _saved_at(run: ShownRun) -> float:
    return datetime.fromisoformat(run.state["updated_at"]).timestamp()


def _look(folder: RunFolder) -> ShownRun:
    run = read_run(folder)
    return ShownRun(
        results_dir=run.results_dir,
        pipeline_id=run.pipeline_id,
        status=run.status,
        is_live=run.is_live,
        state=run.state,
        spending=run.spending,
    )
