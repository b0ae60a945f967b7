"""What is to be run, as the engine sees it: of a shard, and of the whole before it is split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_datagen.pipeline.blueprint import Blueprint, LineBlueprint
from llm_datagen.pipeline.changed_steps import has_same_steps
from llm_datagen.pipeline.run import Run, StartNotice
from llm_datagen.pipeline.stream_reset import Entry
from llm_datagen.runs.sharded import SHARDS
from llm_datagen.shards.given_away import keep_input
from llm_datagen.shards.splittable import check_splittable, refuse_rows
from llm_datagen.streams import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardBlueprint:
    """A shard: its nodes are those that the spec of its run says, its operators those of the code.

    Attributes:
        planned: its run state, as `ShardSpec.of_shard` makes it.
        code: the operators, in the order of the nodes.
    """

    planned: Mapping[str, Any]
    code: Sequence[Any]

    @property
    def streaming(self) -> bool:
        """Whether all nodes run at once."""
        return bool(self.planned["config"]["streaming"])

    @property
    def has_operators(self) -> bool:
        """Whether the code gives operators: always."""
        return True

    def run_state(self, pipeline_id: str) -> dict[str, Any]:
        """Return the run state of a shard that has not begun."""
        return {**self.planned, "pipeline_id": pipeline_id}

    def copy_input(self, run_state: dict[str, Any], *, most: int | None = None) -> bool:
        """Do nothing: shards read a stored input."""
        return False

    def operators(self, run_state: dict[str, Any]) -> list[Any]:
        """Return the operators."""
        return list(self.code)

    def steps(self, run_state: dict[str, Any]) -> tuple[list[Entry], list[Any]]:
        """Return the nodes that the spec says, and their operators."""
        entries: list[Entry] = self.run_state(run_state["pipeline_id"])["nodes"]
        if has_same_steps(run_state["nodes"], entries):
            return run_state["nodes"], list(self.code)
        keep_input(run_state["nodes"], entries)
        return entries, list(self.code)

    def inputs(self, run_state: dict[str, Any]) -> Mapping[str, Source]:
        """Return nothing: the plan says what a shard reads."""
        return {}

    def ignored(self, run_state: dict[str, Any]) -> list[StartNotice]:
        """Return nothing: the code gives no paths and settings of a shard."""
        return []

    def note_run(self, pipeline_id: str, run: Run) -> None:
        """Do nothing: nobody else has its nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeBlueprint:
    """A pipeline that is run in shards: what its code says, and that it can be split.

    Attributes:
        inner: that of the pipeline.
        shards: how many shards there are.
        merge: what becomes of their outputs; see `ShardedPipeline`.
    """

    inner: Blueprint
    shards: int
    merge: str

    @property
    def streaming(self) -> bool:
        """Whether all nodes run at once."""
        return self.inner.streaming

    @property
    def has_operators(self) -> bool:
        """Whether the code gives operators; else, they are made again as the run state says."""
        return self.inner.has_operators

    def run_state(self, pipeline_id: str) -> dict[str, Any]:
        """Return the run state of a new run.

        Raises:
            ConfigError: when something that it needs is missing, or it cannot be split.
        """
        if isinstance(self.inner, LineBlueprint):
            refuse_rows(self.inner.settings)
        run_state = self.inner.run_state(pipeline_id)
        check_splittable(run_state, self.inner.operators(run_state))
        return {**run_state, SHARDS: {"count": self.shards, "merge": self.merge}}

    def copy_input(self, run_state: dict[str, Any], *, most: int | None = None) -> bool:
        """Copy an input that is read once, for a preview; a run in shards has none."""
        return self.inner.copy_input(run_state, most=most)

    def operators(self, run_state: dict[str, Any]) -> list[Any]:
        """Return the operators, in the order of the run state's nodes."""
        return self.inner.operators(run_state)

    def steps(self, run_state: dict[str, Any]) -> tuple[list[Entry], list[Any]]:
        """Return the nodes as the code has them, drawn for the run of a run state, and their operators."""
        return self.inner.steps(run_state)

    def inputs(self, run_state: dict[str, Any]) -> Mapping[str, Source]:
        """Return nothing: what is computed from numbers cannot be split."""
        return {}

    def ignored(self, run_state: dict[str, Any]) -> list[StartNotice]:
        """Return what the code gives, and a resume does not use."""
        return self.inner.ignored(run_state)

    def note_run(self, pipeline_id: str, run: Run) -> None:
        """Do nothing: the nodes of the pipeline do not run, those of the shards do."""
