"""Random runs in shards whose drivers, workers, tasks, grants services and gathers are killed, stopped, and resumed.

Each case is compared with a run of the same pipeline in peace, in one process; calls, with the account of the endpoint.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from llm_datagen import LeaseLostError, NodeFailedError, PipelineBusyError
from llm_datagen.cli import main
from llm_datagen.llm.grants.service import service_for
from llm_datagen.runs import RunFolder, file_names
from llm_datagen.shards import claim, shard_run
from llm_datagen.shards.allowance import GRANTS, SHARE
from llm_datagen.shards.gather import gather
from llm_datagen.testing import Fault, Latency, LLMFaults, inject

from ..kit.support import worker_processes
from .forks import REFUSED_CODE, Child, PlannedFailure, fork
from .shard_cases import CANARY, ID, VARIABLE, ShardCase, shorten_minutes
from .shard_judge import ShardJudge
from .tally import Tally
from .till import TillProcess

LEASE_SECONDS = 0.5
"""Without a sign of life for so long, a task is taken over."""

ACTIONS = 8
"""Kills and stops of the tasks of a case, at most."""

HANG_SECONDS = 90.0
"""A run takes some seconds, on a machine that does other things."""

ROUNDS = 30
"""Resumes until a case must be done."""


class ShardTorture:
    """Tortures one case.

    Args:
        seed: of the case, and of what happens to it.
        folder: where.
        tally: where the results go.
    """

    def __init__(self, seed: int, folder: Path, tally: Tally) -> None:
        self.case = ShardCase.of(seed)
        self.folder, self.tally = folder, tally
        self.dice = random.Random(f"shard blows {seed}")
        self.budget = self.case.ask.budget if self.case.ask else None
        self.till: TillProcess | None = None
        self.deaths = 0
        self.is_uncounted = False
        self.how: list[str] = []
        self._said = iter(range(1_000_000))

    def run(self) -> None:
        """Do it."""
        self.folder.mkdir()
        self.case.write(self.folder)
        try:
            if self.case.ask is not None:
                self.till = TillProcess.start(
                    0,
                    latency=Latency(seconds=0.02),
                    faults=LLMFaults(server_error=self.dice.choice([0.0, 0.03]), reset=self.dice.choice([0.0, 0.03])),
                    seed=self.case.seed,
                    api_key=CANARY,
                )
            found = list(self._torment())
        finally:
            if self.till is not None:
                self.till.stop()
        self.tally.runs += 1
        if found:
            story = "\n    ".join(["", *self.how])
            self.tally.findings.append(f"{self.case}\n in {self.folder}:\n  " + "\n  ".join(found[:20]) + story)
            print(self.tally.findings[-1], file=sys.stderr, flush=True)
        else:
            shutil.rmtree(self.folder)

    def _torment(self) -> Iterator[str]:
        death = fork(self._in_peace, self._scratch("peace"), hangs_after=HANG_SECONDS)
        if death.how != "done":
            yield f"in peace, it was {death.how}: {death.text}"
            return
        found = list(self._in_tasks()) if self.case.way.startswith("tasks") else []
        if not found and self.case.way != "tasks":
            found = list(self._by_drivers())
        if found:
            yield from found
            return
        yield from self._judged(partial(ShardJudge.findings, ShardJudge(self.case, self.folder)))
        if self.till is not None:
            again = None
            if self.case.ask is not None and self.case.ask.has_cache and not self.is_uncounted:
                again = self.deaths * self.case.vertices[0].settings["parallel_size"]
            yield from ShardJudge(self.case, self.folder).account(self.till.sold(), again)

    # By drivers, with worker processes.

    def _by_drivers(self) -> Iterator[str]:
        blows = self.dice.randint(2, 5)
        for number in range(ROUNDS):
            child = Child(self._command if self.case.way == "command" else self._drive, self._scratch("driver"))
            if number < blows:
                self._strike(child)
            death = child.end(HANG_SECONDS)
            yield from self._capped()
            if death.how == "killed":
                if self.dice.random() < 0.5:
                    yield from self._judged(partial(ShardJudge.verified, ShardJudge(self.case, self.folder)))
            elif death.how == "failed":
                self._raise_budget()
            else:
                if death.how != "done":
                    yield f"the driver was {death.how}: {death.text}"
                return
        yield f"it was not done after {ROUNDS} drivers"

    def _strike(self, driver: Child) -> None:
        """Kill workers of a driver, then itself: at any moment, or when it makes the outputs."""
        for _ in range(self.dice.choice([0, 0, 1, 2])):
            if driver.is_over(self.dice.uniform(0.1, 2.0)):
                return
            workers = worker_processes(driver.pid)
            if workers:
                os.kill(self.dice.choice(workers), signal.SIGKILL)
                self._killed("a worker")
        if self.dice.random() < 0.5:
            while not self._is_gathering() and not driver.is_over(0.002):
                pass
            seconds = self.dice.uniform(0.0, 0.05)
        else:
            seconds = self.dice.uniform(0.05, self.dice.choice([0.5, 2.0, 4.0]))
        if not driver.is_over(seconds):
            workers = worker_processes(driver.pid)
            driver.send(signal.SIGKILL)
            self._killed("the driver" + (", gathering" if self._is_gathering() else ""))
            self.deaths += len(workers)

    def _is_gathering(self) -> bool:
        return any(next(self.folder.glob(f"{name}[.-]*"), None) for name in self.case.outputs())

    def _drive(self) -> None:
        """Create the run, or go on with it."""
        shorten_minutes()
        sharded = self.case.sharded(self.folder, self._url, self.budget)
        _end(str(sharded.create(ID, if_exists="resume").run(progress=False).status))

    def _command(self) -> None:
        """Do so by the commands that a user types."""
        shorten_minutes()
        results, case = str(self.folder / "results"), self.case
        given = {"seed": case.seed, "folder": str(self.folder), "base_url": self._url, "budget": self.budget}
        os.environ[VARIABLE] = json.dumps(given)
        os.chdir(self.folder)
        workers = ["--workers", str(case.workers)]
        if Path(results, ID, file_names.ORIGIN).exists():
            command = ["resume", ID, "--results-dir", results, *workers]
        else:
            options = ["--shards", str(case.shards), "--merge", case.merge, "--if-exists", "resume"]
            command = ["run", "tests.torture.shard_target:pipeline", "--id", ID, *options, *workers]
        sys.argv = ["llm-datagen", *command]
        try:
            main()
        except SystemExit:  # what it has come to is in the run state
            _end(RunFolder(results, ID).load()["status"])

    # By tasks, as in an array.

    def _in_tasks(self) -> Iterator[str]:
        service = self._serve() if self._has_service else None
        try:
            left = deque(range(self.case.shards))
            most_done = self.case.shards
            if self.case.way != "tasks":
                most_done = self.dice.randrange(self.case.shards)
            yield from self._tasks(left, service, most_done)
        finally:
            if service is not None:
                service.stop()
        if self.case.way == "tasks":
            yield from self._gathered()

    def _tasks(self, left: deque[int], service: _Service | None, most_done: int) -> Iterator[str]:
        """Run tasks until so many shards are done; strike them, and the service."""
        running: dict[int, Child] = {}  # by the shard
        stopped: list[tuple[int, Child]] = []
        actions, done, is_short = self.dice.randint(2, ACTIONS), 0, False
        ends = time.monotonic() + HANG_SECONDS
        while (left or running) and done < most_done:
            if time.monotonic() > ends:
                yield f"after {HANG_SECONDS} s, of shards {list(left)} are not begun, and {list(running)} run"
                break
            while left and not is_short and len(running) < self.case.workers:
                number = left.popleft()
                running[number] = Child(partial(self._task, number), self._scratch(f"task-{number}"))
            number = self.dice.choice(sorted(running))  # there is one: a budget is raised when all have ended
            is_over = running[number].is_over(self.dice.uniform(0.0, 0.1))
            if actions and not is_over and self.dice.random() < 0.4:
                actions -= 1
                what = self.dice.choice(["kill", "kill", "stop", "serve"])
                if what == "serve" and service is not None:
                    service.kill(self.dice.uniform(0.0, 0.5))
                    self._killed("the service")
                elif what == "stop":
                    running[number].send(signal.SIGSTOP)
                    self.how.append(f"shard {number} stopped")
                    self.deaths, self.is_uncounted = self.deaths + 1, True
                    stopped.append((number, running.pop(number)))
                    left.appendleft(number)  # somebody else takes it over
                else:
                    running[number].send(signal.SIGKILL)
                    running[number].is_over(HANG_SECONDS)
            for at, child in list(running.items()):
                if not child.is_over():
                    continue
                death = child.end()
                del running[at]
                done += death.how == "done"
                if death.how == "killed":
                    self.deaths += 1
                    self._killed(f"shard {at}")
                is_short |= death.how == "failed"
                if death.how in ("killed", "failed", "refused"):
                    left.append(at)
                elif death.how != "done":
                    yield f"shard {at} was {death.how}: {death.text}"
                    done += 1
            if stopped and self.dice.random() < 0.1:
                yield from self._continued(*stopped.pop(0))
            yield from self._capped()
            if is_short and not running:
                self._raise_budget()
                is_short = False
        for each in stopped:
            yield from self._continued(*each)
        for child in running.values():
            child.send(signal.SIGKILL)
            self.deaths += child.end().how == "killed"

    def _continued(self, number: int, child: Child) -> Iterator[str]:
        child.send(signal.SIGCONT)
        self.how.append(f"shard {number} continued")
        death = child.end(HANG_SECONDS)
        if death.how not in ("done", "failed", "refused"):
            yield f"shard {number}, continued, was {death.how}: {death.text}"

    def _task(self, number: int) -> None:
        """Run a shard, as a process of its own."""
        shorten_minutes()
        shard_run.take = partial(claim.take, lease_seconds=LEASE_SECONDS)  # type: ignore[attr-defined]
        if self._has_service:
            os.environ |= _Service.environment(self._run_folder)
        elif self.case.ask is not None:
            os.environ[SHARE] = f"{number}/{self.case.shards}"
        try:
            with self.case.sharded(self.folder, self._url, self.budget).shard(number, ID) as shard:
                _end(str(shard.run(progress=False).status))
        except (LeaseLostError, PipelineBusyError, NodeFailedError) as error:
            if isinstance(error, NodeFailedError) and not isinstance(error.__cause__, LeaseLostError):
                raise
            sys.exit(REFUSED_CODE)

    def _gathered(self) -> Iterator[str]:
        """Gather, killed at some of its steps, until it is done."""
        for hit in [*(self.dice.randint(1, 80) for _ in range(self.dice.randint(1, 4))), None]:
            death = fork(partial(self._gather, hit), self._scratch("gather"), hangs_after=HANG_SECONDS)
            if death.how == "killed":
                self._killed(f"the gather, at step {hit}")
                self.tally.exporting += 1
                yield from self._judged(partial(ShardJudge.verified, ShardJudge(self.case, self.folder)))
            elif death.how != "done":
                yield f"the gather was {death.how}: {death.text}"
                return

    def _gather(self, hit: int | None) -> None:
        fault = None if hit is None else Fault(hit=hit, when="before" if hit % 2 else "after")
        with inject(fault):
            gather(self.folder / "results", ID)

    # What all of them need.

    @property
    def _url(self) -> str:
        return self.till.base_url if self.till is not None else ""

    @property
    def _run_folder(self) -> Path:
        return self.folder / "results" / ID

    @property
    def _has_service(self) -> bool:
        return self.case.ask is not None and self.case.has_grants

    def _serve(self) -> _Service:
        return _Service(self._run_folder, self._scratch("service"))

    def _in_peace(self) -> None:
        """Run it on one machine, in one process."""
        report = self.case.pipeline(self.folder, self.folder / "peace").create(ID).run(progress=False)
        _end(str(report.status))

    def _scratch(self, name: str) -> Path:
        self.folder.with_name(f"{self.folder.name}.said").mkdir(exist_ok=True)
        return self.folder.with_name(f"{self.folder.name}.said") / f"{next(self._said)}-{name}"

    def _killed(self, what: str) -> None:
        self.tally.kills += 1
        self.how.append(f"{what} killed")
        self.deaths += what == "a worker"

    def _capped(self) -> Iterator[str]:
        """Yield it when more was spent than may be, by the account of the endpoint."""
        if self.till is None or self.budget is None:
            return
        sold = self.till.sold()
        spent = {"tokens": sold["tokens"], "usd": sold["picodollars"] / 1e12}
        for name, cap in self.budget.items():
            if spent[name] > cap * (1 + 1e-9):
                yield f"{spent[name]} {name} are spent, and the cap is {cap}"

    def _raise_budget(self) -> None:
        assert self.budget is not None
        self.budget = {name: cap * 1.5 if name == "usd" else int(cap * 1.5) for name, cap in self.budget.items()}
        self.how.append(f"stopped; the budget is raised to {self.budget}")
        self.tally.ends += 1

    def _judged(self, judge: Callable[[], Iterator[str]]) -> Iterator[str]:
        """Yield what a judge finds, in a process of its own."""
        file = self._scratch("found")

        def write() -> None:
            file.write_text(json.dumps(list(judge())))

        death = fork(write, self._scratch("judge"), hangs_after=HANG_SECONDS)
        if death.how != "done":
            yield f"the judge was {death.how}: {death.text}"
        else:
            yield from json.loads(file.read_text())


class _Service:
    """A grants service in a process of its own."""

    def __init__(self, run_folder: Path, scratch: Path) -> None:
        self._run_folder, self._scratch = run_folder, scratch
        self._child = self._start()

    @staticmethod
    def environment(run_folder: Path) -> dict[str, str]:
        """Return what tasks are told of it."""
        said = json.loads((run_folder / "grants" / "grants.json").read_text())
        return {GRANTS: f"http://127.0.0.1:{said['port']}", f"{GRANTS}_TOKEN": said["token"]}

    def kill(self, seconds: float) -> None:
        """Kill it; after so many seconds, there is another one."""
        self.stop()
        time.sleep(seconds)
        self._child = self._start()

    def stop(self) -> None:
        """Kill it."""
        self._child.send(signal.SIGKILL)
        self._child.end()

    def _start(self) -> Child:
        ready = self._scratch.with_suffix(".ready")
        ready.unlink(missing_ok=True)
        child = Child(partial(self._serve, ready), self._scratch)
        while not ready.exists():
            if child.is_over(0.005):
                raise AssertionError(child.end())
        return child

    def _serve(self, ready: Path) -> None:
        shorten_minutes()
        service_for(self._run_folder)
        ready.touch()
        driver = os.getppid()
        while os.getppid() == driver:
            time.sleep(1.0)


def shards(folder: Path, *, seed: int, kills: int, seeds: int = 1_000_000, seconds: float = 1e9) -> Tally:
    """Torture random runs in shards, one seed after the other, until so many processes are killed.

    Args:
        folder: where; what fails is left there.
        seed: the first seed.
        kills: of all of them, at least.
        seeds: how many at most.
        seconds: begin none after so many.
    """
    tally, began, first = Tally(), time.monotonic(), seed
    while tally.kills < kills and seed < first + seeds and time.monotonic() - began < seconds:
        ShardTorture(seed, folder / f"shards-{seed}", tally).run()
        seed += 1
    return tally


def _end(status: str) -> None:
    """Exit as a run has ended: in order; stopped, since its budget is used up; or else."""
    if status == "stopped":
        raise PlannedFailure(status)
    if status != "completed":
        raise RuntimeError(f"it is {status}")
