"""Whether any two paths of a run are one file, or one is another run's: before anything is touched.

A log that is written into the input, a cache that is the output, an output that is a hard link of the input: each would
destroy a user's data without a word. Two paths are one file when they are the same path, when links lead from one to
the other, or when the file system takes their names for the same one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.pipeline.export_claims import check_unclaimed_exports
from llm_datagen.pipeline.output_owners import check_unclaimed, local_place, owner_of, places_exported
from llm_datagen.pipeline.run_files import (
    NodeFiles,
    Use,
    besides_streams,
    inputs_of,
    places_written,
    uses_of,
)
from llm_datagen.runs import RunFolder
from llm_datagen.runs.file_names import RUN_FILES
from llm_datagen.runs.logs.reader import may_be_log
from llm_datagen.streams.sidecars import check_neighbours, stream_at
from llm_datagen.streams.storage.local import LOCAL_STORAGE

_HEAD_BYTES = 1 << 16
"""How much of a log is looked at."""


def check_layout(nodes: Iterable[NodeFiles], log_file: Any, folder: RunFolder | None) -> None:
    """Check that no two paths of a run are one file, and that none is a file of another run's. Nothing is touched.

    Args:
        nodes: the nodes.
        log_file: the platform log, as it was given.
        folder: where the run's state is kept; None when it has none.

    Raises:
        ConfigError: naming both, when two are; when a path can be none; when a log or a cache is another run's stream.
        StreamExistsError: when an output lies where another run keeps its files.
        StreamError, DiskError: when an output cannot be written where it lies, or an input cannot be read.
    """
    nodes = list(nodes)
    for node in nodes:
        node.output.check_path()
        check_neighbours(node.output)
    for stream in inputs_of(nodes):
        stream.check_source()
    uses = uses_of(nodes, log_file, folder)
    paths = PathCache()
    if folder is not None:
        _refuse_other_runs(uses, folder, paths)
    _refuse_shared(uses, paths)
    _refuse_streams_of_others(besides_streams(nodes, log_file), folder)
    _refuse_other_data(log_file)


def check_claims(nodes: Iterable[NodeFiles], log_file: Any, folder: RunFolder, run_state: Mapping[str, Any]) -> None:
    """Check that a new run writes nowhere where another one of its folder writes, or is to write.

    Raises:
        PipelineExistsError: naming the other run and the path.
    """
    check_unclaimed({**places_written(list(nodes), log_file), **places_exported(run_state)}, folder)
    check_unclaimed_exports(run_state, folder)


# Whether it fits.


def _refuse_shared(uses: list[Use], paths: PathCache) -> None:
    known: dict[Any, Use] = {}
    for use in uses:
        for key in paths.keys(use):
            other = known.setdefault(key, use)
            if other.what != use.what:
                raise _clash(other, use)
    looked_at = set()
    for use in uses:
        folders = paths.parents(paths.real(use.path)) if use.is_local else ()
        if folders in looked_at:  # 10,000 files of an input lie in one folder
            continue
        looked_at.add(folders)
        for folder in folders:
            other = known.get(("path", folder), use)
            if other is not use:
                raise ConfigError(f"{other.path} would be {other.what}, and the folder of {use.path}; {_CHOOSE}")


_CHOOSE = "give one of them another path"


def _clash(one: Use, other: Use) -> ConfigError:
    if one.path == other.path:
        return ConfigError(f"{one.path} would be {one.what}, and {other.what} as well; {_CHOOSE}")
    return ConfigError(
        f"{one.path} ({one.what}) and {other.path} ({other.what}) are one file: by a link, or by a spelling that this "
        f"file system takes for the same; {_CHOOSE}"
    )


def _refuse_other_runs(uses: list[Use], folder: RunFolder, paths: PathCache) -> None:
    """Check that nothing lies where the results folder keeps what belongs to another run."""
    on_store = folder.is_on_store
    results = f"{folder.results_dir}/" if on_store else os.path.join(paths.real(folder.results_dir), "")  # noqa: PTH118
    for use in uses:
        if use.is_local == on_store:
            continue
        path = paths.real(use.path) if use.is_local else use.address
        if not path.startswith(results):
            continue
        run, _, inside = path.removeprefix(results).partition("/" if on_store else os.sep)
        if inside.partition("/" if on_store else os.sep)[0] in RUN_FILES and run != folder.pipeline_id:
            raise ConfigError(f"{path} would be {use.what}, and is a file of the run {run!r}; {_CHOOSE}")


def _refuse_other_data(log_file: Any) -> None:
    """Check that lines of a log are appended to a log only: to nobody's data, whatever links lead there."""
    if not isinstance(log_file, str | os.PathLike) or not os.path.isfile(log_file):  # noqa: PTH113 - raises nothing
        return
    try:
        with open(log_file, "rb") as file:  # noqa: PTH123 - what is a path was looked at before
            head = file.read(_HEAD_BYTES)
    except OSError:  # who opens it to write says why
        return
    if not may_be_log(head):
        raise ConfigError(
            f"{os.fspath(log_file)} would be the platform log, and is a file of something else: it does not "
            f"begin with events of a log; {_CHOOSE}"
        )


