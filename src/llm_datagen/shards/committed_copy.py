"""A run, copied to another folder as far as it is committed, while its old writer may still write.

    1. the run state: what is saved of it is never ahead of the streams
    2. of each stream how far it is committed; of one that is read by a node, after what that node has written
    3. the data up to there, checked against the checksums of the commits; the dead letters
    4. a commit log, or a seal, that says so, with the new places of the streams

What was written behind a commit is left out, as a resume would leave it out. What the operators keep in a folder of
their own is copied as it is, again and again until nothing has changed meanwhile; the log of the run, as it is.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llm_datagen.errors import DiskError, RunStateError, StreamChangedError, StreamCorruptError
from llm_datagen.runs import RunFolder, file_names
from llm_datagen.runs.state_file import serialize
from llm_datagen.streams import FileStream, Stream, StreamFactory
from llm_datagen.streams.commit_log import CommitLog, read_log
from llm_datagen.streams.moved import moved_uri
from llm_datagen.streams.position import STATE, Position
from llm_datagen.streams.recovery import check_data, position_of
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.storage.base import Place
from llm_datagen.streams.storage.lease_record import LEASE
from llm_datagen.streams.storage.local import LOCAL_STORAGE

TAKEN_FROM = "taken_from"
"""The key of a run state for the run that it was before it was taken over, and who had that."""

_PIECE_BYTES = 1 << 20
_TRIES = 60
_TRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the streams of a run lie, and will lie in another folder.

    Attributes:
        outputs: the streams that its nodes write, as they are.
        uris: their new URIs, by their places.
    """

    outputs: list[Stream]
    uris: dict[Place, str]

    @classmethod
    def of(cls, run_state: dict[str, Any], folder: RunFolder, run_id: str) -> Layout:
        """Return the layout of a run that gets another id.

        Args:
            run_state: its run state.
            folder: its folder.
            run_id: the new id.

        Raises:
            RunStateError: when it cannot be copied: a stream lies elsewhere, or more is kept than rows.
        """
        target = folder.path.with_name(run_id)
        outputs = [StreamFactory.create(entry["output_uri"]) for entry in run_state["nodes"]]
        for entry, output in zip(run_state["nodes"], outputs, strict=True):
            if entry["delivery"] == "at_most_once":
                raise _refused(folder, f"node {entry['node_id']!r} hands out each row at most once")
            if not isinstance(output, FileStream) or not Path(output.path).is_relative_to(folder.path):
                raise _refused(folder, f"{output.uri} does not lie in its folder")
            found = position_of(output)
            if found is not None and STATE in found[1].marks:
                raise _refused(folder, f"the operator of node {entry['node_id']!r} keeps state")
        uris = {output.place: _moved(output, folder.path, target) for output in outputs}
        for entry in run_state["nodes"]:
            for place in StreamFactory.source(moved_uri(entry["input_uri"], uris)).places:
                if Path(place[1]).is_relative_to(folder.path.resolve()):
                    raise _refused(folder, f"{entry['input_uri']} lies in its folder, and no node writes it")
        return cls(outputs, uris)


def copy_run(folder: RunFolder, target: Path, run_id: str, taken_from: str) -> None:
    """Copy a run, as far as it is committed, into a folder that is there already. It is on the medium then.

    Args:
        folder: the folder of the run.
        target: the folder of the copy.
        run_id: the id that the copy will have, in place of the run's; its folder will be beside the run's.
        taken_from: who has had the run, for people.

    Raises:
        RunStateError: when it cannot be copied; see `Layout.of`.
        StreamError: when what was committed is not there.
        DiskError: when the disk refuses.
    """
    if folder.exists():
        run_state = folder.load()
        layout = Layout.of(run_state, folder, run_id)
        for output, seal, source, position in _positions(run_state, layout):
            new = target / Path(output.path).relative_to(folder.path)
            _copy_stream(output, str(new), moved_uri(source, layout.uris), seal, position)
        copied = _with_uris(run_state, layout.uris)
        copied.update(pipeline_id=run_id)
        copied[TAKEN_FROM] = {"run": folder.pipeline_id, "of": taken_from}
        LOCAL_STORAGE.replace(str(target / file_names.RUN_STATE), serialize(copied), sync=True)
        _copy_others(folder.path, target, layout)
    _copy_files(folder.files_path, target / file_names.KEPT)


def _refused(folder: RunFolder, why: str) -> RunStateError:
    return RunStateError(
        f"run {folder.pipeline_id!r} in {folder.results_dir} cannot be taken over: {why}. End the process that had it, "
        "which gives no sign of life, and resume; when its machine is gone, remove "
        f"{folder.path / LEASE} first"
    )


def _moved(output: Stream, folder: Path, target: Path) -> str:
    protocol, separator, _ = output.uri.rpartition("://")
    return f"{protocol}{separator}{target / Path(output.path).relative_to(folder)}"


def _with_uris(run_state: dict[str, Any], uris: dict[Place, str]) -> dict[str, Any]:
    """Return a run state with the new places of its streams."""
    copied = deepcopy(run_state)
    of_old: dict[str, str] = {}
    for entry in copied["nodes"]:
        of_old[entry["output_uri"]] = uris[StreamFactory.create(entry["output_uri"]).place]
        entry.update(
            input_uri=moved_uri(entry["input_uri"], uris),
            output_uri=of_old[entry["output_uri"]],
        )
    config = copied["config"]
    if config.get("output_uri") in of_old:
        config["output_uri"] = of_old[config["output_uri"]]
    return copied


