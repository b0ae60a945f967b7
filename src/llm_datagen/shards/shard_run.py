"""A shard is run to its end: created or gone on with, in this process, as a normal run."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import pykka

from llm_datagen.actors.pipeline import PipelineActor
from llm_datagen.actors.stage import Recipient
from llm_datagen.errors import ConfigError, DatagenError, FailureRecord, NodeFailedError, RunStateError
from llm_datagen.executors.process.pickling import pack, pack_error
from llm_datagen.operators.fingerprint import fingerprint_of
from llm_datagen.operators.references import ref_of
from llm_datagen.pipeline.base import BasePipeline
from llm_datagen.pipeline.blueprint import nodes_of
from llm_datagen.pipeline.path_checks import check_layout
from llm_datagen.pipeline.run_files import side_files
from llm_datagen.pipeline.stored import StoredRun
from llm_datagen.runs import RunFolder
from llm_datagen.runs.status import Status
from llm_datagen.shards.allowance import environment_with
from llm_datagen.shards.blueprint import ShardBlueprint
from llm_datagen.shards.claim import take
from llm_datagen.shards.executor import ShardJob, ShardOutcome
from llm_datagen.shards.given_away import end_with
from llm_datagen.shards.plan import ShardPlan, ShardRange
from llm_datagen.shards.plan_file import PlanFile
from llm_datagen.shards.spec import REPLAYS, ShardSpec
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.storage.looked_at import each_looked_at_once

LOG = "platform.log"


def pack_operators(operators: Sequence[Any]) -> bytes:
    """Return operators as bytes, with the protocols of the program's own: what a script defines is in them, as code.

    Raises:
        ConfigError: naming the first one that cannot be pickled.
    """
    for operator in operators:
        pack(operator)
    registered = StreamFactory.registered()
    try:
        return pack(*operators, registered)
    except ConfigError as error:  # each operator by itself can be
        cause = error.__cause__
        raise ConfigError(
            f"the protocols and formats of the program ({', '.join(registered)}) cannot be sent to worker processes: "
            f"{type(cause).__name__}: {cause}; keep what cannot be pickled out of their classes"
        ) from cause


Begun = Callable[["pykka.ActorRef[PipelineActor]"], object]
"""Is given the actor of the run of a shard, once it runs: to look at it, and to control it."""


def run_job(job: ShardJob, begun: Begun, watcher: Recipient | None = None) -> ShardOutcome:
    """Run a shard to its end, in this process, whatever that is. Blocks.

    Args:
        job: the shard.
        begun: is given the actor of its run.
        watcher: hears of every status and event of its run, from the first one on, if anybody does.

    Returns:
        How it has ended. What it failed of is in it, and is not raised.
    """
    shards = _folder_of(job)
    try:
        with environment_with(job.environment):
            *operators, registered = pickle.loads(job.packed)
            StreamFactory.register_again(registered)
            return run_shard(shards, job.number, operators, begun, watcher)
    except DatagenError as error:
        return ShardOutcome(str(Status.FAILED), str(error))
    except Exception as error:  # noqa: BLE001 - of the user's modules: the driver says so
        return ShardOutcome(str(Status.FAILED), str(FailureRecord.of(error)))


def run_shard(
    shards: RunFolder, number: int, operators: Sequence[Any], begun: Begun, watcher: Recipient | None = None
) -> ShardOutcome:
    """Run a shard to its end; see `run_job`. Of somebody else who gives no sign of life, it is taken over.

    Args:
        shards: the folder of the shards.
        number: the number of the shard.
        operators: those of its nodes.
        begun: is given the actor of its run.
        watcher: hears of every status and event of its run, if anybody does.

    Raises:
        DatagenError: when it cannot be run: it is run elsewhere, its input was changed, operators were edited.
    """
    with opened_shard(shards, number, operators) as pipeline:
        begun(pipeline.start_watched(watcher))
        try:
            report = pipeline.wait()
        except NodeFailedError as error:
            cause = error.__cause__ or error
            return ShardOutcome(
                str(Status.FAILED),
                str(error),
                node_id=error.node_id,
                failure=FailureRecord.of(cause),
                packed=pack_error(cause),
            )
        return ShardOutcome(str(report.status), report.reason)


@contextlib.contextmanager
def opened_shard(shards: RunFolder, number: int, operators: Sequence[Any]) -> Iterator[ShardPipeline]:
    """Yield the pipeline of a shard, created or ready to go on; nobody else may run it within the block.

    Args:
        shards: the folder of the shards.
        number: the number of the shard.
        operators: those of its nodes.

    Raises:
        DatagenError: when it cannot be run: it is run elsewhere, its input was changed, operators were edited.
    """
    spec = ShardSpec.load(shards)
    if spec is None:
        raise RunStateError(f"{shards.location} does not say what shards do: there is no run in shards there")
    spec.refuse_moved(shards)
    plan = PlanFile(shards.location).load()
    planned = plan.range_of(number)
    with take(shards.location, number) as claim:
        folder = RunFolder(shards.location, claim.run_id)
        pipeline = ShardPipeline(spec, folder, plan, planned, operators)
        pipeline.open()
        yield pipeline


class ShardPipeline(BasePipeline):
    """The pipeline of a shard.

    Args:
        spec: what the shards of its run do.
        folder: where it lies.
        plan: which shards there are.
        of: the rows of this one.
        operators: those of the code.
    """

    def __init__(
        self, spec: ShardSpec, folder: RunFolder, plan: ShardPlan, of: ShardRange, operators: Sequence[Any]
    ) -> None:
        self._spec, self._folder, self._range = spec, folder, of
        planned = spec.of_shard(folder, plan.part_uri(of), plan.fingerprint_of(of))
        self._blueprint = ShardBlueprint(planned=planned, code=operators)
        log_file = str(folder.path / LOG) if spec.has_log else None
        super().__init__(self._blueprint, {"results_dir": folder.results_dir, "hooks": None, "log_file": log_file})

    def open(self) -> None:
        """Create the run, or make it ready to go on where it stopped.

        Raises:
            DatagenError: when it cannot.
        """
        folder, spec = self._folder, self._spec
        if not folder.exists():
            self._begin()
            return
        self._take_over()
        if folder.load().get(REPLAYS, 0) < spec.replays:
            self.replay(folder.pipeline_id, on_change=spec.on_change)
            self._note_replay()
        else:
            self.resume(folder.pipeline_id, on_change=spec.on_change, verify=spec.verify)

    def start_watched(self, watcher: Recipient | None) -> pykka.ActorRef[PipelineActor]:
        """Run as `start()` does; `watcher` hears of every status and event. Who runs the whole warns of outages."""
        return self._prepare().start(watcher, warns=False)

    @each_looked_at_once()
    def _begin(self) -> None:
        """Write the run state of a shard that has not begun.

        As `create()` does, but for what the whole has checked already: which operators there may be, and that no other
        run writes where this one does. Nobody writes in the folder of a shard.
        """
        folder = self._folder
        run_state = deepcopy(self._blueprint.run_state(folder.pipeline_id))
        run_state[REPLAYS] = self._spec.replays
        nodes = nodes_of(self._blueprint, run_state)
        for entry, node in zip(run_state["nodes"], nodes, strict=True):
            entry.update(operator_ref=ref_of(node.operator), fingerprint=fingerprint_of(node.operator))
        node_files = [node.node_files for node in nodes]
        check_layout(node_files, self.log_file, folder)
        run_state["files"] = side_files(node_files, self.log_file)
        with self._locked():
            folder.save(run_state)
        self._take(StoredRun(folder=folder, state=run_state, nodes=nodes))

    def _take_over(self) -> None:
        """Have the shard go on with the limits that the whole has now, and end where its range does."""
        with self._locked():
            run_state = self._folder.load()
            before = deepcopy(run_state)
            self._spec.take_over(run_state)
            end_with(run_state, self._range)
            if run_state != before:
                self._folder.save(run_state)

    def _note_replay(self) -> None:
        with self._locked():
            run_state = self._folder.load()
            run_state[REPLAYS] = self._spec.replays
            self._folder.save(run_state)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.lock.acquire()
        try:
            yield
        finally:
            self._folder.lock.release()


def _folder_of(job: ShardJob) -> RunFolder:
    results_dir, _, name = job.folder.rpartition("/")
    return RunFolder(results_dir, name)
