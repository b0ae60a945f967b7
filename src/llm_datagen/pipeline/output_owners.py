"""Whose a file is: of the runs of one results folder, created, running and ended.

A run state names all that its run writes: the outputs of its nodes, with what belongs to them, and under ``files`` its
log and what its operators keep.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llm_datagen.errors import DatagenError, PipelineExistsError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.exports import targets_of
from llm_datagen.runs.file_names import RUN_STATE
from llm_datagen.runs.state_file import parse
from llm_datagen.runs.status import Status
from llm_datagen.runs.store import run_ids
from llm_datagen.streams import Place, Stream, StreamFactory
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.sidecars import WHAT_LIES_BESIDE
from llm_datagen.streams.storage.local import LOCAL_STORAGE
from llm_datagen.streams.storage.object_uri import is_object_uri
from llm_datagen.streams.storage.objects import ObjectStorage

_TOGETHER = 64
_READERS = 8
_HEAD_BYTES = 1024
"""Bytes of a run state in which its status stands."""


def owner_of(place: Place, folder: RunFolder) -> str | None:
    """Return the id of the run that wrote the file at `place`, of those in the same folder; None: it is none of them.

    When several have, it is the one that was started last: what the others wrote there is gone.
    """
    started: dict[str, str] = {}
    for other, data in _run_states(folder.results_dir, run_ids(folder.results_dir)):
        with contextlib.suppress(DatagenError):  # a run state that cannot be read, a protocol that is not known here
            run_state = parse(data, other.place_of(RUN_STATE))
            started_at = run_state.get("started_at")
            wrote = {output.place for output in _outputs_of(run_state)} | side_places(run_state).keys()
            if started_at and place in wrote:
                started[other.pipeline_id] = started_at
    return max(started, key=lambda pipeline_id: started[pipeline_id], default=None)


def check_unclaimed(written: Mapping[Place, str], folder: RunFolder) -> None:
    """Check that nothing is to be written where another run writes, or will write when it begins.

    Runs may share a log, or a cache. The outputs of runs that have begun, and the exports of those that are completed,
    are known by what lies there. Two exports are compared elsewhere.

    Args:
        written: what a new run is to write, and what it is, for people.
        folder: that of the new run.

    Raises:
        PipelineExistsError: naming the other run and the path.
    """
    ids = [pipeline_id for pipeline_id in run_ids(folder.results_dir) if pipeline_id != folder.pipeline_id]
    for other, data in _run_states(folder.results_dir, ids):
        try:
            if not _may_claim(data, written):
                continue
            run_state = parse(data, other.place_of(RUN_STATE))
            is_pending = run_state["status"] == Status.PENDING
            outputs = dict(_claimed(run_state)) if is_pending else {}
            exports = {} if run_state["status"] == Status.COMPLETED else places_exported(run_state)
        except (DatagenError, OSError):  # whoever takes up that run is told of it
            continue
        files = side_places(run_state) | exports
        others = {place: what for place, what in files.items() if written.get(place) != what}
        claimed = {**others, **outputs}
        when = ", which was created and has not begun, is to write" if is_pending else " writes"
        way = (
            ", run that one first, or say if_exists='overwrite' (that run is then refused when it is to begin)"
            if is_pending
            else ""
        )
        for place in claimed.keys() & written.keys():
            raise PipelineExistsError(
                f"{place[1]} would be {written[place]}, and the run {other.pipeline_id!r}{when} {claimed[place]} "
                f"there; choose another path{way}"
            )


def places_of(output: Stream, what: str) -> Iterator[tuple[Place, str]]:
    """Yield where a stream and what belongs to it will lie, with what each is."""
    yield output.place, what
    for ending, beside in WHAT_LIES_BESIDE.items():
        yield output.place_of(f"{output.path}{ending}"), f"the {beside} of {what}"


def side_places(run_state: Mapping[str, Any]) -> dict[Place, str]:
    """Return the files of a run besides its streams, with what each is; a run of an older version tells of none."""
    return {local_place(path): what for path, what in run_state.get("files", {}).items()}


def places_exported(run_state: Mapping[str, Any]) -> dict[Place, str]:
    """Return the places of the exports of a run that are one file each, with what lies there."""
    single = [target.path for target in targets_of(run_state) if not target.is_folder]
    return {
        (ObjectStorage.__name__, path) if is_object_uri(path) else local_place(path): "an export" for path in single
    }


def local_place(path: str) -> Place:
    """Return what a file of this machine is, whatever links lead to it."""
    return type(LOCAL_STORAGE).__name__, os.path.realpath(path)


def _run_states(results_dir: str, ids: Sequence[str]) -> Iterator[tuple[RunFolder, bytes]]:
    """Yield the run states that can be read; on a store, some are asked for at the same time."""
    for at in range(0, len(ids), _TOGETHER):
        folders = [RunFolder(results_dir, pipeline_id) for pipeline_id in ids[at : at + _TOGETHER]]
        if not folders[0].is_on_store:
            found = [_read(folder) for folder in folders]
        else:
            with ThreadPoolExecutor(_READERS, thread_name_prefix="object-store") as pool:
                found = list(pool.map(_read, folders))
        yield from ((folder, data) for folder, data in zip(folders, found, strict=True) if data is not None)


def _read(folder: RunFolder) -> bytes | None:
    try:
        return folder.read(RUN_STATE)
    except (DatagenError, OSError):  # whoever takes up that run is told of it
        return None


def _may_claim(data: bytes, written: Mapping[Place, str]) -> bool:
    """Return whether a run state is worth parsing: of a run that has not begun, or that has one of these paths."""
    return f'"{Status.PENDING}"'.encode() in data[:_HEAD_BYTES] or any(dumps(path) in data for _, path in written)


def _claimed(run_state: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    for entry, output in zip(run_state["nodes"], _outputs_of(run_state), strict=True):
        yield from places_of(output, f"the output of {entry['node_id']}")


def _outputs_of(run_state: Mapping[str, Any]) -> list[Stream]:
    return [StreamFactory.create(entry["output_uri"]) for entry in run_state["nodes"]]
