"""What both classes of pipelines share before and after a run: created, resumed, looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from llm_datagen.config import IfExists, OnChange, OnError, Target, Verify, checked
from llm_datagen.errors import PipelineBusyError
from llm_datagen.pipeline.blueprint import Blueprint
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.node_entries import UNKNOWN_ID
from llm_datagen.pipeline.run import Run
from llm_datagen.pipeline.settings import NodePipelineOptions
from llm_datagen.pipeline.stored import RunLifecycle, StoredRun
from llm_datagen.runs.diagram import DiagramFormat, draw
from llm_datagen.runs.hooks import IPipelineHooks
from llm_datagen.runs.logs.writer import LogTarget
from llm_datagen.runs.status import NodeReport, Status, report_of_entry

if TYPE_CHECKING:
    from llm_datagen.pipeline.diff_report import RunDiff


class StoredPipeline:
    """A pipeline whose runs are stored in a folder.

    Args:
        blueprint: what the code says of it.
        settings: `results_dir`, `hooks` and `log_file`.
    """

    def __init__(self, blueprint: Blueprint, settings: Mapping[str, Any]) -> None:
        self.results_dir: str = settings["results_dir"]
        self.hooks: IPipelineHooks | None = settings["hooks"]
        self.log_file: LogTarget = settings["log_file"]
        self.streaming = blueprint.streaming  # of a run, as its run state says
        self._code = blueprint
        self._stored: StoredRun | None = None
        self._is_default = False  # whether the run was created by run() or start() itself
        self._run: Run | None = None

    @property
    def pipeline_id(self) -> str:
        """The id; empty before `create()` or `resume()`."""
        return self._stored.folder.pipeline_id if self._stored else ""

    @property
    def nodes(self) -> list[UnifiedNode]:
        """The nodes; none before `create()` or `resume()`."""
        return self._stored.nodes if self._stored else []

    def code(self, **overrides: Any) -> Blueprint:
        """Return what the code says of the pipeline, as `create()` would with these overrides."""
        assert not overrides
        return self._code

    def _lifecycle(self) -> RunLifecycle:
        self._refuse_running()
        return RunLifecycle(self._code, self.results_dir, self.log_file)

    def _refuse_running(self) -> None:
        if self._run is not None and not self._run.is_over():
            raise PipelineBusyError(
                f"this object is still running {self.pipeline_id!r}; wait() for it, or cancel() it and wait(), or use "
                "another object"
            )

    def _take(self, stored: StoredRun) -> None:
        """Be the pipeline of a run that is ready."""
        self._stored, self._run, self._is_default = stored, None, False
        self.streaming = bool(stored.state["config"]["streaming"])

    def _create(
        self,
        blueprint: Blueprint,
        overrides: Mapping[str, Any],
        pipeline_id: str | None,
        if_exists: IfExists,
        on_change: OnChange,
    ) -> None:
        """Create a run; only then is the pipeline what `create()` was told."""
        changed = {name: overrides.get(name, getattr(self, name)) for name in ("results_dir", "hooks", "log_file")}
        settings: dict[str, Any] = {**checked(NodePipelineOptions, changed, "create()")}
        self._refuse_running()
        lifecycle = RunLifecycle(blueprint, settings["results_dir"], settings["log_file"])
        stored = lifecycle.create(pipeline_id, if_exists, on_change)
        self.results_dir, self.hooks, self.log_file = (settings[name] for name in changed)
        self._code = blueprint
        self._take(stored)

    # Going on.

    def resume(
        self,
        pipeline_id: str,
        *,
        on_error: OnError | None = None,
        max_errors: int | float | None = None,
        verify: Verify = "tail",
        on_change: OnChange = "refuse",
        parallel_size: int | None = None,
        rate: float | None = None,
        target: int | Target | Mapping[str, int | Target] | None = None,
    ) -> Self:
        """Load the run state and make it ready to go on where it stopped, whatever stopped it (M6).

        Paths, settings and ids come from the run state; only the operators come from the code. When the code gives
        other paths, or other settings, those of the run state are used, and a `ResumeWarning`, the hooks' `on_log` and
        the platform log say so. Nothing is said of a setting that the code does not give. Only how many rows a computed
        input has (`n` of `Generate`, `n` and `times` of `Cycle`) is what the code says, if that is not less than was
        read: rows were added to the input.

        Args:
            pipeline_id: the run's id, in `results_dir`; ``id@2`` is the same run, if that is its latest version.
            on_error: what becomes of rows that fail from now on, in all nodes; None leaves it as it is. A run that a
                bad row has ended goes on with "dead_letter".
            max_errors: how many rows may fail, in each node, with those that have; None, together with `on_error`: any
                number. Alone, it changes the nodes that go on after a row that failed.
            verify: "tail" compares what the last flush of each stream added with its checksum (and the whole of streams
                up to 64 MiB); "full" compares every byte that the run has written.
            on_change: what becomes of rows of operators that were edited since (their code, their prompt, their
                settings; see `BaseOperator.fingerprint`), and when steps were added, removed or moved: "refuse";
                "accept", what is done stays and the rest is done by the operators as they are now; "rerun", the nodes
                that differ, keep rows of an edit that was accepted before, or can take no more rows though some would
                come (they have given what they had left at their end, as GroupBy does), and all behind them are done
                again, with a `Feedback` that draws from their rows: what is before them stays, and what was there is
                kept as the run ``id@1`` (then ``id@2``, …); "replace", as "rerun", and it is deleted.
            parallel_size: batches in the operator of each node at once, from now on; None leaves it as it is.
            rate: rows that each node may hand to its operator in a second, from now on; 0 takes the limit off.
            target: the target from now on, of the node that has one (if none has, of the one that writes the output);
                or targets by the ids of nodes. A run that has met a lower one goes on. None leaves it as it is.

        Returns:
            The pipeline itself: call `run()` next.

        Raises:
            ConfigError: on a wrong value; on a target that cannot be met any more: there are more rows already, or an
                operator has given what it had left at the end of its source (finish); on `max_errors` alone, when any
                row that fails ends the run, in all nodes; on all but "refuse", when the code gives no operators: those
                of the run state know of no edit; when it is an earlier version, which never goes on.
            PipelineExistsError: on "rerun", when something lies where the version would be kept.
            PipelineNotFoundError: when there is no such run.
            RunStateError: when its run state cannot be read.
            OperatorChangedError: when operators, or the steps, are not those of the run state, and `on_change` does
                not say what is meant; it names what changed. An OperatorMismatchError.
            PipelineBusyError: when it is running, or this object is.
            StreamError: when its files were changed meanwhile, or rows would come to a node that can take no more;
                nothing is changed then.

        Warns:
            OperatorWarning: when the run state does not say whether operators were edited.
        """
        settings: dict[str, Any] = {"on_error": on_error, "max_errors": max_errors, "verify": verify}
        limits: dict[str, Any] = {"parallel_size": parallel_size, "rate": rate, "target": target}
        self._take(self._lifecycle().resume(pipeline_id, on_change=on_change, **settings, **limits))
        return self

    def replay(self, pipeline_id: str, *, on_change: OnChange = "refuse") -> Self:
        """Like `resume`, and every dead-lettered row is done again, by the same nodes, with the same id.

        Args:
            pipeline_id: the run's id, in `results_dir`.
            on_change: what becomes of rows of operators that were edited since; see `resume`.

        Returns:
            The pipeline itself: call `run()` next. Rows that fail again are dead-lettered again.

        Raises:
            StreamCorruptError: when dead letters cannot be read; nothing is changed then.
            DatagenError: as `resume`.
        """
        self._take(self._lifecycle().replay(pipeline_id, on_change=on_change))
        return self

    def diff(self, pipeline_id: str, *, replay: bool = False) -> RunDiff:
        """Compare a run with the code, before anything is spent: what `resume` would keep and do again.

        It changes nothing, and calls no operator. The input is read, to count the rows that are not done.

        Args:
            pipeline_id: the run's id, in `results_dir`.
            replay: whether the dead-lettered rows are to be done again; see `replay`.

        Returns:
            Each node with what becomes of it, why, its rows, and what its calls will use: by what the calls for the
            rows that it has done have used.

        Raises:
            PipelineNotFoundError: when there is no such run.
            PipelineBusyError: when it is running.
            RunStateError: when its run state cannot be read, or a rerun of it was cut short.
            ConfigError: when the code gives no operators; when it is an earlier version.
            DatagenError: when `resume` with ``on_change="rerun"`` would refuse to go on.
        """
        from llm_datagen.pipeline.diff import diff_run

        return diff_run(self._code, self.results_dir, self.log_file, pipeline_id, is_replay=replay)

    # Watching.

    @property
    def _state(self) -> dict[str, Any]:
        return self._stored.state if self._stored else {}

    @property
    def status(self) -> Status:
        """The status (M8)."""
        return Status(self._state.get("status", Status.PENDING))

    @property
    def progress(self) -> list[NodeReport]:
        """Each node's progress, as last saved to the run state."""
        return [report_of_entry(entry) for entry in self._state.get("nodes", [])]

    def describe(self, format: DiagramFormat = "text") -> str:
        """Return a drawing of the topology: each stream once, and the nodes between them. Opens and changes nothing.

        Args:
            format: "text", or "mermaid": a flowchart in the language of Mermaid.

        Raises:
            ConfigError: when `format` is another one.
        """
        return draw(self._state or self._code.run_state(UNKNOWN_ID), format)

    def operators_of(self, run_state: dict[str, Any]) -> list[Any]:
        """Return the operators of the nodes of a run that was made before. Opens and changes nothing.

        Args:
            run_state: of the run.

        Raises:
            OperatorMismatchError: when the code has others.
            ConfigError: when it has none, and the run state cannot say how to make them.
        """
        return self._code.operators(run_state)

    def blueprint(self) -> tuple[dict[str, Any], list[Any]]:
        """Return the nodes as a run state has them, and their operators. Opens and changes nothing.

        Raises:
            OperatorMismatchError: when the operators are not those of the run that was created or resumed.
        """
        run_state = self._state or self._code.run_state(UNKNOWN_ID)
        return run_state, self._code.operators(run_state)
