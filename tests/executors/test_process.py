"""Operators in worker processes: what is given, what comes back, who dies of it, and what is left (F2)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import BaseOperator, ConfigError, RemoteError, WorkerDiedError
from llm_datagen.config import FailurePolicy
from llm_datagen.executors.process.executor import ProcessExecutor
from llm_datagen.executors.process.pickling import check_operator, pack
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.operators import FunctionOperator
from llm_datagen.streams import Block, Stream
from llm_datagen.streams.formats.csv import CsvCodec
from llm_datagen.streams.formats.jsonl import JsonlCodec

from ..kit.actors import aside, block_of, error_of, result_of
from ..kit.programs import Program
from ..kit.support import Calls, eventually, numbered, worker_processes
from .helpers import Ctx, ResultTarget, data_of, left, processing_of, rows_of, threads_of

SOON = FailurePolicy(retries=1, retry_wait=0.001)


class Bench:
    """An executor, with what it needs."""

    def __init__(
        self, operator: Any, *, workers: int = 1, codec: Any = None, may_repeat: bool = True, **processing: Any
    ) -> None:
        self.target = ResultTarget()
        self.ctx = processing.pop("ctx", None) or Ctx()
        operator = operator if isinstance(operator, BaseOperator) else FunctionOperator(operator)
        self.processing = processing_of(operator, ctx=self.ctx, **processing)
        codec = codec or JsonlCodec()
        self.processing = replace(self.processing, encoder=codec.encoder(b""))
        self.executor = ProcessExecutor(
            "n",
            pack(operator, codec),
            self.processing,
            self.target,
            workers,
            may_repeat=may_repeat,
        )
        self.tasks = 0

    def submit(self, block: Block) -> int:
        self.tasks += 1
        self.executor.submit(self.tasks, block)
        return self.tasks

    def done_of(self, what: Any) -> BlockResult:
        """Return what becomes of a block, or of values."""
        task = self.submit(what if isinstance(what, Block) else block_of(what))
        return self.target.wait_for(task)[task]

    def all_of(self, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Go on as a node that leaves out what fails; return the rows, and the failures."""
        rows: list[Any] = []
        failures: list[Any] = []
        block: Block | None = block_of(values)
        while block is not None and block.records:
            done = self.done_of(block)
            rows += rows_of(done)
            assert (done.span.start, done.span.offset) == (block.start, block.offset)
            block = done.rest
            if done.failure is not None:
                assert block is not None
                failures.append(done.failure)
                block = block.split_at(done.failure.rows)[1]
        return rows, failures


@contextlib.contextmanager
def running(operator: Any, **settings: Any) -> Iterator[Bench]:
    bench = Bench(operator, **settings)
    try:
        bench.executor.start()
        yield bench
    finally:
        bench.executor.stop()
    assert threads_of("") == []
    assert worker_processes() == []


class Traced(BaseOperator):
    """Writes down where it is called."""

    def __init__(self, path: Path) -> None:
        self.calls = Calls(path)

    def setup(self) -> None:
        self.calls.note(f"setup-{os.getpid()}")

    def process_item(self, item: Any, ctx: Any) -> Any:
        time.sleep(item.get("nap", 0))
        return {"pid": os.getpid(), "node": ctx.node_id, "pipeline": ctx.pipeline_id}

    def teardown(self) -> None:
        self.calls.note(f"teardown-{os.getpid()}")


@pytest.mark.process
def test_calls_are_made_in_one_other_process_as_long_as_it_keeps_up(tmp_path: Path) -> None:
    """M11: setup and teardown once in it; a second process is not started without need."""
    operator = Traced(tmp_path / "calls")
    with running(operator, workers=4) as bench:
        rows = [row for n in range(20) for row in rows_of(bench.done_of([{"n": n}]))]
    pids = {row["pid"] for row in rows}
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert {(row["node"], row["pipeline"]) for row in rows} == {("n", "p")}
    assert operator.calls.all() == {f"{what}-{pid}": 1 for what in ("setup", "teardown") for pid in pids}


@pytest.mark.slow
@pytest.mark.process
def test_slow_calls_get_as_many_processes_as_are_allowed_each_set_up_once(tmp_path: Path) -> None:
    """M10: and no more."""
    operator = Traced(tmp_path / "calls")
    with running(operator, workers=2) as bench:
        for n in range(4):
            bench.submit(block_of([{"nap": 0.2}], n))
        pids = {rows_of(done)[0]["pid"] for done in bench.target.wait_for(4).values()}
    assert len(pids) == 2
    assert operator.calls.all() == {f"{what}-{pid}": 1 for what in ("setup", "teardown") for pid in pids}


