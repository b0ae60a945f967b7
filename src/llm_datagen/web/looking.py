"""Looking at one run: what blocks, and is done on a thread."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from llm_datagen.errors import ConfigError, DiskError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.browse.absolute import with_absolute_paths
from llm_datagen.runs.origin import Origin, origin_of
from llm_datagen.runs.seen import SeenRun
from llm_datagen.shards.run_view import read_or_unreadable, read_run
from llm_datagen.shards.whole import Whole
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.run_view import run_json


def page_of_run(folders: ResultsFolders, key: str) -> dict[str, Any]:
    """Return the JSON of a run.

    Raises:
        PipelineNotFoundError: when there is none.
        DiskError: when its folder cannot be read.
    """
    folder = folders.find(key)
    origin = known_origin(folder)
    caps = {} if origin is None else origin.caps
    return run_json(read_or_unreadable(folder), folders, _home(origin), caps)


def home_of(folder: RunFolder) -> str:
    """Return the directory that relative paths of a run are relative to: where it was started, if that is known."""
    return _home(known_origin(folder))


def _home(origin: Origin | None) -> str:
    return os.getcwd() if origin is None else origin.cwd  # noqa: PTH109


def known_origin(folder: RunFolder) -> Origin | None:
    """Return what a run was started with; None when that is not known."""
    try:
        return origin_of(folder)
    except (ConfigError, DiskError):
        return None


@dataclass(frozen=True, slots=True)
class PlacedRun:
    """A run whose streams have absolute paths.

    Attributes:
        state: its run state; of a run in shards, that of the whole.
        whole: its shards; None of a run that is not in shards.
    """

    state: dict[str, Any]
    whole: Whole | None

    @property
    def shards(self) -> list[dict[str, Any]] | None:
        """The run states of its shards that have begun; None of a run that is not in shards."""
        return None if self.whole is None else [shard.state for shard in self.whole.shards if shard.state]

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The run states that say where its rows lie."""
        return [self.state] if self.shards is None else self.shards


def placed_run(folder: RunFolder) -> PlacedRun:
    """Return a run whose streams have absolute paths.

    Raises:
        PipelineNotFoundError: when there is none.
        RunStateError: when its run state cannot be read.
        UnknownProtocolError: when a stream has a protocol that only the program of the run knows.
    """
    run, home = read_run(folder), home_of(folder)
    whole = run.whole
    if whole is not None:

        def placed(seen: SeenRun) -> SeenRun:
            return replace(seen, state=with_absolute_paths(seen.state, home))

        shards = [each if each.seen is None else replace(each, seen=placed(each.seen)) for each in whole.shards]
        whole = replace(whole, driver=placed(whole.driver), shards=tuple(shards))
    return PlacedRun(with_absolute_paths(run.state, home), whole)
