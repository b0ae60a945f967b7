"""A pipeline that was named on the command line, run in shards."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llm_datagen.cli.execute import PartOf, run_watched
from llm_datagen.cli.otel import NO_OTEL, OtelOptions
from llm_datagen.cli.output import write
from llm_datagen.cli.target import Target
from llm_datagen.config import OnChange
from llm_datagen.errors import ConfigError
from llm_datagen.pipeline.base import BasePipeline
from llm_datagen.runs import RunFolder
from llm_datagen.runs.origin import Origin, origin_of
from llm_datagen.runs.seen import see
from llm_datagen.runs.sharded import SHARDS, is_sharded
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.shards.array_task import shard_given, shard_of_environment

if TYPE_CHECKING:  # whoever runs nothing in shards does not import what does
    from llm_datagen.shards.executor import ShardExecutor
    from llm_datagen.shards.pipeline import ShardedPipeline

OF_ENVIRONMENT = "env"

_OF_RAY = ("ray_address", "resources", "runtime_env")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOptions:
    """What the command line says of shards.

    Attributes:
        shards: how many there are.
        shard: which one this process runs: ``3/16``, or ``env``.
        executor: who runs them: "local", "ray" or "none".
        workers: how many at once.
        merge: what becomes of the outputs.
        ray_address: where the Ray cluster is.
        resources: what a shard needs of it, as JSON.
        runtime_env: its runtime environment, as JSON.
    """

    shards: int | None = None
    shard: str | None = None
    executor: str | None = None
    workers: int | None = None
    merge: str | None = None
    ray_address: str | None = None
    resources: str | None = None
    runtime_env: str | None = None

    @property
    def are_given(self) -> bool:
        """Whether the run is to be one in shards."""
        return self.shards is not None or self.shard is not None

    @property
    def are_by_others(self) -> bool:
        """Whether this process runs one shard, or none."""
        return self.shard is not None or (self.shards is not None and self.executor == "none")

    def refuse_without_shards(self) -> None:
        """Refuse options that mean nothing for a run that is not in shards.

        Raises:
            ConfigError: when there are some.
        """
        for name in ("executor", "workers", "merge", *_OF_RAY):
            if getattr(self, name) is not None and not self.are_given:
                raise ConfigError(f"{_flag(name)} is for a run in shards: give --shards N, too")

    def who(self) -> str | ShardExecutor:
        """Return who runs the shards, if this process has them run.

        Raises:
            ConfigError: when options of Ray are wrong, or given without it.
        """
        if self.executor == "ray":
            from llm_datagen.shards.ray import RayExecutor

            resources, runtime_env = _object("resources", self.resources), _object("runtime_env", self.runtime_env)
            return RayExecutor(self.ray_address, resources=resources, runtime_env=runtime_env, workers=self.workers)
        for name in _OF_RAY:
            if getattr(self, name) is not None:
                raise ConfigError(f"{_flag(name)} is for shards on Ray: give --executor ray, too")
        return "local"

    def one(self, environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
        """Return the shard that this process is to run, and how many there are; None: all.

        Raises:
            ConfigError: when what is given, or the environment says, is no shard.
        """
        if self.shard is not None and self.shard != OF_ENVIRONMENT:
            number, count = shard_given(self.shard)
            if self.shards not in {None, count}:
                raise ConfigError(f"--shard {self.shard} and --shards {self.shards}: give one number of shards")
            return number, count
        if self.shard is None and self.executor != "none":
            return None
        found = shard_of_environment(environment, self.shards)
        if found is None and self.shard is not None:
            raise ConfigError(
                "--shard env: the environment names no shard (SLURM_ARRAY_TASK_ID of a Slurm array, "
                "JOB_COMPLETION_INDEX of an indexed Kubernetes Job)"
            )
        return found

    def split_in_words(self, count: int) -> str:
        """Return how a run is split, for the line that says that it begins; empty of one without shards.

        Args:
            count: how many shards it was made with.
        """
        if not self.are_given:
            return ""
        idle = self.workers is not None and self.workers > count
        used = f": {count} of {self.workers} workers are used" if idle else ""
        return f", in {count} {'shard' if count == 1 else 'shards'}{used}"


NO_SHARDS = ShardOptions()


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _object(name: str, text: str | None) -> dict[str, Any] | None:
    """Return an option that is an object in JSON."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{_flag(name)} {text!r} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{_flag(name)} must be an object in JSON, such as '{{\"num_cpus\": 2}}', got {text!r}")
    return found


def in_shards(pipeline: BasePipeline, options: ShardOptions, *, count: int | None) -> ShardedPipeline:
    """Return a pipeline that is run in shards, as the options say."""
    from llm_datagen.shards.pipeline import ShardedPipeline

    given: dict[str, Any] = {"workers": options.workers, "merge": options.merge, "executor": options.who()}
    return ShardedPipeline(pipeline, shards=count, **given)


def go_on(pipeline: BasePipeline, run_state: Mapping[str, Any], options: ShardOptions) -> BasePipeline:
    """Return what goes on with a run: the pipeline, or if the run is in shards, that one in shards."""
    if not is_sharded(run_state):
        options.refuse_without_shards()
        return pipeline
    sharded = in_shards(pipeline, options, count=run_state[SHARDS]["count"])
    sharded.results_dir = pipeline.results_dir
    return sharded


def run_some(
    target: Target,
    pipeline_id: str | None,
    options: ShardOptions,
    if_exists: str | None,
    on_change: OnChange,
    otel: OtelOptions = NO_OTEL,
) -> int:
    """Run one shard in this process, or prepare all for others to run; return the exit code.

    Raises:
        ConfigError: when it has no id: all shards are of one run.
        DatagenError: when it cannot be run, or fails.
    """
    if if_exists not in {None, "resume"}:
        raise ConfigError(f"--if-exists {if_exists} is for a whole run: who runs one shard of it goes on with it")
    one = options.one()
    sharded = in_shards(target.pipeline, options, count=one[1] if one else options.shards)
    pipeline_id = pipeline_id or target.pipeline_id
    if not pipeline_id:
        raise ConfigError("give --id ID, the same one for all shards: they are parts of one run")
    folder = sharded.prepare(pipeline_id, on_change=on_change, **target.settings)
    if origin_of(folder) is None:
        Origin.here(target.name).save(folder)
    if one is None:
        _tell_tasks(folder, target.name)
        return 0
    number, count = one
    with sharded.shard(number, pipeline_id, on_change=on_change, **target.settings) as shard:
        part = PartOf(folder, number, count)
        write(f"{part.name}: {target.name}")
        return run_watched(shard, part=part, otel=otel)


def _tell_tasks(folder: RunFolder, name: str) -> None:
    """Say how shards are run that nobody here runs."""
    from llm_datagen.shards.whole import Whole

    options, whole = ["--id", folder.pipeline_id, "--shard"], Whole.of(folder, see(folder))
    count = whole.count
    planned = f"{count} shards are planned, and none is begun"
    write(f"run {folder.pipeline_id}: {whole.summary() if whole.folders else planned}")
    write(f"  run     llm-datagen run {name} {' '.join(options)} 0/{count}   (and so on, to {count - 1}/{count})")
    write(f"  then    {command_line('gather', folder.pipeline_id, folder.results_dir)}")


def with_shards(target: Target, options: ShardOptions) -> Target:
    """Return a target that is run in shards."""
    return replace(target, pipeline=in_shards(target.pipeline, options, count=options.shards))
