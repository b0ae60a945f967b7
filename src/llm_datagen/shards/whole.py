"""A run in shards, seen as one run: its run state is added up from those of its shards, which are the truth.

It only reads. Where a shard was taken over, its latest run counts; see `claim`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from llm_datagen.errors import RunError, RunStateError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.seen import SeenRun, see
from llm_datagen.runs.sharded import SHARDS, is_sharded
from llm_datagen.runs.status import ENDED, INTERRUPTED, LIVE, Status
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.runs.usage import UsageSums, cost_of
from llm_datagen.shards.claim import is_settled, latest
from llm_datagen.shards.gathered import Gathered, ShardState
from llm_datagen.shards.given_away import followed
from llm_datagen.shards.plan import ShardPlan, ShardRange
from llm_datagen.shards.plan_file import PLAN_FILE, RESTORE, PlanFile
from llm_datagen.shards.progress import added_up, seconds_of
from llm_datagen.shards.shard_seen import Shard
from llm_datagen.shards.spec import ShardSpec, shards_folder
from llm_datagen.streams import MergedStream, StreamFactory
from llm_datagen.streams.fingerprint import is_kind

_AT_ONCE = 16
"""Shards on a store that are looked at at once."""

_WHY = {str(Status.FAILED): "error", str(Status.STOPPED): "reason", str(Status.CANCELED): "reason"}
"""What a run state says of why it has ended."""

_WORST_FIRST = (Status.FAILED, INTERRUPTED, Status.STOPPED, Status.CANCELED)


@dataclass(frozen=True, slots=True)
class Whole:
    """A run in shards, at one moment.

    Attributes:
        folder: that of the run.
        driver: the run that its driver, or a gather, has saved: it says whether one runs the whole now.
        plan: which rows each shard does; None before it was made.
        shards: the shards, in the order of the input; none without a plan.
    """

    folder: RunFolder
    driver: SeenRun = field(repr=False)
    plan: ShardPlan | None = field(repr=False)
    shards: tuple[Shard, ...] = field(repr=False)

    @classmethod
    def of(cls, folder: RunFolder, driver: SeenRun) -> Whole:
        """Return a run in shards as it is now.

        Args:
            folder: that of the run.
            driver: its run, as `runs.seen` sees it.

        Raises:
            RunStateError: when the plan, the spec, or the run state of a shard cannot be read.
            DiskError: when a store refuses, or cannot be reached.
        """
        location = shards_folder(folder).location
        plan, spec = PlanFile(location).find(), ShardSpec.load(shards_folder(folder))

        def look(each: ShardRange) -> Shard:
            run = latest(location, each.number)
            if run is None:
                return Shard(each)
            seen = see(RunFolder(location, run))
            return Shard(each, run, seen, is_due=spec is not None and not spec.is_done(seen.state))

        if plan is None:
            if spec is not None:
                raise RunStateError(f"{location}/{PLAN_FILE} is gone, which says which rows each shard does; {RESTORE}")
            return cls(folder, driver, plan, ())
        if folder.is_on_store:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                shards = tuple(pool.map(look, plan.ranges))
        else:
            shards = tuple(map(look, plan.ranges))
        for shard in shards:
            if shard.state:
                plan = followed(plan, shard.number, shard.state)
        known = {shard.number: shard for shard in shards}
        shards = tuple(
            replace(known[each.number], range=each) if each.number in known else look(each) for each in plan.ranges
        )
        return cls(folder, driver, plan, shards)

    @classmethod
    def find(cls, folder: RunFolder) -> Whole | None:
        """Return a run in shards as it is now; None when the run of a folder is not in shards.

        Raises:
            PipelineNotFoundError: when there is no run.
            RunStateError, DiskError: as `of`.
        """
        driver = see(folder)
        return cls.of(folder, driver) if is_sharded(driver.state) else None

    @property
    def saved(self) -> dict[str, Any]:
        """The run state that its driver, or a gather, has saved."""
        return self.driver.state

    @property
    def folders(self) -> list[RunFolder]:
        """The folders of the runs of the shards that have begun."""
        location = shards_folder(self.folder).location
        return [RunFolder(location, shard.run) for shard in self.shards if shard.run is not None]

    @property
    def count(self) -> int:
        """How many shards it was made with."""
        return int(self.saved[SHARDS]["count"])

    @property
    def is_done(self) -> bool:
        """Whether all shards are completed."""
        return bool(self.shards) and all(shard.status == Status.COMPLETED for shard in self.shards)

    def numbers(self, *statuses: str) -> list[int]:
        """Return the numbers of the shards that have one of some statuses."""
        return [shard.number for shard in self.shards if shard.status in statuses]

    def see(self) -> SeenRun:
        """Return the whole as one run: with the counts of all shards, and its true status."""
        driver, readers = self.driver, readers_of_input(self.saved["nodes"])
        state = {**self.saved, "nodes": [self._node(entry, readers) for entry in self.saved["nodes"]], **self._ends()}
        state[SHARDS] = {**self.saved[SHARDS], "each": [shard.brief() for shard in self.shards]}
        usage = UsageSums()
        for node in state["nodes"]:
            usage.add_all(node.get("usage") or [])
        state.update(usage=usage.as_list(), cost=cost_of(usage.as_list()))
        if driver.is_live or not self.shards:
            return SeenRun({**state, "status": self.saved["status"]}, driver.status, driver.is_live, driver.note)
        status, note = self._status(driver)
        saved = status if status != INTERRUPTED else Status.RUNNING
        if not self.numbers(*LIVE, INTERRUPTED):
            for node in state["nodes"]:  # some shards have done theirs, and nobody does the others now
                node["status"] = str(Status.PENDING) if node["status"] in LIVE else node["status"]
        return SeenRun({**state, "status": str(saved)}, status, bool(self.numbers(*LIVE)), note)

    def refuse_unfinished(self) -> None:
        """Check that all shards are completed, and stay so.

        Raises:
            RunError: when some are not; says which, and what to do.
        """
        if self.is_done:
            location = shards_folder(self.folder).location
            held = [str(shard.number) for shard in self.shards if not is_settled(location, shard.number)]
            if not held:
                return
            raise RunError(
                f"run {self.folder.pipeline_id!r} cannot be gathered yet: a process has shard {', '.join(held)} still, "
                "or was taking it over when it died; wait for it, or run that shard again: it is taken over"
            )
        what = self._left() or "its shards are not planned"
        raise RunError(f"run {self.folder.pipeline_id!r} cannot be gathered yet: {what}; {self._go_on()}")

    def gathered(self, run_state: dict[str, Any]) -> Gathered:
        """Return the outputs and exports of the whole.

        Args:
            run_state: that of the whole, in which exports are noted.
        """
        shards = [ShardState(shard.number, shard.run or "", shard.state) for shard in self.shards]
        return Gathered(run_state, shards, self.saved[SHARDS]["merge"])

    def summary(self) -> str:
        """Return how the shards stand, in a line: ``16 shards: 12 completed, running: 3, 5``."""
        done = self.numbers(Status.COMPLETED)
        count = len(self.shards)
        parts = [f"{len(done)} completed" if len(done) < count or not count else "all completed", self._left()]
        return f"{count} {'shard' if count == 1 else 'shards'}: {', '.join(filter(None, parts))}"

    def _left(self) -> str:
        """Return which shards are not completed, by their statuses."""
        statuses = dict.fromkeys(shard.status for shard in self.shards if shard.status != Status.COMPLETED)
        return ", ".join(f"{status}: {spans(self.numbers(status))}" for status in statuses)

    def _go_on(self) -> str:
        """Return what to do next."""
        go_on = command_line("resume", self.folder.pipeline_id, self.folder.results_dir)
        live = "wait for those that run; " if self.numbers(*LIVE) else ""
        return f"{live}go on with {go_on}, or run each that is left by run … --shard K/{self.count}"

    def _node(self, entry: dict[str, Any], readers: set[str]) -> dict[str, Any]:
        node_id = entry["node_id"]
        of_node = [each for shard in self.shards for each in shard.state.get("nodes", ()) if each["node_id"] == node_id]
        if not self.shards:
            return entry
        rows = self.plan.rows if self.plan is not None and node_id in readers else None
        not_begun = len(self.shards) - len(of_node)
        seconds = seconds_of(shard.state for shard in self.shards if shard.state)
        files = self._files_read(entry) if node_id in readers else {}
        counts = added_up(node_id, of_node, not_begun=not_begun, rows=rows, seconds=seconds).as_dict()
        return {**entry, **files, **counts}

    def _files_read(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is noted of the input of a node where it is many files: those of the plan, in its order."""
        if self.plan is None or not is_kind(self.plan.fingerprint, "files"):
            return {}
        is_merged = isinstance(StreamFactory.source(entry["input_uri"]), MergedStream)
        known = self.plan.fingerprint
        return {"input_fingerprint": {self.plan.input_uri: known} if is_merged else known}

    def _ends(self) -> dict[str, Any]:
        """Return what the shards say of the time, and of what has ended one."""
        states = [shard.state for shard in self.shards if shard.state]
        found: dict[str, Any] = {}
        for name, choose in (("started_at", min), ("updated_at", max)):
            times = [state[name] for state in (*states, self.saved) if state.get(name)]
            if times:
                found[name] = choose(times)
        for shard in self.shards:
            if shard.status == Status.FAILED and shard.state.get("error"):
                error = f"shard {shard.number}: {shard.state['error']}"
                return {**found, "error": error, "failed_row": shard.state.get("failed_row")}
        return found

    def _status(self, driver: SeenRun) -> tuple[str, str]:
        """Return the status of the whole while no driver runs it, and a note."""
        if self.is_done:
            if driver.status == Status.COMPLETED:
                return Status.COMPLETED, driver.note
            gather = command_line("gather", self.folder.pipeline_id, self.folder.results_dir)
            why = f"{driver.state['error']}; " if driver.status == Status.FAILED and driver.state.get("error") else ""
            status = driver.status if driver.status in ENDED else Status.PENDING
            return status, f"{why}all shards are completed; gather them: {gather}"
        if live := self.numbers(*LIVE):
            return Status.RUNNING, f"shards that run: {spans(live)}"
        for status in _WORST_FIRST:
            if self.numbers(status):
                return str(status), self._next(status)
        if driver.status == Status.PENDING and not self.numbers(Status.COMPLETED):
            return Status.PENDING, ""
        status = Status.PENDING if driver.status == Status.COMPLETED else driver.status
        return status, self._next(status)

    def _next(self, status: str) -> str:
        """Return why the whole has ended so, or else which shards are left; and what to do."""
        states = (self._ends(), self.saved, *(shard.state for shard in self.shards))
        why = next(filter(None, (state.get(_WHY.get(status, "")) for state in states)), None)
        return f"{why or self._left()}; {self._go_on()}"


def readers_of_input(entries: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the ids of the nodes of a run state that read its input."""
    entries = list(entries)
    written = {StreamFactory.create(entry["output_uri"]).place for entry in entries}
    return {
        entry["node_id"] for entry in entries if not written.issuperset(StreamFactory.source(entry["input_uri"]).places)
    }


def spans(numbers: Iterable[int]) -> str:
    """Return numbers in order, as people write them: ``3, 5, 8-15``."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in found)