@pytest.mark.slow
@pytest.mark.process
def test_a_task_ends_at_the_row_that_fails_with_the_users_exception_and_its_traceback() -> None:
    """M24: as on threads; the exception is the class that the operator has raised, and says where."""

    class OwnError(Exception):
        pass

    def fail(item: Any) -> Any:
        if item["n"] == 3:
            raise OwnError("on purpose")
        return item

    with running(fail) as bench:
        done = bench.done_of(numbered(8))
    assert len(rows_of(done)) == 3
    assert done.rest is not None
    assert (done.rest.start, len(done.rest.records)) == (3, 5)
    failure = done.failure
    assert failure is not None
    assert (failure.ids, failure.items, failure.rows) == ((3,), [{"n": 3, "_i": 3}], 1)
    assert isinstance(failure.error, OwnError)
    assert "in fail" in failure.record.trace
    assert "in fail" in "".join(failure.error.__notes__)
    assert "on purpose" in failure.record.text
    assert failure.dead_letters == b""  # nobody wants them


class NeverBack(Exception):
    """Can be pickled, and not unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("I stay here")


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("error", [NeverBack(1, 2), Unpicklable("1 and 2")])
def test_an_exception_that_cannot_be_brought_over_is_told_in_words(error: Exception) -> None:
    """Not a hang, and not the failure of anything else."""
    kind, args = type(error), (1, 2) if isinstance(error, NeverBack) else ("1 and 2",)

    def fail(item: Any) -> Any:
        raise kind(*args)

    with running(fail) as bench:
        failure = bench.done_of([{}]).failure
    assert failure is not None
    assert (failure.record.kind, failure.record.text) == (kind.__name__, "1 and 2")
    assert isinstance(failure.error, RemoteError)
    assert f"{kind.__name__}: 1 and 2" in str(failure.error)


def test_an_operator_that_cannot_be_pickled_is_refused_with_what_to_do() -> None:
    lock = threading.Lock()
    with pytest.raises(ConfigError, match=r"cannot be sent to a worker process .*setup\(\)"):
        Bench(lambda item: (lock, item))


def test_an_async_operator_is_refused_by_name() -> None:
    async def later(item: Any) -> Any:
        return item

    with pytest.raises(ConfigError, match=r"node_0: executor='process' is for plain operators, and .*later is `async"):
        check_operator(FunctionOperator(later), "node_0")


def test_what_is_missing_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'llm-datagen\[process\]'"):
        check_operator(FunctionOperator(str.upper), "node_0")


# --- setup and teardown ------------------------------------------------------------------------------------------


class Fragile(BaseOperator):
    """Its nth setup fails."""

    def __init__(self, path: Path, nth: int, *, by_dying: bool = False) -> None:
        self.calls = Calls(path)
        self.nth = nth
        self.by_dying = by_dying

    def setup(self) -> None:
        self.calls.note("setup")
        if self.calls.all()["setup"] == self.nth:
            if self.by_dying:
                os._exit(3)
            raise OSError("no model here")

    def process_item(self, item: Any, ctx: Any) -> Any:
        time.sleep(0.2)
        return item


@pytest.mark.slow
@pytest.mark.process
def test_a_setup_that_fails_comes_out_of_start(tmp_path: Path) -> None:
    """M11: as with threads."""
    bench = Bench(Fragile(tmp_path / "calls", 1))
    with pytest.raises(OSError, match="no model here"):
        bench.executor.start()
    bench.executor.stop()
    bench = Bench(Fragile(tmp_path / "more", 1, by_dying=True))
    with pytest.raises(WorkerDiedError, match="worker process of n has ended with status 3, while the operator was lo"):
        bench.executor.start()
    bench.executor.stop()


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize("by_dying", [False, True])
def test_a_setup_that_fails_in_a_later_process_is_the_end_whatever_the_policy(tmp_path: Path, by_dying: bool) -> None:
    """Else every row would be skipped, by and by, of an operator that was never there."""
    with running(Fragile(tmp_path / "calls", 2, by_dying=by_dying), workers=2) as bench:
        bench.submit(block_of([{}]))
        bench.submit(block_of([{}], 1))
        done = bench.target.wait_for(2)
    failed = [one for one in done.values() if one.failure is not None]
    assert len(failed) == 1
    failure = failed[0].failure
    assert failure is not None
    assert failure.is_fatal
    assert failure.rows == 0
    assert isinstance(failure.error, WorkerDiedError if by_dying else OSError)
    assert failed[0].rest is not None
    assert len(failed[0].rest.records) == 1


@pytest.mark.process
def test_a_teardown_that_fails_comes_out_of_stop_and_all_have_ended() -> None:
    class Untidy(BaseOperator):
        def process_item(self, item: Any, ctx: Any) -> Any:
            return item

        def teardown(self) -> None:
            raise OSError("cannot let go")

    bench = Bench(Untidy())
    bench.executor.start()
    with pytest.raises(OSError, match="cannot let go"):
        bench.executor.stop()
    assert worker_processes() == []


# --- death -------------------------------------------------------------------------------------------------------


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exit_now() -> None:
    os._exit(7)


def segfault() -> None:
    ctypes.string_at(0)


DEATHS = {kill_myself: "was killed by SIGKILL", exit_now: "has ended with status 7", segfault: "was killed by SIGSEGV"}


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.process
@pytest.mark.parametrize("die", DEATHS)
def test_a_death_is_the_failure_of_its_row(die: Callable[[], None]) -> None:
    """M24: however the process died."""

    def fatal(item: Any) -> Any:
        die()

    with running(fatal, policy=FailurePolicy(on_error="dead_letter")) as bench:
        failure = bench.done_of([{"n": 7}]).failure
    assert failure is not None
    assert isinstance(failure.error, WorkerDiedError)
    assert f"the worker process of n {DEATHS[die]}" in failure.record.text
    assert (failure.ids, failure.items, failure.rows) == ((0,), [{"n": 7, "_i": 0}], 1)
    assert b'"kind":"WorkerDiedError"' in failure.dead_letters


@pytest.mark.slow
@pytest.mark.process
def test_of_many_rows_in_one_task_those_that_kill_their_process_are_found_and_all_others_come_out() -> None:
    """M24: nothing else is lost."""

    def fatal(item: Any) -> Any:
        if item["n"] in {70, 71}:
            os._exit(1)
        return item

    with running(fatal) as bench:
        rows, failures = bench.all_of(numbered(1000))
    assert [row["n"] for row in rows] == [n for n in range(1000) if n not in {70, 71}]
    assert [failure.ids for failure in failures] == [(70,), (71,)]


@pytest.mark.slow
@pytest.mark.process
def test_a_row_that_kills_its_process_is_tried_again_as_often_as_one_that_raises(tmp_path: Path) -> None:
    """M24: `retries` counts deaths."""
    calls = Calls(tmp_path / "calls")

    def fatal_once(item: Any) -> Any:
        calls.note(item["n"])
        if calls.all()[str(item["n"])] <= item["deaths"]:
            os._exit(1)
        return item

    with running(fatal_once, policy=replace(SOON, on_error="dead_letter")) as bench:
        assert rows_of(bench.done_of([{"n": 1, "deaths": 1}])) == [{"n": 1, "deaths": 1, "_i": 0}]
        failure = bench.done_of([{"n": 2, "deaths": 9}]).failure
    assert calls.all() == {"1": 2, "2": 2}
    assert failure is not None
    assert b'"attempts":2' in failure.dead_letters


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("bisect", [True, False])
def test_a_batch_that_kills_its_process_is_halved_if_it_may_be(tmp_path: Path, bisect: bool) -> None:
    """M24: as one that raises."""

    class Batches(BaseOperator):
        def process_batch(self, items: Any, ctx: Any) -> Any:
            if any(item["n"] == 6 for item in items):
                os._exit(1)
            return [{"n": item["n"], "of": len(items)} for item in items]

    operator = Batches()
    operator.bisect = bisect
    with running(operator, batch_size=4) as bench:
        rows, failures = bench.all_of(numbered(8))
    assert [failure.ids for failure in failures] == ([(6,)] if bisect else [(4, 5, 6, 7)])
    assert [row["n"] for row in rows if row["of"] == 4] == [0, 1, 2, 3]
    assert len(rows) == (7 if bisect else 4)


@pytest.mark.process
def test_what_must_not_be_called_again_is_not(tmp_path: Path) -> None:
    """at_most_once: all rows that were in the process have failed, and nobody knows what came of them."""
    calls = Calls(tmp_path / "calls")

    class Batches(BaseOperator):
        def process_batch(self, items: Any, ctx: Any) -> Any:
            for item in items:
                calls.note(item["n"])
            os._exit(1)

    with running(Batches(), batch_size=3, may_repeat=False, policy=SOON) as bench:
        failure = bench.done_of(numbered(3)).failure
    assert failure is not None
    assert failure.is_unknown
    assert failure.ids == (0, 1, 2)
    assert calls.all() == {"0": 1, "1": 1, "2": 1}


@pytest.mark.process
def test_a_process_that_is_killed_while_idle_costs_nothing(tmp_path: Path) -> None:
    with running(Traced(tmp_path / "calls"), policy=FailurePolicy()) as bench:
        pid = rows_of(bench.done_of([{}]))[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not bench.executor._idle[0].is_alive())
        done = bench.done_of([{}])
    assert done.failure is None
    assert rows_of(done)[0]["pid"] != pid


@pytest.mark.process
def test_a_death_is_noticed_though_a_child_of_the_process_lives_on() -> None:
    """It holds the pipe open."""

    def leave_a_child(item: Any) -> Any:
        if os.fork() == 0:
            os.setsid()
            time.sleep(2)
            os._exit(0)
        os._exit(5)

    with running(leave_a_child) as bench:
        failure = bench.done_of([{}]).failure
    assert failure is not None
    assert "status 5" in failure.record.text


# --- context -----------------------------------------------------------------------------------------------------


class Hearing(Ctx):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []

    def report_usage(self, usage: Any) -> None:
        self.heard.append(usage)

    def log(self, message: str, **fields: Any) -> None:
        self.heard.append((message, fields))


@pytest.mark.process
def test_usage_and_log_lines_arrive_in_order_before_the_result_also_of_a_call_that_kills() -> None:
    """M26: what was paid for is counted."""

    def talk(item: Any, ctx: Any) -> Any:
        ctx.report_usage({"model": "m", "tokens": item["n"], "odd": object()})
        ctx.log("said", n=item["n"], what=[1, {"two": 2}], odd=Path("x"))
        if item["n"] == 2:
            kill_myself()
        return item

    ctx = Hearing()
    with running(talk, ctx=ctx) as bench:
        for n in range(3):
            bench.done_of([{"n": n}])
    expected: list[Any] = []
    for n in range(3):
        expected += [{"model": "m", "tokens": n}, ("said", {"n": n, "what": [1, {"two": 2}], "odd": "x"})]
    assert ctx.heard == expected


@pytest.mark.process
def test_a_cancel_reaches_a_call_that_runs_and_the_rest_comes_back() -> None:
    """M7: `is_cancelled` of a long call."""

    def wait(item: Any, ctx: Any) -> Any:
        ctx.log("begun")
        while not ctx.is_cancelled():
            time.sleep(0.005)
        return item

    ctx = Hearing()
    with running(wait, ctx=ctx) as bench:
        bench.submit(block_of(numbered(100)))
        eventually(lambda: ctx.heard)
        ctx.cancelled = True
        done = bench.target.wait_for(1)[1]
        assert done.failure is None
        assert 1 <= done.rows <= 16
        assert left(done) == 100 - done.rows
        again = bench.done_of(block_of(numbered(2)))
        assert (again.rows, again.calls) == (0, 0)


@pytest.mark.process
def test_a_pause_before_a_retry_ends_with_a_cancel() -> None:
    def fail(item: Any, ctx: Any) -> Any:
        ctx.log("begun")
        raise ValueError

    ctx = Hearing()
    with running(fail, ctx=ctx, policy=FailurePolicy(retries=3, retry_wait=60)) as bench:
        bench.submit(block_of(numbered(1)))
        eventually(lambda: ctx.heard)
        ctx.cancelled = True
        assert bench.target.wait_for(1)[1].rest is not None


@pytest.mark.process
def test_calls_that_are_given_up_are_killed() -> None:
    """grace: what cannot be done to a thread can be done to a process."""

    def stuck(item: Any, ctx: Any) -> Any:
        ctx.log("begun")
        threading.Event().wait()

    ctx = Hearing()
    bench = Bench(stuck, ctx=ctx)
    bench.executor.start()
    bench.submit(block_of(numbered(5)))
    eventually(lambda: ctx.heard)
    ctx.cancelled = True
    result_of(aside(lambda: bench.executor.stop(wait=False)))
    assert worker_processes() == []
    assert threads_of("") == []
    assert bench.target.done[1].rows == 0
    assert bench.target.done[1].failure is None


@pytest.mark.process
def test_stop_waits_for_what_runs() -> None:
    """M7: what was handed out ends."""

    def slow(item: Any, ctx: Any) -> Any:
        ctx.log("begun")
        time.sleep(0.1)
        return item

    ctx = Hearing()
    bench = Bench(slow, ctx=ctx)
    bench.executor.start()
    bench.submit(block_of(numbered(1)))
    eventually(lambda: ctx.heard)
    stopping = aside(bench.executor.stop)
    assert error_of(stopping) is None
    assert bench.target.done[1].rows == 1


# --- streams -----------------------------------------------------------------------------------------------------


@pytest.mark.process
def test_a_line_that_is_no_row_is_named_with_its_place_by_the_one_who_has_the_stream() -> None:
    """S3: also of a stream in the memory of this process."""
    block = block_of(numbered(3))
    block.records[1] = b"{]"
    with running(lambda item: item) as bench:
        assert isinstance(bench.processing.source, Stream)
        bench.processing.source.storage.open_append("in.jsonl").append(b'{"n":0}\n{]\n')
        done = bench.done_of(block)
    assert done.rows == 1
    assert done.failure is not None
    assert "in.jsonl, line 2: this is not a row" in done.failure.record.text
    assert done.failure.items == []


@pytest.mark.slow
@pytest.mark.process
def test_all_processes_write_csv_under_one_header() -> None:
    """The first row that is encoded, by whichever process, decides the columns for all."""

    def one_way_or_another(item: Any) -> Any:
        time.sleep(0.2)
        return {"a": 1, "b": 2} if item["n"] else {"b": 2, "a": 1}

    with running(one_way_or_another, workers=2, codec=CsvCodec()) as bench:
        for n in range(4):
            bench.submit(block_of([{"n": n % 2}], n))
        done = bench.target.wait_for(4)
        header = bench.processing.encoder.preamble().decode().strip().split(",")
    for one in done.values():
        row = dict(zip(header, data_of(one).decode().strip().split(","), strict=True))
        assert (row["a"], row["b"]) == ("1", "2")


# --- the engine's own end ----------------------------------------------------------------------------------------

JOB = """
import re, time
from llm_datagen import UnifiedPipeline