def _positions(run_state: dict[str, Any], layout: Layout) -> list[tuple[Stream, Seal | None, str, Position]]:
    """Return what there is of the streams, as of now: the seal, the source, how far it is committed.

    A stream is looked at after those that are made from it, so that it has all that they cover.
    """
    found: list[tuple[Stream, Seal | None, str, Position]] = []
    for number in _readers_first(run_state, layout):
        output = layout.outputs[number]
        log = read_log(output.storage, output.commits_path)
        seal = output.read_seal()  # after the log, which goes when the seal is there
        if seal is not None and seal.rows is not None:
            found.append((output, seal, seal.source, seal.position()))
        elif log is not None:
            found.append((output, None, *log))
    return found


def _readers_first(run_state: dict[str, Any], layout: Layout) -> list[int]:
    """Return the numbers of the nodes, those that read a stream before the one that writes it."""
    numbers = {output.place: number for number, output in enumerate(layout.outputs)}
    left = {
        number: {numbers[place] for place in StreamFactory.source(entry["input_uri"]).places if place in numbers}
        for number, entry in enumerate(run_state["nodes"])
    }
    ordered: list[int] = []
    while left:
        read = set().union(*left.values())
        free = [number for number in left if number not in read] or list(left)
        ordered += free
        left = {number: sources for number, sources in left.items() if number not in free}
    return ordered


def _copy_stream(output: Stream, path: str, source: str, seal: Seal | None, position: Position) -> None:
    """Copy what is committed of a stream to another path, and say there that it was made from `source`."""
    commits, done, errors, rejected = (
        f"{path}{beside.removeprefix(output.path)}"
        for beside in (output.commits_path, output.done_path, output.errors_path, output.rejected_path)
    )
    try:
        if seal is not None:  # nobody writes to it any more
            LOCAL_STORAGE.share(output.path, path, by_link=True)
        else:
            _copy_bytes(output.path, path, position.bytes)
        check_data(LOCAL_STORAGE, path, position, whole=True)
        if position.errors_bytes:
            _copy_bytes(output.errors_path, errors, position.errors_bytes)
        if position.rejected_bytes:
            _copy_bytes(output.rejected_path, rejected, position.rejected_bytes)
    except (StreamChangedError, StreamCorruptError, FileNotFoundError) as error:
        raise StreamChangedError(f"{output.path} does not hold what was committed of it: {error}") from error
    if seal is not None:
        LOCAL_STORAGE.replace(done, replace(seal, source=source).dump(), sync=True)
        return
    log = CommitLog(LOCAL_STORAGE, commits, source, sync=True)
    log.start(position)
    log.close()


def _copy_bytes(path: str, target: str, length: int) -> None:
    """Copy the first bytes of a file, which may grow meanwhile, onto the medium."""
    copy = LOCAL_STORAGE.open_append(target)
    try:
        if length:
            file = LOCAL_STORAGE.open_read(path)
            try:
                for offset in range(0, length, _PIECE_BYTES):
                    copy.append(file.read_at(offset, min(_PIECE_BYTES, length - offset)))
            finally:
                file.close()
        copy.sync()
    finally:
        copy.close()
    LOCAL_STORAGE.sync_folder(str(Path(target).parent))


def _copy_others(folder: Path, target: Path, layout: Layout) -> None:
    """Copy what else lies in the folder of a run, such as its log, as it is."""
    known = {Path(path) for output in layout.outputs for path in output.files}
    for path in folder.iterdir():
        is_kept = path.name not in file_names.RUN_FILES and path.suffix != ".tmp" and path not in known
        if is_kept and path.is_file() and not path.is_symlink():
            LOCAL_STORAGE.share(str(path), str(target / path.name), by_link=False)


def _copy_files(folder: Path, target: Path) -> None:
    """Copy what operators keep, such that nothing was changed while it was copied."""
    for _ in range(_TRIES):
        before = _content(folder)
        if not before:
            return
        shutil.rmtree(target, ignore_errors=True)
        with contextlib.suppress(shutil.Error, FileNotFoundError):  # a file was removed meanwhile
            shutil.copytree(folder, target, symlinks=True, ignore=_no_files, copy_function=_share)
            if _content(folder) == before:
                return
        time.sleep(_TRY_SECONDS)
    raise DiskError(
        errno.EBUSY, "what operators keep there is changed all the time, so it cannot be copied", str(folder)
    )


def _content(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what lies in a folder: the size of each file, and when it was changed."""
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            stat = path.lstat()
            found[str(path)] = stat.st_size, stat.st_mtime_ns
    return found


def _share(path: str, target: str) -> str:
    LOCAL_STORAGE.share(path, target, by_link=False)
    return target


def _no_files(folder: str, names: list[str]) -> set[str]:
    """Return what is no file, folder or link, such as a socket: it is of the process that made it."""
    paths = {name: Path(folder, name) for name in names}
    return {name for name, path in paths.items() if not (path.is_symlink() or path.is_file() or path.is_dir())}
