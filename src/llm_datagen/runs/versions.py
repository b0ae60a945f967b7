"""Versions of a run: what it was before operators were edited and done again. ``id@1`` is its first one.

The latest version is the run itself, under its plain id: nothing of it moves when there is a new one. What an edit
replaced lies in the folder ``id@1``, as a run of its own, which is read and compared, and never goes on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.runs.store import RunFolder, run_ids
from llm_datagen.streams.storage.owner import now_text

VERSION = "version"
"""The key of a run state for the number of its version; one that was never done again has none, and is 1."""

VERSION_OF = "version_of"
"""The key of the run state of an earlier version for the id of its run."""

ENDED = "versions_ended"
"""The key of a run state for its earlier versions, the oldest first: ``version``, and when it ended, ``at``."""

MADE_FROM = "made_from"
"""The key of a node of an earlier version for the URI of what it was made from: its source has another place now."""

_NAME = re.compile(r"(.+)@([1-9]\d*)", re.DOTALL)


def version_id(pipeline_id: str, version: int) -> str:
    """Return the id of a version of a run."""
    return f"{pipeline_id}@{version}"


def split_id(pipeline_id: Any) -> tuple[str, int] | None:
    """Return the run and the version that an id names; None when it is the id of a run."""
    match = _NAME.fullmatch(pipeline_id) if isinstance(pipeline_id, str) else None
    return None if match is None else (match[1], int(match[2]))


def version_of(run_state: Mapping[str, Any]) -> int:
    """Return the number of the version that a run state is."""
    return int(run_state.get(VERSION, 1))


def begin_version(run_state: dict[str, Any]) -> None:
    """Make the run state that of the next version."""
    version = version_of(run_state)
    run_state[ENDED] = [*run_state.get(ENDED, ()), {"version": version, "at": now_text()}]
    run_state[VERSION] = version + 1


def version_at(run_state: Mapping[str, Any], time: str) -> int:
    """Return the version that a run was at a time in UTC (ISO 8601)."""
    ended = (each["version"] for each in run_state.get(ENDED, ()) if time < each["at"])
    return int(next(ended, version_of(run_state)))


def find_run(results_dir: str | os.PathLike[str], pipeline_id: str) -> RunFolder:
    """Return the folder of a run, also when its latest version is asked for by its number.

    Args:
        results_dir: the folder of the runs, or its URI.
        pipeline_id: the run's id, or that of a version: ``id@2``.

    Raises:
        ConfigError: when the id cannot be a folder's name, or `results_dir` is none.
        RunStateError: when the state of the run cannot be read.
    """
    folder = RunFolder(results_dir, pipeline_id)
    named = split_id(pipeline_id)
    if named is not None and not folder.exists():
        latest = RunFolder(results_dir, named[0])
        if latest.exists() and version_of(latest.load()) == named[1]:
            return latest
    return folder


def logged_as(results_dir: str | os.PathLike[str], pipeline_id: str | None) -> str | None:
    """Return the id under which the log has the events of a run, or of one of its versions: they have that of the run.

    Raises:
        ConfigError, RunStateError: as `find_run`.
    """
    named = split_id(pipeline_id)
    if pipeline_id is None or named is None:
        return pipeline_id
    folder = find_run(results_dir, pipeline_id)
    is_version = not folder.exists() or VERSION_OF in folder.load()
    return named[0] if is_version else folder.pipeline_id


def kept_versions(results_dir: str | os.PathLike[str], pipeline_id: str) -> list[int]:
    """Return the numbers of the earlier versions of a run that are kept, the oldest first."""
    named = (split_id(known) for known in run_ids(results_dir))
    return sorted(version[1] for version in named if version and version[0] == pipeline_id)


def of_new_run(results_dir: str | os.PathLike[str], pipeline_id: str) -> dict[str, int]:
    """Return what the state of a new run says of its version: it is behind those that an earlier run has left."""
    left = kept_versions(results_dir, pipeline_id)
    return {VERSION: left[-1] + 1} if left else {}


def refuse_earlier(run_state: Mapping[str, Any], doing: str) -> None:
    """Refuse to go on with an earlier version.

    Raises:
        ConfigError: when the run state is that of one.
    """
    run = run_state.get(VERSION_OF)
    if run is not None:
        raise ConfigError(
            f"{run_state['pipeline_id']!r} is an earlier version of the run {run!r}, kept to be read and compared, so "
            f"there is nothing to {doing}; {doing} {run!r}"
        )


def uri_in_version(uri: str, pipeline_id: str, version: int) -> str:
    """Return where a stream of a run lies in one of its versions: in a folder of that name.

    The folder is beside that of the run, when the stream lies in such a one; else it is beside the stream.

    Args:
        uri: the stream's.
        pipeline_id: the run.
        version: the version.
    """
    protocol, separator, path = uri.rpartition("://")
    folder, name = Path(path).parent, Path(path).name
    kept = version_id(pipeline_id, version)
    is_of_run = folder.name == pipeline_id and len(folder.parts) > 1  # the first part may be a bucket
    folder = folder.with_name(kept) if is_of_run else folder / kept
    return f"{protocol}{separator}{folder / name}"
