"""What the shards of a run do: ``<results_dir>/<id>/shards/spec.json``, and the run state of each shard from it.

A shard is a normal run. Its run state is that of the whole, in which the input is a range of it, and all streams lie in
the folder of the shard. What is changed of the whole later (an edit that was accepted, a limit) is changed here: each
shard takes it over when it is begun, or goes on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Self

from llm_datagen.config import OnChange, Verify
from llm_datagen.errors import RunStateError
from llm_datagen.operators.fingerprint import changed_parts
from llm_datagen.pipeline.operator_changes import AGAIN
from llm_datagen.runs import RunFolder
from llm_datagen.runs.earlier_versions import older_rows
from llm_datagen.runs.export_entries import KEY as EXPORTS
from llm_datagen.runs.sharded import SHARDS
from llm_datagen.runs.state_file import OPTIONS, change_settings
from llm_datagen.runs.status import NodeReport, Status
from llm_datagen.shards.plan_file import RESTORE
from llm_datagen.shards.splittable import input_of
from llm_datagen.streams import MergedStream, Stream, StreamFactory
from llm_datagen.streams.checksums import CHECK_FIELD, is_unaltered, with_check
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.storage.compression import ending_of
from llm_datagen.streams.storage.object_uri import SCHEMES, is_object_uri

SPEC = "spec.json"
FORMAT = 1

REPLAYS = "replays"
"""The key of a shard's run state for how often its dead letters were to be done again."""

_TAKEN_OVER = ("parallel_size", "batch_size", "rate", "on_error", "max_errors")
"""Settings of nodes that may be changed while a run goes on, or by a resume: all shards get them."""

