"""Runs on an engine whose library does what its prompts say: real worker processes, that fail, hang and are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_datagen import ConfigError, NodeFailedError, Status
from llm_datagen.llm import Engine, LLMOperator, LLMRequestError
from llm_datagen.llm.engines import worker as engine_worker

from ...kit.support import PATIENCE_SECONDS, Bench, lines
from ...policies.helpers import dead_letters_of
from ..chat_server import Context, run_rows
from .scripted import KIND, are_gone, notes


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def operator(bench: Bench, *, options: dict[str, Any] | None = None, **given: Any) -> LLMOperator:
    """Return an operator that asks the library of this test; its `Engine` may be given in parts."""
    of_engine = {
        name: given.pop(name) for name in ("workers", "devices", "batch_size", "max_restarts") if name in given
    }
    engine = Engine(kind=KIND, options={"folder": str(bench.folder), **(options or {})}, start_timeout=20, **of_engine)
    return LLMOperator("{{ q }}", model="m", engine=engine, retry_wait=0.01, **given)


def run(bench: Bench, prompts: list[str], made: LLMOperator, **settings: Any) -> Any:
    """Run an operator over prompts, and return the report."""
    bench.give([{"q": prompt} for prompt in prompts])
    settings = {"parallel_size": 8, "on_error": "dead_letter", **settings}
    return bench.pipeline([made], **settings).create("run").run(progress=False)


def answers(bench: Bench) -> dict[str, str]:
    return {row["q"]: row["answer"] for row in lines(bench.output)}


def failed(bench: Bench) -> dict[str, str]:
    """Return the prompts that have failed, and of what."""
    return {each["input"]["q"]: each["error"]["text"] for each in dead_letters_of(bench.output)}


def loads(bench: Bench) -> list[int]:
    """Return the processes that began to load the model."""
    return [pid for pid, text in notes(bench.folder) if text.startswith("load")]


def wait_for(found: Any) -> Any:
    """Return what `found` returns, once that is something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (it := found()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return it


def test_rows_are_answered_and_cached_and_what_the_library_fails_at_fails_alone(bench: Bench) -> None:
    made = operator(bench, cache=str(bench.folder / "cache"), meta=True, max_retries=1)
    prompts = ["one", "two words", "one", "long one", "fail it"]
    report = run(bench, prompts, made, parallel_size=1)
    assert report.status is Status.COMPLETED
    assert answers(bench) == {"one": "ONE", "two words": "TWO WORDS"}
    where = "engine://scripted/m"
    assert failed(bench) == {
        "long one": f"{where}, row 3: the prompt has 9 tokens, and prompt and answer may have 8 together",
        "fail it": f"{where}, row 4: ValueError: a failure of the library (try 2 of 2)",
    }
    (worker,) = loads(bench)
    texts = [text for _, text in notes(bench.folder)]
    assert texts.count("one") == 1  # the second is answered by the cache
    assert texts.count("long one") == 1  # it is as long the next time
    assert texts.count("fail it") == 2
    assert texts[-1] == "close"
    assert are_gone([worker])
    (used,) = report.usage
    assert {name: used[name] for name in ("provider", "model", "requests", "prompt_tokens", "cost")} == {
        "provider": "scripted",
        "model": "m",
        "requests": 3,  # with a ping, which shows that the failure is the row's
        "prompt_tokens": 4,
        "cost": 0.0,
    }
    of_first = lines(bench.output)[0]["_meta"]["node_0"]
    assert (of_first["endpoint"], of_first["cost"]) == (where, 0.0)


def test_a_worker_that_is_killed_takes_no_row_with_it_but_the_one_that_kills(bench: Bench) -> None:
    prompts = [*(f"wait {number}" for number in range(5)), "die", "die once"]
    bench.give([{"q": prompt} for prompt in prompts])
    (bench.folder / "go").touch()
    report = run(bench, prompts, operator(bench, max_retries=0))
    assert report.status is Status.COMPLETED
    assert answers(bench) == {prompt: prompt.upper() for prompt in prompts if prompt != "die"}
    (why,) = failed(bench).values()
    assert "worker 0 of the engine 'Scripted' was killed by SIGKILL (which is what the system does when memory" in why
    assert "while it made the call of row 5 alone, for the second time" in why
    workers = loads(bench)
    assert len(workers) == len(set(workers)) in (3, 4)
    assert are_gone(workers)
    assert "was killed by SIGKILL" in bench.log.read_text()
    assert "it is started again" in bench.log.read_text()


@pytest.mark.slow
def test_two_nodes_share_the_workers_and_each_worker_has_its_devices(bench: Bench) -> None:
    bench.give([{"q": "one"}, {"q": "two"}])
    stages = [operator(bench, devices=["3", "4,5"], output=output, name=output) for output in ("answer", "again")]
    report = bench.pipeline(stages, streaming=True, parallel_size=2).create("run").run(progress=False)
    assert report.status is Status.COMPLETED
    assert sorted(text for _, text in notes(bench.folder) if text.startswith("load")) == ["load 3", "load 4,5"]
    assert sorted(row["again"] for row in lines(bench.output)) == ["ONE", "TWO"]


@pytest.mark.sampled(1, of=4)
@pytest.mark.parametrize(
    ("load", "says"),
    [
        ("refuse", "engine 'Scripted': there is no such model: take another$"),
        ("die", "worker 0 of the engine 'Scripted' has ended with status 3; its last words:\nno memory for it$"),
        ("fail", "engine 'Scripted': /.*/m cannot be loaded: ValueError: what a library says$"),
        ("no module", "engine 'Scripted': .*engine 'tests.nowhere:Scripted' cannot be imported"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_told_once_before_any_row(bench: Bench, load: str, says: str) -> None:
    if load == "no module":
        engine = Engine(kind="tests.nowhere:Scripted", path=str(bench.folder / "m"))
    else:
        engine = Engine(kind=KIND, path=str(bench.folder / "m"), options={"folder": str(bench.folder), "load": load})
    made = LLMOperator("{{ q }}", model="m", engine=engine)
    with pytest.raises(ConfigError, match=says):
        asyncio.run(run_rows(made, []))
    assert len(loads(bench)) == (load != "no module")
    assert are_gone(loads(bench))


@pytest.mark.slow
def test_workers_that_die_again_and_again_end_the_run_and_a_resume_goes_on(bench: Bench) -> None:
    prompts = ["one", *(f"die {number}" for number in range(3)), "two"]
    broken = operator(bench, options={"ping": "die"}, max_restarts=2, max_retries=0)
    with pytest.raises(NodeFailedError, match="makes no calls any more: worker 0 of the engine"):
        run(bench, prompts, broken)
    assert len(loads(bench)) == 3
    assert failed(bench) == {}
    bench.pipeline([operator(bench, max_restarts=9)], on_error="dead_letter").resume("run").run(progress=False)
    assert set(failed(bench)) == {"die 0", "die 1", "die 2"}
    assert answers(bench) == {"one": "ONE", "two": "TWO"}
    assert are_gone(loads(bench))


@pytest.mark.slow
def test_a_worker_that_is_killed_from_outside_is_started_again_and_every_row_is_there(bench: Bench) -> None:
    bench.give([{"q": f"wait {number}"} for number in range(12)])
    pipeline = bench.pipeline([operator(bench, devices=["0", "1"])], parallel_size=8).create("run")
    pipeline.start()
    waiting = wait_for(lambda: [pid for pid, text in notes(bench.folder) if text.startswith("wait")][7:])
    os.kill(waiting[0], signal.SIGKILL)
    wait_for(lambda: loads(bench)[2:])
    (bench.folder / "go").touch()
    assert pipeline.wait(PATIENCE_SECONDS).status is Status.COMPLETED
    assert sorted(answers(bench)) == sorted(f"wait {number}" for number in range(12))
    assert failed(bench) == {}
    assert are_gone(loads(bench))


@pytest.mark.slow
def test_a_call_that_takes_too_long_fails_alone_and_a_worker_that_hangs_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_worker, "HANG_SECONDS", 0.5)

    async def ask() -> None:
        made = operator(bench, timeout=1.0, max_retries=0)
        await made.setup()
        try:
            waits = [made.process_item({"q": prompt}, Context()) for prompt in ("wait", "one")]
            late, answered = await asyncio.gather(*waits, return_exceptions=True)
            assert answered == {"q": "one", "answer": "ONE"}
            assert isinstance(late, LLMRequestError)
            assert str(late).startswith("no answer within 1 s from engine://scripted/m, a row without an id: raise")
            with pytest.raises(LLMRequestError, match="no answer within 1 s"):
                await made.process_item({"q": "block"}, Context())
            wait_for(lambda: loads(bench)[1:])
            assert await made.process_item({"q": "two"}, Context()) == {"q": "two", "answer": "TWO"}
        finally:
            await made.teardown()

    asyncio.run(ask())
    assert len(loads(bench)) == 2
    assert are_gone(loads(bench))


def started(bench: Bench, prompts: list[str], workers: int = 1) -> subprocess.Popen[str]:
    """Start the job in a process of its own, out of this one's group."""
    bench.give([{"q": prompt} for prompt in prompts])
    command = [sys.executable, "-m", f"{__package__}.engine_job", str(workers)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command, cwd=bench.folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker finds out by itself, in a second")
def test_workers_die_with_the_process_that_is_killed_and_a_resume_answers_every_row_once(bench: Bench) -> None:
    prompts = [f"wait {number}" for number in range(8)]
    with started(bench, prompts, workers=2) as job:
        wait_for(lambda: len(notes(bench.folder)) >= 8)
        job.kill()
    workers = loads(bench)
    assert len(workers) == 4  # with a process that each has started
    wait_for(lambda: are_gone(workers))
    (bench.folder / "go").touch()
    with started(bench, prompts) as job:
        _, said = job.communicate(timeout=PATIENCE_SECONDS)
    assert (job.returncode, said) == (0, "")
    assert sorted(row["q"] for row in lines(bench.output)) == prompts
    assert are_gone(loads(bench))


@pytest.mark.slow
@pytest.mark.parametrize("when", ["in calls", "while the model is loaded"])
def test_ctrl_c_ends_a_run_and_leaves_no_worker(bench: Bench, when: str) -> None:
    prompts = ["one", *(f"wait {number}" for number in range(7))]
    with started(bench, prompts) as job:
        if when == "in calls":
            wait_for(lambda: len(notes(bench.folder)) >= 5)
        else:
            wait_for(lambda: psutil.Process(job.pid).children())
        os.killpg(job.pid, signal.SIGINT)  # as a terminal sends it, to all processes of the group
        time.sleep(0.5)
        (bench.folder / "go").touch()
        job.communicate(timeout=PATIENCE_SECONDS)
    assert job.returncode != 0
    assert are_gone(loads(bench))
    with started(bench, prompts) as job:
        _, said = job.communicate(timeout=PATIENCE_SECONDS)
    assert (job.returncode, said) == (0, "")
    assert sorted(row["q"] for row in lines(bench.output)) == sorted(prompts)