def work(row, ctx):
    print("begun", flush=True)
    if row["how"] == "sleep":
        time.sleep(600)
    if row["how"] == "spin":
        re.match(r"(a+)+$", "a" * 64 + "b")  # for ever, and no other thread of the process runs meanwhile
    time.sleep(0.3)
    return row

UnifiedPipeline([work], "jsonl://in.jsonl", "jsonl://out.jsonl", executor="process", parallel_size=2).create("j").run()
"""


def start_job(folder: Path, how: Sequence[str]) -> Program:
    (folder / "in.jsonl").write_text("".join(f'{{"how": "{one}"}}\n' for one in how))
    (folder / "job.py").write_text(JOB)
    return Program(["job.py"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, is_leader=True)


@pytest.mark.process
def test_workers_end_at_once_when_the_engine_is_killed_also_in_the_middle_of_a_call(tmp_path: Path) -> None:
    """F2: not even one that holds the interpreter's lock is left. And a script needs no `__main__` guard."""
    with start_job(tmp_path, ["sleep", "spin"]) as job:
        assert job.stdout is not None
        for _ in range(2):
            assert job.stdout.readline() == "begun\n"
        workers = worker_processes(job.pid)
        assert len(workers) == 2
        job.kill()
        job.wait()
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


@pytest.mark.process
def test_ctrl_c_is_for_the_engine_which_lets_the_calls_end_and_saves_them(tmp_path: Path) -> None:
    """M25: the terminal sends it to every process of the group."""
    with start_job(tmp_path, ["short"] * 50) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "begun\n"
        os.killpg(job.pid, signal.SIGINT)
        _, err = job.communicate(timeout=30)
    assert job.returncode in {130, -signal.SIGINT, 1}
    assert "worker" not in err
    assert re.search("KeyboardInterrupt", err)
    rows = (tmp_path / "out.jsonl").read_text().splitlines()
    assert 1 <= len(rows) < 50
