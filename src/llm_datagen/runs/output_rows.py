"""The rows that a run has written, read when somebody asks for them. Files are read, never changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import ConfigError, StreamError
from llm_datagen.errors.advice import did_you_mean
from llm_datagen.runs.browse.absolute import with_absolute_paths
from llm_datagen.runs.output_node import output_of
from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD
from llm_datagen.streams.scan import rows_of

if TYPE_CHECKING:
    from llm_datagen.runs.browse.run_streams import RunStream
    from llm_datagen.runs.store import RunFolder

_AT_ONCE = 4096


class RunOutput:
    """What a run has written.

    Args:
        run_state: its run state.
        folder: its folder.
        home: the directory that its relative paths count from.
        shards: the run states of its shards; None of a run without.

    Attributes:
        folder: its folder.
    """

    def __init__(
        self,
        run_state: Mapping[str, Any],
        folder: RunFolder,
        home: str,
        shards: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self.folder = folder
        self._state = with_absolute_paths(run_state, home)
        self._shards = None if shards is None else [with_absolute_paths(shard, home) for shard in shards]

    def rows(self, node: str | None = None, *, ids: bool = False) -> Iterator[Any]:
        """Return the rows of a stream, one after the other: as many as are committed now.

        Args:
            node: the id of the node that has written it; None: the one whose stream is the output.
            ids: whether each row has its id, in the column `_i`.

        Raises:
            ConfigError: when there is no such node, or the run has several outputs and none was named.
            StreamError: when the stream is not there; while it is read, when it is damaged.
        """
        return self._read(self._stream(node), ids=ids)

    def _read(self, stream: RunStream, *, ids: bool) -> Iterator[Any]:
        for piece in stream.pieces:
            if piece.look().rows == 0:  # nothing was written, perhaps no file
                continue
            for row_id, item, _ in rows_of(piece.stream):
                if isinstance(item, dict):
                    plain = {name: value for name, value in item.items() if name != ID_FIELD}
                    yield {ID_FIELD: row_id, **plain} if ids else plain
                else:
                    yield {ID_FIELD: row_id, DATA_FIELD: item} if ids else item

    def table(self, node: str | None = None, *, ids: bool = False) -> Iterator[list[dict[str, Any]]]:
        """Return the rows as `rows` does, some thousand at a time; a value that is no object is the column `data`."""
        rows = self.rows(node, ids=ids)
        while some := [row if isinstance(row, dict) else {DATA_FIELD: row} for row in islice(rows, _AT_ONCE)]:
            yield some

    def _stream(self, node: str | None) -> RunStream:
        from llm_datagen.runs.browse.run_streams import find_stream, streams_of_run

        streams = streams_of_run(self._state, self._shards)
        entries = self._state["nodes"]
        known = [entry["node_id"] for entry in entries]
        if node is None:
            node = output_of(self._state)["node_id"]
        elif node not in known:
            raise ConfigError(f"node={node!r}: the run has no such node; {did_you_mean(node, known)}")
        found = find_stream(streams, str(node))
        why = found.look().why_not
        if why and any(entry["node_id"] == node and entry.get("rows_out") for entry in entries):
            raise StreamError(why)
        return found
