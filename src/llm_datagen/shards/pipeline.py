"""A pipeline that is run in shards: one of the classes that users hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

from llm_datagen.config import IfExists, OnChange, check_choice, check_count, checked
from llm_datagen.errors import ConfigError
from llm_datagen.operators import Call, operator_name
from llm_datagen.pipeline.base import BasePipeline
from llm_datagen.pipeline.diff_report import RunDiff
from llm_datagen.pipeline.run import Run
from llm_datagen.pipeline.settings import NodePipelineOptions
from llm_datagen.runs import RunFolder
from llm_datagen.runs.display.node_view import NodeView, view_of
from llm_datagen.runs.hooks import IPipelineHooks
from llm_datagen.runs.logs.writer import open_log
from llm_datagen.runs.sharded import no_diff
from llm_datagen.shards.allowance import Allowance, environment_with, share_of
from llm_datagen.shards.blueprint import WholeBlueprint
from llm_datagen.shards.executor import ShardExecutor
from llm_datagen.shards.gathered import Merge
from llm_datagen.shards.lifecycle import WholeLifecycle, prepared, standing_of
from llm_datagen.shards.local import LocalExecutor, cores
from llm_datagen.shards.shard_run import ShardPipeline, opened_shard, pack_operators
from llm_datagen.shards.spec import shards_folder
from llm_datagen.shards.whole_run import WholeRun

SHARDS_UNLESS_GIVEN = 16


class ShardedPipeline(BasePipeline):
    """A pipeline that is run in shards: ranges of its input, each done as a normal run, by several processes.

    The rows, and their ids, are those of one run. What needs all rows at once (state, `finish`, a target) cannot be run
    so, and is refused by name.

    Args:
        pipeline: a `UnifiedPipeline` or a `UnifiedNodePipeline` that reads one input. It is not run itself.
        shards: how many ranges there are, whatever the number of workers; 16 unless given. A run keeps its number.
        executor: who runs them: "local", processes of this machine; or a `ShardExecutor`.
        workers: how many shards run at once; None: as many as there are cores, or as the executor decides.
        merge: "shards" (unless given): the output stays in files, one a shard, ``out-00003-of-00016.jsonl``;
            "concat": they become one file. A run keeps what it was made with.

    Raises:
        ConfigError: on a wrong value.
    """

    _code: WholeBlueprint

    def __init__(
        self,
        pipeline: BasePipeline,
        *,
        shards: int | None = None,
        executor: str | ShardExecutor = "local",
        workers: int | None = None,
        merge: Merge | None = None,
    ) -> None:
        if not isinstance(pipeline, BasePipeline) or isinstance(pipeline, ShardedPipeline):
            raise ConfigError(f"pipeline must be a UnifiedPipeline or a UnifiedNodePipeline, not {pipeline!r}")
        if workers is not None:
            check_count("workers", workers)
        if merge is not None:
            check_choice("merge", merge, Merge)
        self._pipeline, self._workers, self._executor = pipeline, workers, checked_executor(executor)
        self._given: dict[str, Any] = {
            name: value for name, value in {"shards": shards, "merge": merge}.items() if value is not None
        }
        count = SHARDS_UNLESS_GIVEN if shards is None else check_count("shards", shards)
        code = WholeBlueprint(inner=pipeline.code(), shards=count, merge=merge or "shards")
        settings = {"results_dir": pipeline.results_dir, "hooks": pipeline.hooks, "log_file": pipeline.log_file}
        super().__init__(code, settings)

    def create(
        self,
        pipeline_id: str | None = None,
        *,
        if_exists: IfExists = "error",
        on_change: OnChange = "refuse",
        **overrides: Any,
    ) -> Self:
        """Write the run state of a new run.

        Args:
            pipeline_id: the run's id; made up unless given.
            if_exists: what to do when the id has a run already: "error", "resume", or "overwrite".
            on_change: with ``if_exists="resume"``, what becomes of rows of operators that were edited since.
            overrides: what the `create()` of the pipeline takes besides.

        Returns:
            The pipeline itself: call `run()` next.

        Raises:
            ConfigError: on a wrong value, or when the pipeline cannot be split; nothing was touched then.
            PipelineExistsError: when the id, or an output, is there already.
            PipelineBusyError: when the id is running, or this object is.
        """
        self._refuse_running()
        code, changed = self._overridden(overrides)
        given = self._given
        lifecycle = WholeLifecycle(code, changed["results_dir"], changed["log_file"], self._at_once, given)
        stored = lifecycle.create(pipeline_id, if_exists, on_change)
        self._use(code, changed)
        self._take(stored)
        return self

    def _overridden(self, overrides: Mapping[str, Any]) -> tuple[WholeBlueprint, dict[str, Any]]:
        """Return what is run with some settings in place of the pipeline's, and where its runs are kept, and so on."""
        inner = self._pipeline.code(**overrides)
        changed = {name: overrides.get(name, getattr(self, name)) for name in ("results_dir", "hooks", "log_file")}
        settings = {**checked(NodePipelineOptions, changed, "create()")}
        return replace(self._code, inner=inner), {name: settings[name] for name in changed}

    def _use(self, code: WholeBlueprint, changed: Mapping[str, Any]) -> None:
        self.results_dir, self.hooks, self.log_file = (changed[name] for name in ("results_dir", "hooks", "log_file"))
        self._code = code

    @contextlib.contextmanager
    def shard(
        self, number: int, pipeline_id: str, *, on_change: OnChange = "refuse", **overrides: Any
    ) -> Iterator[ShardPipeline]:
        """Yield the pipeline of one shard, to be run in this process: where something else starts one for each.

        Who comes first makes the run, and its plan, which reads the input once; the others wait for that. When all
        shards are completed, `gather` makes the outputs. The shard has its part of all limits and budgets, unless the
        environment says otherwise (``LLM_DATAGEN_GRANTS``, ``LLM_DATAGEN_SHARE``).

        Args:
            number: the number of the shard, from 0.
            pipeline_id: the id of the run: the same one for all shards.
            on_change: what becomes of rows of operators that were edited since, as in `resume()`.
            overrides: what the `create()` of the pipeline takes besides.

        Raises:
            ConfigError: when there is no such shard, or the pipeline cannot be split.
            PipelineBusyError: when another process runs this shard.
            DatagenError: as `create()` and `resume()`.
        """
        if not 0 <= number < self._code.shards:
            raise ConfigError(f"there is no shard {number} of {self._code.shards}: they are numbered from 0")
        folder = self.prepare(pipeline_id, on_change=on_change, **overrides)
        operators = self._code.operators(folder.load())
        share = share_of(number, self._code.shards)
        with environment_with(share), opened_shard(shards_folder(folder), number, operators) as pipeline:
            pipeline.hooks = self.hooks
            yield pipeline

    def diff(self, pipeline_id: str, *, replay: bool = False) -> RunDiff:
        """Refuse: what a resume would do again is compared shard by shard, when it does.

        Raises:
            ConfigError: always.
        """
        raise no_diff(pipeline_id)

    def prepare(self, pipeline_id: str, *, on_change: OnChange = "refuse", **overrides: Any) -> RunFolder:
        """Make a run and its plan, unless they are there; no shard is begun.

        Args:
            pipeline_id: the id of the run.
            on_change: what becomes of rows of operators that were edited since, as in `resume()`.
            overrides: what the `create()` of the pipeline takes besides.

        Returns:
            Its folder.

        Raises:
            DatagenError: as `create()` and `resume()`.
        """
        self._refuse_running()
        self._use(*self._overridden(overrides))
        at_once = self._workers or self._code.shards
        code, given = self._code, self._given
        return WholeLifecycle(code, self.results_dir, self.log_file, at_once, given).shared(pipeline_id, on_change)

    def node_views(self) -> list[NodeView]:
        """Return the nodes as a display shows them before a run: with what all shards have done."""
        known = zip(self.nodes, self.progress, strict=True)
        return [view_of({**report.as_dict(), "operator": operator_name(node.operator)}) for node, report in known]

    @property
    def _at_once(self) -> int:
        return min(self._code.shards, self._workers or self._executor_workers() or self._code.shards)

    def _executor_workers(self) -> int | None:
        if isinstance(self._executor, str):
            return cores() if self._executor == "local" else None
        return self._executor.workers

    def _lifecycle(self) -> Any:
        self._refuse_running()
        return WholeLifecycle(self._code, self.results_dir, self.log_file, self._at_once, self._given)

    def _create(self, blueprint: Any, overrides: Mapping[str, Any], pipeline_id: Any, *options: Any) -> None:
        self._take(self._lifecycle().create(pipeline_id, *options))

    def _prepare(self, hooks: IPipelineHooks | None = None) -> Run:
        """Open everything; see `BasePipeline._prepare`."""
        stored = self._ready()
        self._refuse_again()
        folder = stored.folder
        folder.lock.acquire()
        try:
            stored = self._catch_up(stored)
            spec = prepared(folder, stored.state, self.log_file, self._at_once)
            operators = self._code.operators(stored.state)
            executor = self._new_executor()
            self._run = WholeRun(
                standing_of(folder, spec),
                spec=spec,
                packed=pack_operators(operators),
                executor=executor,
                batched={
                    entry["node_id"]
                    for entry, operator in zip(stored.state["nodes"], operators, strict=True)
                    if Call(operator).batch
                },
                folder=folder,
                run_state=stored.state,
                hooks=hooks or self.hooks,
                log=open_log(self.log_file),
                notes=stored.notes,
                allowance=Allowance(operators, folder, executor.host),
            )
        except BaseException:
            folder.lock.release()
            raise
        self._is_default = False
        return self._run

    def _new_executor(self) -> ShardExecutor:
        if not isinstance(self._executor, str):
            return self._executor
        return LocalExecutor(self._at_once)


def checked_executor(executor: str | ShardExecutor) -> str | ShardExecutor:
    """Return who runs shards.

    Raises:
        ConfigError: when it is nobody.
    """
    is_one = executor == "local" if isinstance(executor, str) else callable(getattr(executor, "start", None))
    if not is_one:
        raise ConfigError(f"executor must be 'local' or a ShardExecutor, not {executor!r}")
    return executor
