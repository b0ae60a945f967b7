"""`llm_datagen.testing`, which users have, too."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import BaseOperator, ConfigError, DiskError, INodeContext, JsonlStream, NodeFailedError, ops
from llm_datagen.runs import RunFolder
from llm_datagen.streams import FileStream
from llm_datagen.streams.storage.local import LOCAL_STORAGE
from llm_datagen.testing import (
    ENV,
    CallCounter,
    Fault,
    FaultPlan,
    ManualClock,
    RecordingHooks,
    crash_at,
    inject,
    inject_from_env,
    record,
)

from ..kit.support import Bench, bag, lines, numbered


class Copy(BaseOperator):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return item


class CopyBatch(BaseOperator):
    name = "copy"

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return list(items)


class AsyncCopy(BaseOperator):
    name = "copy"

    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        await asyncio.sleep(0)
        return item


class AsyncCopyBatch(BaseOperator):
    name = "copy"

    async def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        await asyncio.sleep(0)
        return list(items)


def test_a_plan_survives_json_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = FaultPlan(
        (
            Fault(operation="write", path="*.commits", hit=3, action="tear", keep=5),
            Fault(operation="rename", path="*.done", action="raise", error="EIO", when="after", times=None),
            Fault(action="delay", seconds=0.5),
        )
    )
    assert FaultPlan.from_json(plan.to_json()) == plan
    before = FileStream.storage
    monkeypatch.delenv(ENV, raising=False)
    assert inject_from_env() is None
    assert FileStream.storage is before
    monkeypatch.setenv(ENV, plan.as_env()[ENV])
    with inject(None):  # which puts the disk back
        storage = inject_from_env()
        assert storage is FileStream.storage
        assert storage is not None
        assert storage.plan == plan
    assert FileStream.storage is before


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"operation": "chew"}, "chew"),
        ({"hit": 0}, "hit"),
        ({"keep": -1}, "keep"),
        ({"times": 0}, "times"),
        ({"action": "raise"}, "error"),
        ({"action": "delay"}, "seconds"),
        ({"error": "EWHAT"}, "EWHAT"),
        ({"path": ""}, "path"),
    ],
)
def test_a_wrong_fault_is_refused_by_name(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Fault(**wrong)
    with pytest.raises(ConfigError, match="not a fault plan"):
        FaultPlan.from_json("{}")


def test_an_error_comes_at_the_hit_that_was_asked_for_and_names_the_file(tmp_path: Path) -> None:
    stream = JsonlStream(f"jsonl://{tmp_path / 'out.jsonl'}")
    with inject(Fault(operation="write", path="*/out.jsonl", hit=2, action="raise", error="ENOSPC")) as storage:
        writer = stream.get_writer()
        writer.write([{"n": 0}])
        with pytest.raises(DiskError, match=r"No space left on device .*out\.jsonl") as caught:
            writer.write([{"n": 1}])
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(Exception, match="failed before"):
            writer.close()
    assert [(fault.hit, Path(point.path).name) for fault, point in storage.fired] == [(2, "out.jsonl")]
    writer._sink.close()
    with stream.get_writer() as writer:
        writer.write([{"n": 1}])
    assert [row["n"] for row in lines(tmp_path / "out.jsonl")] == [0, 1]


def test_a_torn_write_leaves_its_first_bytes(tmp_path: Path) -> None:
    stream = JsonlStream(f"jsonl://{tmp_path / 'out.jsonl'}")
    with inject(Fault(operation="write", path="*/out.jsonl", action="tear", keep=4, error="EIO")):
        writer = stream.get_writer()
        with pytest.raises(DiskError):
            writer.write([{"n": 0}])
    assert len((tmp_path / "out.jsonl").read_bytes()) == 4
    writer._sink.close()


def test_a_delay_ends_when_the_disk_thaws(tmp_path: Path) -> None:
    with inject(Fault(operation="rename", action="delay", seconds=600)) as storage:
        threading.Timer(0.05, storage.thaw).start()
        with JsonlStream(f"jsonl://{tmp_path / 'out.jsonl'}").get_writer() as writer:
            writer.write([{"n": 0}])
    assert len(lines(tmp_path / "out.jsonl")) == 1


def test_every_failpoint_of_a_run_is_recorded(bench: Bench) -> None:
    bench.give(numbered(3))
    with record() as storage:
        bench.pipeline([Copy()], writer_config={"fsync": "flush"}).create("a").run()
    found = {(point.operation, Path(point.path).name) for point in storage.hits}
    assert {
        ("open", "in.jsonl"), ("read", "in.jsonl"), ("lock", "out.jsonl"), ("lock", "lock"), ("write", "out.jsonl"),
        ("fsync", "out.jsonl"), ("write", "out.jsonl.commits"), ("fsync", "out.jsonl.commits"),
        ("write", "out.jsonl.done.tmp"), ("rename", "out.jsonl.done"), ("remove", "out.jsonl.commits"),
        ("write", "runtime.json.tmp"), ("rename", "runtime.json"), ("rename", "checkpoint.json"),
    } <= found  # fmt: skip


def test_what_recovery_cuts_off_is_cut_at_failpoints(bench: Bench) -> None:
    """Point by point: the torn tails of the rows and of the dead letters."""
    bench.give(numbered(5))

    def work(item: Any) -> Any:
        if item["n"] == 1:
            raise ValueError
        if item["n"] == 3 and not mended:
            raise SystemExit
        return item

    mended: list[int] = []
    pipeline = bench.pipeline([work], on_error="dead_letter", max_errors=1).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    mended.append(1)
    for name in (str(bench.output), f"{bench.output}.errors.jsonl"):
        with Path(name).open("a") as file:
            file.write("torn")
    pipeline.resume("a")
    with record() as storage:
        pipeline.run()
    found = [Path(point.path).name for point in storage.hits if point.operation == "truncate"]
    assert found == ["out.jsonl", "out.jsonl.errors.jsonl"]


OFF = """
import sys
from llm_datagen import UnifiedPipeline
from llm_datagen.runs import RunFolder
from llm_datagen.streams import FileStream
from llm_datagen.streams.storage.local import LOCAL_STORAGE, LocalStorage
UnifiedPipeline([lambda row: row], "jsonl://in.jsonl", "jsonl://out.jsonl", log_file=None).create("a").run()
assert not [name for name in sys.modules if name.startswith("llm_datagen.testing")]
assert FileStream.storage is RunFolder.storage is LOCAL_STORAGE and type(LOCAL_STORAGE) is LocalStorage
"""


@pytest.mark.slow
@pytest.mark.process
def test_faults_that_are_off_cost_nothing(bench: Bench) -> None:
    """A run uses the plain disk, and the tools are not even imported, whatever the environment says."""
    bench.give(numbered(3))
    plan = FaultPlan((Fault(operation="write", action="kill"),))
    env = {**os.environ, **plan.as_env()}
    subprocess.run([sys.executable, "-c", OFF], env=env, cwd=bench.folder, check=True)


def test_the_plain_disk_is_back_whatever_happened(tmp_path: Path) -> None:
    with pytest.raises(DiskError), inject(Fault(operation="open", action="raise", error="EIO")):
        JsonlStream(str(tmp_path / "out.jsonl")).get_writer()
    assert FileStream.storage is RunFolder.storage is LOCAL_STORAGE


KILLED = """
import sys
from pathlib import Path
from llm_datagen import UnifiedPipeline
from llm_datagen.testing import CallCounter, crash_at, inject_from_env
inject_from_env()
folder = Path(sys.argv[1])
def work(item): return item
operator = CallCounter(folder / "counts")(work)
if sys.argv[2]: operator = crash_at(*map(int, sys.argv[2].split()), file=folder / "crashes")(operator)
UnifiedPipeline([operator], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl", base_path=folder,
    results_dir=folder / "results", log_file=None).create("a", if_exists="resume").run()
