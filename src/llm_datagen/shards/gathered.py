"""What a gather makes of the streams of completed shards: the outputs of the run, merged, and its exports.

`gather` says when it may; here it is done. All of it may be killed at any point, and is then called again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llm_datagen.config import check_choice
from llm_datagen.errors import ConfigError, StreamError
from llm_datagen.runs.export_entries import KEY as EXPORTS
from llm_datagen.runs.exports import (
    is_export,
    make_exports,
    remove_exports,
    targets_of,
    verify_exports,
)
from llm_datagen.runs.output_node import output_of
from llm_datagen.runs.sharded import SHARDS
from llm_datagen.runs.topology import written_outputs
from llm_datagen.shards.concat import check_concatenated, check_free, concatenate, remove_concatenated
from llm_datagen.shards.joined import joined_stream
from llm_datagen.shards.merge_parts import (
    PartsTarget,
    check_merged,
    check_targets_free,
    merge_parts,
    name_of_parts,
    parts_targets,
    remove_merged,
)
from llm_datagen.shards.sealed_parts import SealedPart
from llm_datagen.streams import MergedStream, Stream, StreamFactory
from llm_datagen.streams.inputs.part import PROTOCOL as PART
from llm_datagen.streams.outputs.side_by_side import why_not_both

Merge = Literal["shards", "concat"]
"""How the outputs of the shards become those of the run: a file each, or one behind the other in one."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """A shard, as its run state says.

    Attributes:
        number: its number.
        run: the id of its run.
        state: its run state.
    """

    number: int
    run: str
    state: Mapping[str, Any] = field(repr=False)

    def entry(self, node_id: str) -> Mapping[str, Any]:
        """Return a node."""
        found: Mapping[str, Any] = next(entry for entry in self.state["nodes"] if entry["node_id"] == node_id)
        return found


@dataclass(frozen=True, slots=True)
class Gathered:
    """The outputs and exports of a run in shards, on disk.

    Attributes:
        run_state: the run state of the whole.
        shards: the shards, in the order of the input.
        merge: how outputs are merged.
    """

    run_state: dict[str, Any] = field(repr=False)
    shards: Sequence[ShardState] = field(repr=False)
    merge: Merge = "shards"

    def __post_init__(self) -> None:
        check_choice("merge", self.merge, Merge)

    @property
    def owner(self) -> str:
        """The id of the run."""
        return str(self.run_state["pipeline_id"])

    def parts(self, entry: Mapping[str, Any]) -> list[SealedPart]:
        """Return what the shards have made of the output of a node.

        Raises:
            StreamError: when one of them is not sealed.
        """
        parts: list[SealedPart] = []
        moved: Mapping[int, tuple[int, int]] = {}
        for shard in self.shards:
            of_shard = shard.entry(entry["node_id"])
            stream = StreamFactory.output_of(of_shard)
            seal = stream.read_seal()
            if seal is None or not seal.complete:
                raise StreamError(
                    f"{stream.path}, which shard {shard.number} has written, is not sealed; resume the run"
                )
            part = SealedPart(shard.number, shard.run, stream, seal, moved)
            moved = part.moved_on(_streams_of_shard(of_shard["input_uri"]))
            parts.append(part)
        return parts

    def rows(self) -> Stream:
        """Return the rows of the output with their ids, in all shards."""
        return self.joined(output_of(self.run_state))

    def joined(self, entry: Mapping[str, Any]) -> Stream:
        """Return the rows that a node has written, in all shards."""
        return joined_stream(entry, self.parts(entry))

    def make(self, stopped: Callable[[], bool] = lambda: False) -> list[str]:
        """Merge the outputs, then make the exports, and note them in the run state of the whole.

        Args:
            stopped: asked between rows of exports; when it returns True, what was begun is gone on with later.

        Returns:
            What is to be told: of rows that do not fit into an export.

        Raises:
            StreamExistsError: when somebody else's rows are where an output goes.
            StreamError: when one cannot be made.
            StopRun: when it was stopped.
            DiskError: when the disk, or the store, refuses.
        """
        entries = gathered_outputs(self.run_state)
        if self.merge == "concat":
            for entry in entries:
                concatenate(entry, self.parts(entry), self.owner)
        else:
            targets = self._targets(entries)
            for entry, target in zip(entries, targets, strict=True):
                merge_parts(target, self.parts(entry), self.owner)
        return make_exports(self.run_state, stopped, self.rows()) if self.run_state.get(EXPORTS) else []

    def findings(self) -> list[str]:
        """Return what is wrong with the outputs and the exports, read from beginning to end."""
        return [*self._differences(), *verify_exports(self.run_state)]

    def remove(self) -> None:
        """Remove what was made, and nothing of anybody else."""
        for entry in gathered_outputs(self.run_state):
            remove_concatenated(entry, self.owner)
        for target in self._targets(gathered_outputs(self.run_state)) if self.merge == "shards" else ():
            remove_merged(target, self.owner)
        remove_exports(self.run_state)

    def _targets(self, entries: Sequence[Mapping[str, Any]]) -> list[PartsTarget]:
        return parts_targets(entries, len(self.shards), targets_of(self.run_state))

    def _differences(self) -> list[str]:
        entries = gathered_outputs(self.run_state)
        if self.merge == "concat":
            return [text for entry in entries for text in check_concatenated(entry, self.parts(entry), self.owner)]
        return [
            text
            for entry, target in zip(entries, self._targets(entries), strict=True)
            for text in check_merged(target, self.parts(entry), self.owner)
        ]


def gathered_outputs(run_state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a run state that write its outputs.

    These are the streams that no node of it reads, and the one that a pipeline file calls the output. An output that is
    an export is made of the stream of the last node, which is none by itself.
    """
    if is_export((run_state.get("config") or {}).get("output_uri")):
        return []
    return written_outputs(run_state)


