"""Runs whose rows are jobs of batch APIs: killed at random moments, and at every step of a job, until they are done.

The three fake APIs register jobs late, lose acknowledgements, fail, expire and cut off. They keep accounts, in a
process of their own, and what the run says is compared with these: no row lost, none answered or paid for twice, no job
submitted twice, and what it cost, to the picodollar.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
import urllib.request
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import DatagenError, NodeFailedError, ResumeWarning
from llm_datagen.llm import LLMOperator
from llm_datagen.llm.batch import asking, endpoint, node_jobs
from llm_datagen.llm.batch.job_log import JobLog
from llm_datagen.llm.cost.spend_file import SpendFile
from llm_datagen.llm.http.batch.anthropic import AnthropicBatchAdapter
from llm_datagen.llm.http.batch.base import BatchAdapter
from llm_datagen.llm.http.batch.gemini import GeminiBatchAdapter
from llm_datagen.llm.http.batch.openai import OpenAIBatchAdapter
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import DETACH_VARIABLE, jobs_of
from llm_datagen.testing import BatchFaults, FakeLLMServer, LLMBatches

from .forks import Death, fork, serve
from .tally import Tally

PRICES = {"input": 1.0, "output": 2.0}
ROUNDS = 40
"""Resumes until a case must be done."""
LATE_SECONDS = 0.15
"""How late the servers register a job."""
APIS: dict[str, type[BatchAdapter]] = {
    "openai": OpenAIBatchAdapter,
    "anthropic": AnthropicBatchAdapter,
    "gemini": GeminiBatchAdapter,
}
STEPS = (
    "intend",
    "submit",
    "submitted",
    "find",
    "status",
    "looked",
    "results",
    "answered",
    "collected",
    "delete",
    "done",
)
"""What is done with a job. A kill comes before one of these, or after it."""


@dataclass(frozen=True, slots=True)
class BatchCase:
    """A pipeline, its input, and what goes wrong at its endpoint; all of it follows from the seed."""

    seed: int
    api: str
    rows: int
    parallel: int
    max_rows: int
    samples: int
    stages: int
    fallback: str
    has_budget: bool
    faults: BatchFaults
    seconds: float

    @classmethod
    def of(cls, seed: int) -> BatchCase:
        """Return the case of a seed."""
        dice = random.Random(f"batch case {seed}")
        rows = dice.randint(10, 60)

        def share(most: float, often: float = 0.5) -> float:
            return dice.uniform(0.0, most) if dice.random() < often else 0.0

        return cls(
            seed=seed,
            api=list(APIS)[seed % 3],
            rows=rows,
            parallel=dice.choice([rows * 2, dice.randint(max(2, rows // 5), rows)]),
            max_rows=dice.randint(3, rows),
            samples=dice.choice([1, 1, 1, 2]),
            stages=dice.choice([1, 1, 2]),
            fallback=dice.choice(["job", "job", "online"]),
            has_budget=dice.random() < 0.7,
            faults=BatchFaults(
                drop_before=share(0.2),
                drop_after=share(0.3),
                register_late=share(0.3),
                error_after=share(0.15),
                server_error=share(0.1),
                rate_limit=share(0.1),
                truncated=share(0.3),
                short=share(0.3),
                job_expired=share(0.3),
                job_cancelled=share(0.2),
                row_failed=share(0.1),
                row_overloaded=share(0.1),
                row_lost=share(0.1),
                late_s=LATE_SECONDS,
            ),
            seconds=dice.choice([0.0, 0.1, 0.4]),
        )

    def pipeline(self, folder: Path, base_url: str) -> UnifiedPipeline:
        """Return it."""
        return UnifiedPipeline(
            [self._operator(number, base_url) for number in range(self.stages)],
            f"jsonl://{folder}/in.jsonl",
            f"jsonl://{folder}/out.jsonl",
            base_path=folder / "between",
            results_dir=folder / "results",
            log_file=folder / "platform.log",
            streaming=self.seed % 2 == 0,
            parallel_size=self.parallel,
            on_error="dead_letter",
        )

    def _operator(self, number: int, base_url: str) -> LLMOperator:
        return LLMOperator(
            f"stage {number}: {{{{ q }}}}",
            model="m",
            base_url=base_url.removesuffix("/v1") + ("/v1beta" if self.api == "gemini" else "/v1"),
            api_key="k",
            adapter=self.api,
            output=f"a{number}",
            name=f"ask{number}",
            params={"max_tokens": 40},
            n=self.samples if number == 0 else 1,
            prices=PRICES,
            budget={"usd": 1.0} if self.has_budget else None,
            max_retries=30,
            retry_wait=0.01,
            outage_after=30.0,
            keep_calls=False,
            batch_api={
                "max_rows": self.max_rows,
                "max_wait": 0.2,
                "poll_wait": 0.1,
                "late_s": 3 * LATE_SECONDS,
                "fallback": self.fallback,
            },
        )


class BatchTorture:
    """Tortures one case.

    Args:
        seed: of the case, and of what happens to it.
        folder: where.
        tally: where the results go.
    """

    def __init__(self, seed: int, folder: Path, tally: Tally) -> None:
        self.case = BatchCase.of(seed)
        self.folder = folder
        self.tally = tally
        self.dice = random.Random(f"batch blows {seed}")
        self.how: list[str] = []

    def run(self, kills: int) -> None:
        """Kill it so many times, at most; then bring it to its end, and judge."""
        self.folder.mkdir()
        lines = (json.dumps({"_i": number, "q": f"q{number}"}) + "\n" for number in range(self.case.rows))
        (self.folder / "in.jsonl").write_text("".join(lines))
        pid, base_url = serve(self._server)
        try:
            found = list(self._blows(base_url, kills))
        finally:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        self.tally.runs += 1
        if found:
            where = f"batch, seed {self.case.seed}, {self.folder}\n  {self.case}"
            self.tally.findings.append(f"{where}:\n  " + "\n  ".join([*found[:20], *self.how]))
            print(self.tally.findings[-1], file=sys.stderr, flush=True)
        else:
            shutil.rmtree(self.folder)

    @contextmanager
    def _server(self) -> Iterator[str]:
        batches = LLMBatches(
            seconds=self.case.seconds, price=(PRICES["input"], PRICES["output"]), faults=self.case.faults, per_page=20
        )
        with FakeLLMServer(batches=batches, seed=self.case.seed) as server:
            yield server.base_url

    def _blows(self, base_url: str, kills: int) -> Iterator[str]:
        for _ in range(kills):
            if self.dice.random() < 0.1:
                death = self._child(base_url, None, self.dice.uniform(0.1, 1.2), kill_with=signal.SIGINT)
            elif self.dice.random() < 0.1:
                death = self._child(base_url, None, None, detaches=True)
            elif self.dice.random() < 0.6:
                step, moment = self.dice.choice(STEPS), self.dice.choice(["before", "after"])
                blow = (step, moment, self.dice.randint(1, 4))
                death = self._child(base_url, blow, self.dice.uniform(0.5, 1.5))
            else:
                death = self._child(base_url, None, self.dice.uniform(0.03, 1.2))
            yield from _faults_of(death)
            if death.how == "done":
                break
            self.tally.kills += death.how == "killed"
        for _ in range(ROUNDS):
            if death.how == "done":
                break
            death = self._child(base_url, None, None)
            yield from _faults_of(death)
        else:
            yield f"it did not end within {ROUNDS} resumes: {death.text[-2000:]}"
            return
        yield from self._judged(base_url)

    def _child(
        self,
        base_url: str,
        blow: tuple[str, str, int] | None,
        after: float | None,
        *,
        kill_with: int = signal.SIGKILL,
        detaches: bool = False,
    ) -> Death:
        death = fork(
            lambda: _work(self.case, self.folder, base_url, blow, detaches=detaches),
            self.folder / "said",
            kill_after=after,
            kill_with=kill_with,
            hangs_after=120.0,
        )
        self.tally.ends += death.how == "canceled" or (detaches and death.how == "failed")
        self.how.append(f"{blow}, {after}: {death.how} after {death.seconds:.2f} s {death.text[-160:]!r}")
        return death

    def _judged(self, base_url: str) -> Iterator[str]:
        case = self.case
        rows = [json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()]
        dead: list[Any] = []
        for path in self.folder.rglob("*.errors.jsonl"):
            dead += [json.loads(line) for line in path.read_text().splitlines()]
        ends = Counter(str(row["_i"]).split("_")[0] for row in rows)
        lost = [n for n in map(str, range(case.rows)) if n not in ends and not _is_dead(n, dead)]
        twice = [number for number, count in ends.items() if count > case.samples]
        ids = Counter(str(row["_i"]) for row in rows)
        if lost:
            yield f"{len(lost)} rows are lost: {lost[:10]}"
        if twice or any(count > 1 for count in ids.values()):
            yield f"rows are there twice: {twice[:10]}"
        account = _get(base_url, "/account")
        again = {key: jobs for key, jobs in account["jobs"].items() if len(jobs) > 1}
        if again:
            yield f"jobs were submitted twice: {again}"
        yield from self._paid_once(account)
        if account["running"]:
            yield f"jobs still run: {account['running']}"
        yield from self._money(account)
        open_jobs = [job for job in jobs_of(self._files) if job.is_open]
        if open_jobs:
            yield f"jobs are open: {open_jobs}"
        self.tally.dead_letters += len(dead)

    def _paid_once(self, account: dict[str, Any]) -> Iterator[str]:
        """Yield which prompts were answered too often. Plain calls that were in flight may be repeated."""
        wanted = self.case.samples
        for text, count in account["rows"].items():
            if count > wanted:
                yield f"{text!r} was paid for in {count} jobs, and {wanted} answers were wanted"
            elif count == wanted and account["calls"].get(text):
                yield f"{text!r} was answered by jobs, and asked by a plain call"

    def _money(self, account: dict[str, Any]) -> Iterator[str]:
        state = RunFolder(self.folder / "results", "a").load()
        entries = [entry for node in state["nodes"] for entry in node["usage"]]
        cost = sum(entry.get("cost", 0.0) for entry in entries if "(batch)" in entry["provider"])
        if not account["calls"] and abs(cost - account["dollars"]) > 1e-13:
            yield f"the run says that its jobs cost {cost:.9f}, and the server {account['dollars']:.9f}"
        if self.case.has_budget:
            spending = SpendFile(self._files).read_all()
            spent = spending.spent.minus(spending.lost).picodollars / 1e12
            if not account["calls"] and abs(spent - account["dollars"]) > 1e-13:
                yield f"the budget has {spent:.9f}, and the server {account['dollars']:.9f}"
            if any(spending.in_flight):
                yield f"the budget still holds {spending.in_flight}"

    @property
    def _files(self) -> Path:
        return RunFolder(self.folder / "results", "a").files_path


def _is_dead(number: str, dead: list[Any]) -> bool:
    return any(str(each.get("_i", each.get("id"))).split("_")[0] == number for each in dead)


def _faults_of(death: Death) -> Iterator[str]:
    if death.how not in ("done", "killed", "failed", "canceled"):
        yield f"a process ended as {death.how}: {death.text[-3000:]}"


def _get(base_url: str, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(base_url.removesuffix("/v1") + path, timeout=20) as response:
        return dict(json.loads(response.read()))


def _work(case: BatchCase, folder: Path, base_url: str, blow: tuple[str, str, int] | None, *, detaches: bool) -> None:
    """Run the pipeline, in a child of the driver."""
    warnings.simplefilter("ignore", ResumeWarning)
    node_jobs.TICK_SECONDS, node_jobs.QUIET_SECONDS, node_jobs.FOREIGN_SECONDS = 0.01, 0.05, 1.0
    asking.FIRST_PAUSE = 0.02
    endpoint._CLOSE_SECONDS = 5.0
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if detaches:
        os.environ[DETACH_VARIABLE] = "1"
    if blow is not None:
        _plant(case, *blow)
    try:
        report = case.pipeline(folder, base_url).create("a", if_exists="resume").run(progress=False)
    except NodeFailedError as error:
        sys.stdout.write(f"{error.__cause__!r}\n")
        raise SystemExit(7) from None
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGTERM) from None
    if report.status != "completed":
        sys.stdout.write(f"{report.status}: {report.reason}\n")
        raise SystemExit(7)


def _plant(case: BatchCase, step: str, moment: str, count: int) -> None:
    """Have the process killed before, or after, a step is done for so many times."""
    owner: type[Any] = JobLog if hasattr(JobLog, step) else APIS[case.api]
    done: Callable[..., Any] = getattr(owner, step)
    left = [count]

    def hit(now: str) -> None:
        if now == moment:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(5)

    if owner is JobLog:

        def plain(*args: Any, **kwargs: Any) -> Any:
            hit("before")
            result = done(*args, **kwargs)
            hit("after")
            return result

        setattr(owner, step, plain)
    elif step == "results":

        async def streamed(*args: Any, **kwargs: Any) -> Any:
            async for result in done(*args, **kwargs):
                hit("before")
                yield result
                hit("after")

        setattr(owner, step, streamed)
    else:

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            hit("before")
            result = await done(*args, **kwargs)
            hit("after")
            return result

        setattr(owner, step, awaited)


def batch(folder: Path, *, seed: int, kills: int, seconds: float = 1e9, a_case: int = 6) -> Tally:
    """Torture cases, one seed after the other, until there were so many kills; begin none after so many seconds."""
    tally, began = Tally(), time.monotonic()
    while tally.kills < kills and time.monotonic() - began < seconds:
        BatchTorture(seed, folder / f"batch-{seed}", tally).run(min(a_case, kills - tally.kills))
        seed += 1
        with contextlib.suppress(DatagenError):
            print(
                f"{tally.kills} kills, {tally.runs} runs, {len(tally.findings)} findings", file=sys.stderr, flush=True
            )
    return tally
