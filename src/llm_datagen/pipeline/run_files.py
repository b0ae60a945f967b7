"""Every file of a run: its streams and what lies beside them, its log, what its operators keep, its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_datagen.config import check_local_path
from llm_datagen.operators import kept_files
from llm_datagen.pipeline.output_owners import local_place, places_of
from llm_datagen.runs import RunFolder
from llm_datagen.runs.file_names import RUN_FILES
from llm_datagen.runs.logs.rotation import LogFile
from llm_datagen.streams import Place, Source, Stream
from llm_datagen.streams.sidecars import WHAT_LIES_BESIDE
from llm_datagen.streams.source import streams_of
from llm_datagen.streams.storage.local import LocalStorage
from llm_datagen.streams.storage.objects import ObjectStorage

_SQLITE = ("", "-wal", "-shm", "-journal")
_OLDER_LOGS = 100
"""Rotated logs that a run is known to write, at most: the run state names each."""


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

    @property
    def address(self) -> str:
        """The path, or the address in a store."""
        return self.path.rpartition("\0")[2]


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """What a node reads and writes.

    Attributes:
        node_id: the node.
        input: what it reads.
        output: what it writes.
        operator: its operator, which may keep files of its own.
    """

    node_id: str
    input: Source
    output: Stream
    operator: Any


def side_files(nodes: Iterable[NodeFiles], log_file: Any) -> dict[str, str]:
    """Return the files of a run besides its streams and its folder, by paths without links, with what each is."""
    uses = [*besides_streams(list(nodes), log_file), *_of_rotation(log_file)]
    return {os.path.realpath(use.path): use.what for use in uses}


def uses_of(nodes: list[NodeFiles], log_file: Any, folder: RunFolder | None) -> list[Use]:
    """Return every file of a run, with what it is used for."""
    uses = [*of_streams(nodes), *of_operators(nodes), *of_folder(folder)]
    return [*uses, *of_log(log_file, uses)]


def places_written(nodes: Iterable[NodeFiles], log_file: Any) -> dict[Place, str]:
    """Return the places that a run writes outside its folder, with what lies there."""
    nodes = list(nodes)
    written = {local_place(path): what for path, what in side_files(nodes, log_file).items()}
    for node in nodes:
        written.update(places_of(node.output, f"the output of {node.node_id}"))
    return written


def of_streams(nodes: list[NodeFiles]) -> Iterator[Use]:
    """Yield the files of the streams that are written, and of those that are read."""
    for node in nodes:
        yield from _files_of(node.output, f"the output of {node.node_id}", with_dead_letters=True)
    for stream in inputs_of(nodes):
        yield from _files_of(stream, "the input", with_dead_letters=False)


def inputs_of(nodes: list[NodeFiles]) -> list[Stream]:
    """Return the streams that are read, and written by no node: each once."""
    written = {node.output.place for node in nodes}
    found: dict[Place, Stream] = {}
    for node in nodes:
        for stream in streams_of(node.input):
            if stream.place not in written:
                found.setdefault(stream.place, stream)
    return list(found.values())


def _files_of(stream: Stream, what: str, *, with_dead_letters: bool) -> Iterator[Use]:
    is_local = isinstance(stream.storage, LocalStorage)

    def use(path: str, what: str) -> Use:
        return Use(path if is_local else "\0".join(stream.place_of(path)), what, is_local)

    for path in stream.files_read:
        yield use(path, what)
    for ending, beside in WHAT_LIES_BESIDE.items():
        if with_dead_letters or ending in {".done", ".commits"}:
            yield use(f"{stream.path}{ending}", f"the {beside} of {what}")
            if with_dead_letters:
                yield use(f"{stream.path}{ending}.tmp", f"the {beside} of {what}, half written")


def of_operators(nodes: list[NodeFiles]) -> Iterator[Use]:
    """Yield the files that operators keep for themselves."""
    for node in nodes:
        for what, path in kept_files(node.operator).items():
            for ending in _SQLITE:
                yield Use(f"{check_local_path(what, path)}{ending}", f"the {what} of an operator")


def besides_streams(nodes: list[NodeFiles], log_file: Any) -> list[Use]:
    """Return the files of a run that are neither streams nor in its folder, as far as they are there."""
    return [*of_operators(nodes), *of_log(log_file, [])]


def of_log(log_file: Any, others: list[Use]) -> Iterator[Use]:
    """Yield the files of the log. `others` are all other uses, which may lie where it keeps an older log."""
    if isinstance(log_file, str | os.PathLike):
        path = check_local_path("log_file", os.fspath(log_file))
        yield Use(path, "the platform log")
        if isinstance(log_file, LogFile) and log_file.max_bytes is not None:
            yield Use(f"{path}.lock", "the lock of the platform log")
            # Those that are there, and those that another path could be.
            endings = {other.path.rpartition(".")[2] for other in others}
            endings |= {str(older).rpartition(".")[2] for older in Path(path).parent.glob(f"{Path(path).name}.*")}
            for ending in endings:
                if ending.isdecimal() and int(ending) <= log_file.backups:
                    yield Use(f"{path}.{ending}", "an older platform log")


def of_folder(folder: RunFolder | None) -> Iterator[Use]:
    """Yield the files of the folder of a run."""
    if folder is not None:
        for name in RUN_FILES:
            if folder.is_on_store:
                yield Use(
                    "\0".join((ObjectStorage.__name__, folder.place_of(name))), f"{name} of the run", is_local=False
                )
            else:
                yield Use(str(folder.path / name), f"{name} of the run")
                yield Use(str(folder.path / f"{name}.tmp"), f"{name} of the run, half written")


def _of_rotation(log_file: Any) -> Iterator[Use]:
    """Yield the older logs that there may come to be."""
    if isinstance(log_file, LogFile) and log_file.max_bytes is not None:
        for number in range(1, min(log_file.backups, _OLDER_LOGS) + 1):
            yield Use(f"{os.fspath(log_file)}.{number}", "an older platform log")