_FIELDS = ("run_state", "on_change", "verify", "replays", "has_log", "at_once", "folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSpec:
    """What the shards of a run do.

    Attributes:
        run_state: the run state of the whole, without what is done.
        on_change: what becomes of rows in shards whose operators were edited since; said at the last resume.
        verify: how much of what a shard has written is compared with its checksums when it goes on.
        replays: how often the dead letters of the whole were to be done again.
        has_log: whether each shard keeps a platform log, in its folder.
        at_once: how many shards are run at once: the `rate` of a node is shared by so many.
        folder: the folder of the shards when they were planned: their streams lie there.
    """

    run_state: dict[str, Any] = field(repr=False)
    on_change: OnChange = "refuse"
    verify: Verify = "tail"
    replays: int = 0
    has_log: bool = True
    at_once: int = 1
    folder: str = ""

    @property
    def pipeline_id(self) -> str:
        """The id of the whole."""
        return str(self.run_state["pipeline_id"])

    @property
    def is_done_again(self) -> bool:
        """Whether shards that were done are done again, in whole or in part."""
        return self.replays > 0 or self.on_change in AGAIN

    @classmethod
    def of(cls, run_state: Mapping[str, Any], folder: RunFolder, *, has_log: bool, at_once: int) -> Self:
        """Return what the shards of a new run do, given its run state and their folder."""
        place = "" if folder.is_on_store else str(folder.path.absolute())
        return cls(run_state=_undone(run_state), has_log=has_log, at_once=at_once, folder=place)

    def with_run_state(self, run_state: Mapping[str, Any], **changed: Any) -> ShardSpec:
        """Return it with other nodes, and other attributes."""
        return replace(self, run_state=_undone(run_state), **changed)

    def save(self, folder: RunFolder) -> None:
        """Save it, durably.

        Args:
            folder: that of the shards; see `shards_folder`.

        Raises:
            DiskError: when it cannot be written.
        """
        own = {name: getattr(self, name) for name in _FIELDS}
        folder.write(SPEC, with_check(dumps({"format": FORMAT, **own}, option=OPTIONS)), sync=True)

    @classmethod
    def load(cls, folder: RunFolder) -> Self | None:
        """Return what was saved; None when nothing was.

        Raises:
            RunStateError: when it cannot be read, was edited, or is of another version.
        """
        data, path = folder.read(SPEC), folder.place_of(SPEC)
        if data is None:
            return None
        try:
            found = loads_exactly(data)
            known = found.pop("format")
            if known != FORMAT:
                raise RunStateError(
                    f"{path} has format {known}, and this version reads {FORMAT}; use the version of llm-datagen that "
                    "made it"
                )
            if not is_unaltered(data):
                raise RunStateError(f"{path} was edited: its checksum differs; {RESTORE}")
            found.pop(CHECK_FIELD)
            return cls(**found)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunStateError(f"{path} does not say what shards do: {error!r}; {RESTORE}") from error

    def of_shard(self, folder: RunFolder, part_uri: str, fingerprint: Any) -> dict[str, Any]:
        """Return the run state of a shard that has not begun.

        Args:
            folder: that of the shard.
            part_uri: what it reads: its range of the input.
            fingerprint: what tells whether the input is what it was when it was split.
        """
        run_state = deepcopy(self.run_state)
        nodes = run_state["nodes"]
        stream = input_of(nodes)
        moved = {stream.place: part_uri, **moved_streams(nodes, folder)}
        for entry in nodes:
            is_of_input = stream.place in StreamFactory.source(entry["input_uri"]).places
            entry["input_uri"] = rewired(entry["input_uri"], moved, part_uri)
            entry["output_uri"] = moved[StreamFactory.create(entry["output_uri"]).place]
            entry["rate"] = self.share_of(entry["rate"])
            if is_of_input and isinstance(StreamFactory.source(entry["input_uri"]), MergedStream):
                entry.update(input_fingerprint={part_uri: fingerprint})
            elif is_of_input:
                entry.update(follow_input=False, input_fingerprint=fingerprint)
        config = run_state["config"]
        for name, uri in (("input_uri", part_uri), ("output_uri", nodes[-1]["output_uri"]), ("also", None)):
            if name in config:
                config[name] = uri
        run_state.update(pipeline_id=folder.pipeline_id)
        run_state.pop(EXPORTS, None)
        run_state.pop(SHARDS, None)
        return run_state

    def refuse_moved(self, folder: RunFolder) -> None:
        """Check that shards lie where they were planned: a copy would write into the streams of what it is one of.

        Args:
            folder: that of the shards; on a store, nothing is checked.

        Raises:
            RunStateError: when they do not.
        """
        if not self.folder or folder.is_on_store:
            return
        planned = Path(self.folder)
        if not planned.exists() or not planned.samefile(folder.path):
            raise RunStateError(
                f"run {self.pipeline_id!r} was moved or copied: its shards lie in {folder.path}, and they, and what "
                f"they write, were in {planned}; move the run back to go on with it, or start afresh with "
                "if_exists='overwrite'"
            )

    def is_done(self, run_state: Mapping[str, Any]) -> bool:
        """Return whether a shard has nothing left to do: it is completed, and no rows of it are to be done again.

        Args:
            run_state: that of the shard.
        """
        if run_state["status"] != Status.COMPLETED:
            return False
        nodes = run_state["nodes"]
        if run_state.get(REPLAYS, 0) < self.replays and any(entry.get("dead_letters") for entry in nodes):
            return False
        return self.on_change not in AGAIN or not self._has_older_rows(nodes)

    def _has_older_rows(self, nodes: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether some nodes of a shard are not those of the whole, or rows of one are of another operator."""
        known = {entry["node_id"]: entry.get("fingerprint") or {} for entry in self.run_state["nodes"]}
        if known.keys() != {entry["node_id"] for entry in nodes}:
            return True
        return any(
            older_rows(entry) is not None or changed_parts(entry.get("fingerprint") or {}, known[entry["node_id"]])
            for entry in nodes
        )

    def take_over(self, run_state: dict[str, Any]) -> None:
        """Write into the run state of a shard what was changed of the whole."""
        known = {entry["node_id"]: entry for entry in self.run_state["nodes"]}
        for entry in run_state["nodes"]:
            if entry["node_id"] in known:
                changed = {name: known[entry["node_id"]][name] for name in _TAKEN_OVER}
                change_settings(entry, {**changed, "rate": self.share_of(changed["rate"])})

    def share_of(self, rate: float | None) -> float | None:
        """Return what one shard has of the rate of a node, of those that are run at once."""
        return None if rate is None else rate / self.at_once

    def entry_of(self, node_id: str) -> dict[str, Any]:
        """Return a node, as the run state of the whole has it."""
        found: dict[str, Any] = next(entry for entry in self.run_state["nodes"] if entry["node_id"] == node_id)
        return found


def shards_folder(folder: RunFolder) -> RunFolder:
    """Return the folder in which the shards of a run lie, each a run of its own; plan and spec lie there, too.

    Args:
        folder: that of the run.
    """
    return RunFolder(folder.location, SHARDS)


def _undone(run_state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run state of a run of which nothing is done."""
    undone = deepcopy({**run_state})
    for entry in undone["nodes"]:
        entry.update(NodeReport(node_id=entry["node_id"]).as_dict())
        entry.pop("input_fingerprint", None)
    undone.update(status=str(Status.PENDING), reason="", error=None, failed_row=None, paused=False, usage=[], cost=None)
    undone.update(pid=None, host=None, started_at=None, ended_at=None)
    return undone


def moved_streams(nodes: list[dict[str, Any]], folder: RunFolder) -> dict[Any, str]:
    """Return where the streams of a run lie in the folder of a shard, by their places."""
    found: dict[Any, str] = {}
    taken: set[str] = set()
    for number, entry in enumerate(nodes):
        stream = StreamFactory.create(entry["output_uri"])
        name = re.sub(r"[^\w.-]", "_", entry["node_id"])[:100].strip(".") or f"node_{number}"
        while f"{name}{_ending(stream)}" in taken:
            name += "_"
        taken.add(f"{name}{_ending(stream)}")
        found[stream.place] = _uri_in(folder, stream, name)
    return found


def _protocol(stream: Stream) -> str:
    protocol, separator, _ = stream.uri.partition("://")
    if not separator or protocol in SCHEMES:
        return "file"
    return "jsonl" if stream.is_in_memory else protocol


def _ending(stream: Stream) -> str:
    """Return how the name of a stream ends: by its format, and by its compression."""
    compression = ending_of(stream.uri) or ""
    name = PurePosixPath(stream.uri.partition("://")[2] or stream.uri).name.removesuffix(compression)
    protocol = _protocol(stream)
    if protocol == "file":
        return PurePosixPath(name).suffix + compression
    return f".{protocol}{compression}"


def _uri_in(folder: RunFolder, stream: Stream, name: str) -> str:
    file = f"{name}{_ending(stream)}"
    if is_object_uri(folder.location):
        return folder.place_of(file)
    return f"{_protocol(stream)}://{folder.path / file}"


def rewired(uri: str, moved: Mapping[Any, str], part_uri: str) -> str:
    """Return the URI of a source with the streams of the shard in place of those of the whole."""
    source = StreamFactory.source(uri)
    if not isinstance(source, MergedStream):
        return moved[source.place]
    named = {each.name: moved[each.stream.place] for each in source.inputs}
    static = [each.name for each in source.inputs if each.is_static or named[each.name] == part_uri]
    return MergedStream.uri_of(source.naming, named, static)