def shown_outputs(run_state: Mapping[str, Any]) -> list[str]:
    """Return the names of the outputs of a run in shards, as its settings have them; of many files, as a pattern."""
    found = []
    for entry in gathered_outputs(run_state):
        shown = StreamFactory.create(entry["output_uri"]).shown
        folder, slash, name = shown.rpartition("/")
        found.append(shown if run_state[SHARDS]["merge"] == "concat" else folder + slash + name_of_parts(name, "*"))
    return found


def _streams_of_shard(uri: str) -> list[int]:
    """Return the numbers of those inputs of a node of a shard that other nodes of the shard write."""
    source = StreamFactory.source(uri)
    inputs = [each.stream for each in source.inputs] if isinstance(source, MergedStream) else [source]
    return [number for number, stream in enumerate(inputs) if not stream.uri.startswith(PART)]


def check_outputs(run_state: Mapping[str, Any], merge: str, count: int) -> None:
    """Check, before there is a run in shards, that its outputs can be merged where they are to be. Nothing is touched.

    Args:
        run_state: the run state of the whole.
        merge: how outputs are to be merged.
        count: how many shards there are.

    Raises:
        ConfigError: when `merge` is none, the name of an output cannot be that of many files, or they would have a
            file in common with an export.
        StreamExistsError: when something is there that is not this run's.
        StreamError: when they are to be in a store without conditional puts.
    """
    check_choice("merge", merge, Merge)
    entries, owner = gathered_outputs(run_state), str(run_state["pipeline_id"])
    if merge == "shards":
        exports = targets_of(run_state)
        targets = parts_targets(entries, count, exports)
        for target in targets:
            for other in exports:
                if (why := why_not_both(target, other)) is not None:
                    raise ConfigError(
                        f"{target.path} would be the files of an output, and {other.path} an export, and {why}; give "
                        "one of them a folder of its own"
                    )
        check_targets_free(targets, owner)
    else:
        for entry in entries:
            check_free(entry, owner)