"""


def killed(bench: Bench, crashes: str = "", plan: FaultPlan | None = None) -> int:
    env = {**os.environ, **(plan.as_env() if plan else {})}
    return subprocess.run([sys.executable, "-c", KILLED, str(bench.folder), crashes], env=env, check=False).returncode


@pytest.mark.slow
@pytest.mark.process
def test_a_plan_in_the_environment_kills_a_process(bench: Bench) -> None:
    """M21: killed between the data and the seal; the next process goes on."""
    bench.give(numbered(50))
    plan = FaultPlan((Fault(operation="rename", path="*.done", when="before"),))
    assert killed(bench, plan=plan) == -signal.SIGKILL
    assert not bench.is_sealed()
    assert killed(bench) == 0
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(50))


@pytest.mark.slow
@pytest.mark.process
def test_crashes_are_counted_across_processes_and_calls_by_row(bench: Bench) -> None:
    """R2: two crashes at chosen calls; what was called again is what was in flight."""
    bench.give(numbered(50))
    assert killed(bench, "10 30") == -signal.SIGKILL
    assert killed(bench, "10 30") == -signal.SIGKILL
    assert killed(bench, "10 30") == 0
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(50))
    counts = CallCounter(bench.folder / "counts").counts()
    assert set(counts) == set(range(50))
    assert (bench.folder / "crashes").stat().st_size == counts.total() + 2


@pytest.mark.parametrize("operator", [Copy(), CopyBatch(), AsyncCopy(), AsyncCopyBatch(), lambda item: item])
def test_every_kind_of_operator_can_be_wrapped(bench: Bench, operator: Any) -> None:
    bench.give(numbered(20))
    counter = CallCounter(bench.folder / "counts")
    wrap = crash_at(3, file=bench.folder / "crashes", error=lambda: RuntimeError("as planned"))
    wrapped = wrap(counter(operator))
    pipeline = bench.pipeline([wrapped], batch_size=4).create("a")
    with pytest.raises(NodeFailedError, match="as planned"):
        pipeline.run()
    bench.pipeline([operator]).resume("a").run()  # the same identity
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(20))
    assert counter.total() >= 2


@pytest.mark.parametrize("operator", [ops.Dedupe("k"), ops.Shuffle(), ops.GroupBy("k", sorted=True)])
def test_an_operator_with_state_and_an_end_can_be_wrapped(bench: Bench, operator: Any) -> None:
    bench.give([{"k": n // 2} for n in range(6)])
    counter = CallCounter(bench.folder / "counts")
    bench.pipeline([counter(operator)]).create("a").run()
    found = lines(bench.output)
    bench.pipeline([operator]).create("a", if_exists="overwrite").run()
    assert lines(bench.output) == found != []
    assert counter.total() == 6


def test_bare_values_are_counted_by_value(tmp_path: Path) -> None:
    counter = CallCounter(tmp_path / "counts")
    assert counter.counts() == Counter()
    counter.note(["a", {"_i": "3_1"}])
    counter.note(("a",))
    assert counter.counts() == {'value "a"': 2, "3_1": 1}
    assert counter.total() == 3


def test_hooks_are_recorded(bench: Bench) -> None:
    bench.give(numbered(5))
    hooks = RecordingHooks()
    bench.pipeline([Copy()], hooks=hooks).create("a").run()
    assert hooks.wait_for("on_pipeline_end") == [("a", True, None)]
    assert hooks.calls[0].name == "on_pipeline_start"
    assert hooks.of("on_node_progress")[-1][:4] == ("a", "node_0", 5, 5)
    with pytest.raises(TimeoutError, match="on_node_error"):
        hooks.wait_for("on_node_error", timeout=0.01)


def test_time_moves_when_told_to() -> None:
    clock = ManualClock()
    clock.advance(2.5)
    assert clock.monotonic() == 2.5
