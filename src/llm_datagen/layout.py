"""Every path of a run, and that no two of them are one file: before anything is touched.

A log that is written into the input, a cache that is the output, an output that is a hard link of the input: each would
destroy a user's data without a word. Two paths are one file when they are the same path, when links lead from one to
the other, or when the file system takes their names for the same one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_datagen.config import check_path
from llm_datagen.errors import ConfigError
from llm_datagen.logfile import LogFile
from llm_datagen.logs.reading import may_be_log
from llm_datagen.operators import kept_files
from llm_datagen.owners import check_unclaimed, owner_of, places_of
from llm_datagen.runtime import RunFolder
from llm_datagen.streams import Coverage, Place, Stream
from llm_datagen.streams.localdisk import LOCAL_DISK, LocalDisk
from llm_datagen.streams.neighbours import WHAT_LIES_BESIDE, check_neighbours, stream_at

_HEAD_BYTES = 1 << 16
"""How much of a log is looked at."""

_RUN_FILES = ("runtime.json", "checkpoint.json", "owner.json", "lock", "files")
_SQLITE = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Use:
    """What a path is used for.

    Attributes:
        path: the path, as it was given.
        what: what lies there, for people. Two uses of the same kind may share a file: the cache of two nodes.
        is_local: whether it is a file of this machine; else only its name tells it from others.
    """

    path: str
    what: str
    is_local: bool = True


@dataclass(frozen=True, slots=True)
class Joint:
    """How a node is joined to the world.

    Attributes:
        node_id: the node.
        input: what it reads.
        output: what it writes.
        operator: its operator, which may keep files of its own.
    """

    node_id: str
    input: Stream
    output: Stream
    operator: Any


def check_layout(joints: Iterable[Joint], log_file: Any, folder: RunFolder | None) -> None:
    """See to it that no two paths of a run are one file, and that none is a file of another run's. Nothing is touched.

    Args:
        joints: the nodes.
        log_file: the platform log, as it was given.
        folder: where the run's image is kept; None when it has none.

    Raises:
        ConfigError: naming both, when two are; when a path can be none; when a log or a cache is another run's stream.
        StreamExistsError: when an output lies where another run keeps its files.
        StreamError, DiskError: when an output cannot be written where it lies, or an input cannot be read.
    """
    joints = list(joints)
    for joint in joints:
        joint.output.check_path()
        check_neighbours(joint.output)
    for stream in _inputs_of(joints):
        stream.check_source()
    uses = [*_of_streams(joints), *_of_operators(joints), *_of_folder(folder)]
    uses += _of_log(log_file, uses)
    look = _Look()
    if folder is not None:
        _refuse_other_runs(uses, folder, look)
    _refuse_shared(uses, look)
    _refuse_streams_of_others(_besides_streams(joints, log_file), folder)
    _refuse_other_data(log_file)


def check_claims(joints: Iterable[Joint], log_file: Any, folder: RunFolder) -> None:
    """See to it that a new run writes nowhere where another one of its folder, which has not begun, is to write.

    Raises:
        PipelineExistsError: naming the other run and the path.
    """
    check_unclaimed(_written(list(joints), log_file), folder)


# What there is.


def _of_streams(joints: list[Joint]) -> Iterator[Use]:
    for joint in joints:
        yield from _files_of(joint.output, f"the output of {joint.node_id}", with_letters=True)
    for stream in _inputs_of(joints):
        yield from _files_of(stream, "the input", with_letters=False)


def _inputs_of(joints: list[Joint]) -> list[Stream]:
    """Return the streams that are read, and written by no node: each once."""
    written = {joint.output.place for joint in joints}
    found: dict[Place, Stream] = {}
    for joint in joints:
        for stream, _ in joint.input.parts(Coverage()):
            if stream.place not in written:
                found.setdefault(stream.place, stream)
    return list(found.values())


def _files_of(stream: Stream, what: str, *, with_letters: bool) -> Iterator[Use]:
    is_local = isinstance(stream.disk, LocalDisk)

    def use(path: str, what: str) -> Use:
        return Use(path if is_local else "\0".join(stream.place_of(path)), what, is_local)

    yield use(stream.path, what)
    for ending, beside in WHAT_LIES_BESIDE.items():
        if with_letters or ending in {".done", ".commits"}:
            yield use(f"{stream.path}{ending}", f"the {beside} of {what}")
            if with_letters:
                yield use(f"{stream.path}{ending}.tmp", f"the {beside} of {what}, half written")


def _of_operators(joints: list[Joint]) -> Iterator[Use]:
    for joint in joints:
        for what, path in kept_files(joint.operator).items():
            for ending in _SQLITE:
                yield Use(f"{check_path(what, path)}{ending}", f"the {what} of an operator")


def _besides_streams(joints: list[Joint], log_file: Any) -> list[Use]:
    return [*_of_operators(joints), *_of_log(log_file, [])]


def _of_log(log_file: Any, others: list[Use]) -> Iterator[Use]:
    """Yield the files of the log. `others` are all other uses, which may lie where it keeps an older log."""
    if isinstance(log_file, str | os.PathLike):
        path = check_path("log_file", os.fspath(log_file))
        yield Use(path, "the platform log")
        if isinstance(log_file, LogFile) and log_file.max_bytes is not None:
            yield Use(f"{path}.lock", "the lock of the platform log")
            # Those that are there, and those that another path could be.
            endings = {other.path.rpartition(".")[2] for other in others}
            endings |= {str(older).rpartition(".")[2] for older in Path(path).parent.glob(f"{Path(path).name}.*")}
            for ending in endings:
                if ending.isdecimal() and int(ending) <= log_file.backups:
                    yield Use(f"{path}.{ending}", "an older platform log")


def _of_folder(folder: RunFolder | None) -> Iterator[Use]:
    if folder is not None:
        for name in _RUN_FILES:
            yield Use(str(folder.path / name), f"{name} of the run")
            yield Use(str(folder.path / f"{name}.tmp"), f"{name} of the run, half written")


# Whether it fits.


def _refuse_shared(uses: list[Use], look: _Look) -> None:
    known: dict[Any, Use] = {}
    for use in uses:
        for key in look.keys(use):
            other = known.setdefault(key, use)
            if other.what != use.what:
                raise _clash(other, use)
    for use in uses:
        for folder in look.parents(look.real(use.path)) if use.is_local else ():
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


def _refuse_other_runs(uses: list[Use], folder: RunFolder, look: _Look) -> None:
    """See to it that nothing lies where the results folder keeps what belongs to another run."""
    results = os.path.join(look.real(str(folder.path.parent)), "")  # noqa: PTH118 - with a separator at its end
    for use in uses:
        path = look.real(use.path) if use.is_local else ""
        if not path.startswith(results):
            continue
        run, _, inside = path.removeprefix(results).partition(os.sep)
        if inside.partition(os.sep)[0] in _RUN_FILES and run != folder.pipeline_id:
            raise ConfigError(f"{use.path} would be {use.what}, and is a file of the run {run!r}; {_CHOOSE}")


def _refuse_other_data(log_file: Any) -> None:
    """See to it that lines of a log are appended to a log only: to nobody's data, whatever links lead there."""
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
    """See to it that no log or cache lies where another run has a stream, or what belongs to one."""
    for use in uses:
        found = stream_at(LOCAL_DISK, os.path.realpath(use.path))
        if found is not None:
            path, what = found
            run = None if folder is None else owner_of(_place(path), folder)
            whose = "another run" if run is None else f"run {run!r}"
            stream = "" if path == use.path else f", whose stream is {path}"
            raise ConfigError(f"{use.path} would be {use.what}, and is the {what} of {whose}{stream}; {_CHOOSE}")


def _written(joints: list[Joint], log_file: Any) -> dict[Place, str]:
    """Return the places that a run writes, with what lies there."""
    written = {_place(use.path): use.what for use in _besides_streams(joints, log_file)}
    for joint in joints:
        written.update(places_of(joint.output, f"the output of {joint.node_id}"))
    return written


def _place(path: str) -> Place:
    return type(LOCAL_DISK).__name__, os.path.realpath(path)


class _Look:
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
        folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100 - keeps what a Path would change
        if ".." in path or not name or os.path.islink(path):  # noqa: PTH114 - raises nothing
            return os.path.realpath(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)  # noqa: PTH118

    def parents(self, path: str) -> tuple[str, ...]:
        """Return the folders that a path lies in, the nearest first."""
        folder = os.path.dirname(path)  # noqa: PTH120
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
        folder = os.path.dirname(path)  # noqa: PTH120
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
