"""What a run was before some of it is done again: kept as an earlier version, whose files are nobody else's.

Streams that are replaced are moved, those that both have are shared. Objects of a store cannot be moved: they are
copied, and those that are replaced are deleted then. `rerun.finish` does so, also after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_datagen.errors import PipelineExistsError, StreamError
from llm_datagen.errors.advice import advice
from llm_datagen.pipeline.stream_checks import counts_of
from llm_datagen.pipeline.stream_reset import Entry, Reset
from llm_datagen.runs import RunFolder
from llm_datagen.runs.copied_files import KEPT_BY
from llm_datagen.runs.export_entries import KEY as EXPORTS
from llm_datagen.runs.state_file import KEEP
from llm_datagen.runs.status import LIVE, Status
from llm_datagen.runs.unneeded import unneeded_nodes
from llm_datagen.runs.versions import MADE_FROM, VERSION, VERSION_OF, uri_in_version, version_id, version_of
from llm_datagen.streams import FileStream, Place, Stream, StreamFactory
from llm_datagen.streams.moved import moved_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptVersion:
    """An earlier version that is to be kept.

    Attributes:
        run_state: its run state.
        moves: streams that get another place: from, to.
        shared: streams that stay where they are as well: from, to.
    """

    run_state: Entry
    moves: list[tuple[Stream, Stream]]
    shared: list[tuple[Stream, Stream]]

    def mark(self) -> Entry:
        """Return it as plain data, for the run state."""
        return {
            "state": self.run_state,
            "move": [[old.uri, new.uri] for old, new in self.moves],
            "share": [[old.uri, new.uri] for old, new in self.shared],
        }


def mark_of(reset: Reset, kept: KeptVersion | None) -> Entry:
    """Return what has to be done to the streams, for the run state: `rerun.finish` does what it says."""
    mark = reset.mark()
    if kept is not None:
        moved = {old.place for old, _ in kept.moves}
        mark["delete"] = [stream.uri for stream in reset.delete if stream.place not in moved]
        mark[KEEP] = kept.mark()
    return mark


def keep_version(before: Entry, reset: Reset, folder: RunFolder) -> KeptVersion | None:
    """Return the version that a run was, before some of it is done again; None when there is nothing to be kept.

    Only reads.

    Args:
        before: its run state, as it was.
        reset: what is to be done to its streams.
        folder: the run's, locked.

    Raises:
        StreamError: when a stream cannot be kept: it lies on a store, and has not ended.
        PipelineExistsError: when something is where it would be kept.
    """
    outputs = {stream.place: stream for stream in map(_output_of, before["nodes"])}
    replaced = {stream.place for stream in reset.delete}
    changed = replaced | {old.place for _, old, _ in reset.moves}
    if not any(stream.exists() for place, stream in outputs.items() if place in changed):
        return None
    pipeline_id, version = before["pipeline_id"], version_of(before)
    kept_id = version_id(pipeline_id, version)
    if RunFolder(folder.results_dir, kept_id).exists():
        raise PipelineExistsError(
            f"run {kept_id!r} is there already, where this version of {pipeline_id!r} would be kept; "
            f"{_or_replace()}, or move that run away"
        )
    streams = {**outputs, **_copied_inputs(before, outputs.keys(), folder)}
    targets = {
        place: StreamFactory.create(uri_in_version(stream.uri, pipeline_id, version))
        for place, stream in streams.items()
    }
    _check_apart([(stream, targets[place]) for place, stream in streams.items() if not stream.is_in_memory])
    for place, stream in streams.items():
        _check_can_be_kept(stream, targets[place])
    pairs = [(stream, targets[place]) for place, stream in streams.items() if not stream.is_in_memory]
    pairs = [(stream, target) for stream, target in pairs if _is_anything(stream)]
    return KeptVersion(
        run_state=_run_state_of(before, {place: target.uri for place, target in targets.items()}),
        moves=[pair for pair in pairs if _is_moved(*pair, replaced)],
        shared=[pair for pair in pairs if not _is_moved(*pair, replaced)],
    )


def _or_replace() -> str:
    return advice(
        "say on_change='replace', which deletes what it replaces", "say --replace, which deletes what it replaces"
    )


def _output_of(entry: Mapping[str, Any]) -> Stream:
    return StreamFactory.create(entry["output_uri"])


def _copied_inputs(before: Entry, written: Any, folder: RunFolder) -> dict[Place, Stream]:
    """Return the inputs that lie in the folder of the run: copies of rows that could be read once."""
    found: dict[Place, Stream] = {}
    for entry in before["nodes"]:
        source = StreamFactory.source(entry["input_uri"])
        is_ours = isinstance(source, FileStream) and Path(source.path).parent == folder.path
        if is_ours and isinstance(source, FileStream) and source.place not in written:
            found[source.place] = source
    return found


def _is_anything(stream: Stream) -> bool:
    """Return whether anything lies where the stream, or what belongs to it, would lie."""
    return any(stream.storage.size(path) is not None for path in stream.files)


def _is_moved(stream: Stream, target: Stream, replaced: set[Place]) -> bool:
    return stream.place in replaced and isinstance(stream, FileStream) and stream.can_move_to(target)


def _check_apart(pairs: Sequence[tuple[Stream, Stream]]) -> None:
    """Check that no two streams would be kept in one place, as `x/out.jsonl` and `x/id/out.jsonl` would.

    Raises:
        StreamError: naming both.
    """
    kept: dict[Place, Stream] = {}
    for stream, target in pairs:
        other = kept.setdefault(target.place, stream)
        if other is not stream:
            raise StreamError(
                f"{other.path} and {stream.path} would both be kept as {target.path}; {_or_replace()}, or let one of "
                "the two have another name in a new run"
            )


def _check_can_be_kept(stream: Stream, target: Stream) -> None:
    if stream.is_in_memory or not _is_anything(stream):
        return
    if not isinstance(stream, FileStream) or not stream.can_share_with(target) or target.place == stream.place:
        raise StreamError(
            f"{stream.path} cannot be kept as a part of an earlier version: only files of this machine can, and "
            f"objects of a store once they have ended; resume the run as it was first, or {_or_replace()}"
        )
    if _is_anything(target):
        raise PipelineExistsError(f"{target.path} is there already, where {stream.path} would be kept; move it away")


def _run_state_of(before: Entry, uris: Mapping[Place, str]) -> Entry:
    """Return the run state of the version, given where its streams will lie."""
    run_state = deepcopy(before)
    for key in (EXPORTS, "reset", "usage_is_partial", "paused", KEPT_BY):
        run_state.pop(key, None)
    pipeline_id, version = before["pipeline_id"], version_of(before)
    run_state.update({"pipeline_id": version_id(pipeline_id, version), VERSION: version, VERSION_OF: pipeline_id})
    if run_state["status"] in LIVE:
        run_state.update(status=str(Status.CANCELED), reason="it had not ended when it was done again")
    left_out = unneeded_nodes(before)
    for entry in run_state["nodes"]:
        output = _output_of(entry)
        seal = output.read_seal()
        if output.exists():
            counts = counts_of(output, is_finished=seal is not None and seal.complete)
            status = Status.UNNEEDED if entry["node_id"] in left_out else counts["status"]
            entry.update({**counts, "status": str(status)})
        source = moved_uri(entry["input_uri"], uris)
        if source != entry["input_uri"]:
            entry.setdefault(MADE_FROM, entry["input_uri"])
        entry.update(input_uri=source, output_uri=uris[output.place])
    config = run_state["config"]
    moved = {
        entry["output_uri"]: new["output_uri"] for entry, new in zip(before["nodes"], run_state["nodes"], strict=True)
    }
    if config.get("output_uri") in moved:
        config["output_uri"] = moved[config["output_uri"]]
    return run_state
