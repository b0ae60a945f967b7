"""Whose a file is: of the runs of one results folder, begun and only created."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from llm_datagen.errors import DatagenError, PipelineExistsError
from llm_datagen.report import Status
from llm_datagen.runtime import RunFolder
from llm_datagen.runtime.folder import run_ids
from llm_datagen.streams import Place, Stream, StreamFactory
from llm_datagen.streams.neighbours import WHAT_LIES_BESIDE

_HEAD_BYTES = 1024
"""Bytes of an image in which its status stands: those of runs that have begun are not read on."""


def owner_of(place: Place, folder: RunFolder) -> str | None:
    """Return the id of the run that wrote the stream at `place`, of those in the same folder; None: it is none of them.

    When several have, it is the one that was started last: what the others wrote there is gone.
    """
    started: dict[str, str] = {}
    for pipeline_id in run_ids(folder.path.parent):
        with contextlib.suppress(DatagenError):  # an image that cannot be read, a protocol that is not known here
            image = RunFolder(folder.path.parent, pipeline_id).load()
            started_at = image.get("started_at")
            if started_at and any(output.place == place for output in _outputs_of(image)):
                started[pipeline_id] = started_at
    return max(started, key=lambda pipeline_id: started[pipeline_id], default=None)


def check_unclaimed(written: Mapping[Place, str], folder: RunFolder) -> None:
    """See to it that nothing is to be written where another run, which was created and has not begun, will write.

    Those that have begun are known by what lies there.

    Args:
        written: what a new run is to write, and what it is, for people.
        folder: that of the new run.

    Raises:
        PipelineExistsError: naming the other run and the path.
    """
    for pipeline_id in run_ids(folder.path.parent):
        if pipeline_id == folder.pipeline_id:
            continue
        other = RunFolder(folder.path.parent, pipeline_id)
        with contextlib.suppress(OSError), other.image_path.open("rb") as file:
            if f'"{Status.PENDING}"'.encode() not in file.read(_HEAD_BYTES):
                continue
        try:
            image = other.load()
            claimed = dict(_claimed(image)) if image["status"] == Status.PENDING else {}
        except DatagenError:  # whoever takes up that run is told of it
            continue
        for place in claimed.keys() & written.keys():
            raise PipelineExistsError(
                f"{place[1]} would be {written[place]}, and the run {pipeline_id!r}, which was created and has not "
                f"begun, is to write {claimed[place]} there; choose another path, run that one first, or say "
                "if_exists='overwrite' (that run is then refused when it is to begin)"
            )


def places_of(output: Stream, what: str) -> Iterator[tuple[Place, str]]:
    """Yield where a stream and what belongs to it will lie, with what each is."""
    yield output.place, what
    for ending, beside in WHAT_LIES_BESIDE.items():
        yield output.place_of(f"{output.path}{ending}"), f"the {beside} of {what}"


def _claimed(image: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    for entry, output in zip(image["nodes"], _outputs_of(image), strict=True):
        yield from places_of(output, f"the output of {entry['node_id']}")


def _outputs_of(image: Mapping[str, Any]) -> list[Stream]:
    return [StreamFactory.create(entry["output_uri"]) for entry in image["nodes"]]
