"""What of a run in shards may be changed while it runs: in the spec, so that shards which begin later have it, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llm_datagen.actors.change_check import check_change
from llm_datagen.errors import NotRunningError
from llm_datagen.messages import Reconfigure, Reconfigured
from llm_datagen.runs import RunFolder
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.state_file import change_settings
from llm_datagen.shards.spec import ShardSpec


class Limits:
    """The settings of nodes that commands change. Used by the supervisor's thread, but for `of_shard`.

    Args:
        spec: what the shards do; a change is saved in it.
        shards: the folder of the shards.
        saved_state: the run state of the whole.
        batched: the ids of nodes whose operators take batches.
        log: the platform log.
    """

    def __init__(
        self, spec: ShardSpec, shards: RunFolder, saved_state: Mapping[str, Any], batched: set[str], log: PlatformLog
    ) -> None:
        self._spec, self._shards, self._batched, self._log = spec, shards, batched, log
        self._entries = {entry["node_id"]: entry for entry in saved_state["nodes"]}

    def check(self, command: Reconfigure, *, is_running: bool) -> None:
        """Check that a node may be changed so.

        Raises:
            ConfigError: when it may not; nothing is changed then.
        """
        batch_sizes = {node_id: entry["batch_size"] for node_id, entry in self._entries.items()}
        check_change(command, batch_sizes, self._batched)
        if not is_running:
            raise NotRunningError(f"{command.node_id} does not run any more: there is nothing to change")

    def of_shard(self, command: Reconfigure) -> Reconfigure:
        """Return what a shard is told: of a rate, its share."""
        return replace(command, rate=self._spec.share_of(command.rate)) if command.rate else command

    def change(self, command: Reconfigure) -> Reconfigured:
        """Change a node for all shards that begin from now on; return what holds."""
        entry = self._entries[command.node_id]
        changed: dict[str, Any] = {
            "parallel_size": command.parallel_size or entry["parallel_size"],
            "batch_size": command.batch_size or entry["batch_size"],
            "rate": entry["rate"] if command.rate is None else command.rate or None,
        }
        for each in (entry, self._spec.entry_of(command.node_id)):
            change_settings(each, changed)
        self._spec.save(self._shards)
        self._log.info(events.RECONFIGURED, node_id=command.node_id, **changed)
        return Reconfigured(command.node_id, changed["parallel_size"], changed["batch_size"], changed["rate"])