def _refuse_streams_of_others(uses: Iterable[Use], folder: RunFolder | None) -> None:
    """Check that no log or cache lies where another run has a stream, or what belongs to one."""
    for use in uses:
        found = stream_at(LOCAL_STORAGE, os.path.realpath(use.path))
        if found is not None:
            path, what = found
            run = None if folder is None else owner_of(local_place(path), folder)
            whose = "another run" if run is None else f"run {run!r}"
            stream = "" if path == use.path else f", whose stream is {path}"
            raise ConfigError(f"{use.path} would be {use.what}, and is the {what} of {whose}{stream}; {_CHOOSE}")


class PathCache:
    """What the file system says of paths, for one check: asked once of each folder, as most paths lie in a few."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._parents: dict[str, tuple[str, ...]] = {}
        self._ignoring: dict[str, bool] = {}

    def real(self, path: str) -> str:
        """Return a path without links."""
        if path not in self._real:
            self._real[path] = self._resolved(path)
        return self._real[path]

    def _resolved(self, path: str) -> str:
        folder, sep, name = path.rpartition(os.sep)  # no Path: there may be 10,000
        if ".." in path or name in {"", "."} or os.path.islink(path):  # noqa: PTH114 - raises nothing
            return os.path.realpath(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder + sep or os.curdir).rstrip(os.sep)
        return f"{self._folders[folder]}{os.sep}{name}"

    def parents(self, path: str) -> tuple[str, ...]:
        """Return the folders that a path lies in, the nearest first."""
        folder = path.rpartition(os.sep)[0]
        if folder not in self._parents:
            self._parents[folder] = tuple(map(str, Path(path).parents))
        return self._parents[folder]

    def keys(self, use: Use) -> Iterator[tuple[Any, ...]]:
        """Yield what identifies a file: its path without links and, of one that is there, its number."""
        if not use.is_local:
            yield "name", use.path
            return
        path = self.real(use.path)
        yield "path", path
        if self._ignores_case(path):
            yield "path", path.casefold()
        try:
            found = os.stat(path)  # noqa: PTH116 - a path that was resolved already
        except OSError:
            return
        if stat.S_ISREG(found.st_mode):
            yield "file", found.st_dev, found.st_ino

    def _ignores_case(self, path: str) -> bool:
        """Return whether the file system takes a name in capitals for the same one; asked of a folder that is there."""
        folder = path.rpartition(os.sep)[0]
        if folder not in self._ignoring:
            self._ignoring[folder] = _ignores_case(Path(path))
        return self._ignoring[folder]


def _ignores_case(path: Path) -> bool:
    for folder in path.parents:
        if folder.name.swapcase() != folder.name and os.path.exists(folder):  # noqa: PTH110 - raises nothing
            try:
                return folder.samefile(folder.with_name(folder.name.swapcase()))
            except OSError:
                return False
    return False
