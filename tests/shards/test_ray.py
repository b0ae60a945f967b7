"""Shards on a Ray cluster of three nodes: the rows of one run, whatever dies."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_datagen.messages import Cancel, GetStatus, Pause, Unpause
from llm_datagen.operators import INodeContext
from llm_datagen.runs.logs import events
from llm_datagen.shards.pipeline import ShardedPipeline
from llm_datagen.shards.ray import RayExecutor

from ..kit.programs import Program
from ..kit.ray_cluster import RayCluster
from ..kit.s3 import S3Bucket
from ..kit.shards import rows_in_shards
from ..kit.support import Bench, Calls, eventually, lines, nothing_left, numbered

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

WORKER = "llm_datagen.shards.worker"
LOST_SECONDS = 6.0
NODES = ("a", "b")


@pytest.fixture(scope="module")
def _cluster() -> Iterator[RayCluster]:
    cluster = RayCluster()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        try:
            yield cluster
        finally:
            cluster.close()


@pytest.fixture
def cluster(_cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    """The cluster of this file, with both its nodes, one shard's room on each."""
    monkeypatch.chdir(tmp_path)
    _cluster.add_missing(NODES)
    return _cluster


def executor(address: str, **options: Any) -> RayExecutor:
    return RayExecutor(address, **{"lost_seconds": LOST_SECONDS, **options})


class Held:
    """Counts its calls. Every fifth row waits until it may go on.

    Args:
        folder: where calls, and rows that wait, are noted, and where a file "go" lets them go on.
        is_held: whether any waits.
    """

    version = "1"

    def __init__(self, folder: Path, *, is_held: bool = True) -> None:
        self.calls, self.held = Calls(folder / "calls"), Calls(folder / "held")
        self._go, self._is_held = folder / "go", is_held

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row, with twice its number."""
        if self._is_held and item["n"] % 5 == 4 and not self._go.exists():
            self.held.note(item["n"])
            eventually(lambda: self._go.exists() or ctx.is_cancelled(), "it may go on", 200)
        self.calls.note(item["n"])
        return {**item, "double": 2 * item["n"]}

    def go(self) -> None:
        """Let all rows go on."""
        self._go.touch()

    def until_two_are_held(self) -> None:
        """Wait until two shards are held: each does one row at a time."""
        eventually(lambda: len(self.held.all()) == 2, "two shards are held")


def expected(rows: int) -> list[dict[str, Any]]:
    return [{"n": n, "double": 2 * n, "_i": n} for n in range(rows)]


def check_rows(bench: Bench, held: Held, rows: int, *, again: int = 0) -> None:
    """Check that each row is there once, and that no more than `again` calls were made twice."""
    assert rows_in_shards(bench, "a", "node_0") == expected(rows)
    counted = held.calls.all()
    assert set(counted) == {str(n) for n in range(rows)}
    assert sum(counted.values()) - rows <= again


@pytest.mark.sampled(1, of=1)
@pytest.mark.parametrize("way", ["from any machine", "from a node"])
def test_the_rows_of_a_run_on_ray_are_those_of_one_run_on_one_machine(
    bench: Bench, cluster: RayCluster, way: str
) -> None:
    """R2: each row once, with its id, and no call twice; a second run on the same executor works, too."""
    bench.give(numbered(200))
    address = cluster.client_address if way == "from any machine" else cluster.address
    held = Held(bench.folder, is_held=False)
    (bench.folder / "one").mkdir()
    bench.pipeline([Held(bench.folder / "one", is_held=False)], ordered=True).create("one").run()
    ray = RayExecutor(address)
    other = bench.pipeline([held], ordered=True, output_uri=f"jsonl://{bench.folder}/b.jsonl")
    with nothing_left():
        report = ShardedPipeline(other, shards=5, executor=ray).create("a").run(progress=False)
    assert report.status == "completed"
    assert rows_in_shards(bench, "a", "node_0") == lines(bench.output) == expected(200)
    check_rows(bench, held, 200)
    assert not any(cluster.processes(name, WORKER) for name in NODES)


def test_in_a_store_the_rows_are_those_of_one_run(bench: Bench, cluster: RayCluster, s3: S3Bucket) -> None:
    """Nodes that share no folder: streams and run states lie on S3; the nodes know it by their runtime environment."""
    rows = 40
    held = Held(bench.folder, is_held=False)
    source = s3.put("in.jsonl", "".join(f'{{"n": {n}}}\n' for n in range(rows)).encode())
    pipeline = bench.pipeline(
        [held], input_uri=source, output_uri=s3.uri("to/out.jsonl"), results_dir=s3.uri("results"),
        base_path=s3.uri("between"),
    )  # fmt: skip
    ray = executor(cluster.address, runtime_env={"env_vars": s3.server.environment})
    ShardedPipeline(pipeline, shards=3, executor=ray).create("a").run(progress=False)
    bench.results = s3.uri("results")  # type: ignore[assignment]
    check_rows(bench, held, rows)


def test_a_shard_whose_node_dies_goes_on_elsewhere(bench: Bench, cluster: RayCluster) -> None:
    """A node is killed with all that runs on it: what was committed there is kept, and nothing is there twice."""
    bench.give(numbered(80))
    held = Held(bench.folder)
    pipeline = bench.pipeline([held], parallel_size=1)
    whole = ShardedPipeline(pipeline, shards=4, executor=executor(cluster.address)).create("a")
    whole.start()
    held.until_two_are_held()
    cluster.kill("b")
    held.go()
    assert whole.wait().status == "completed"
    check_rows(bench, held, 80, again=4)
    lost = [line for line in bench.log_lines() if line["event"] == events.SHARD_LOST]
    assert len(lost) == 1
    assert "the Ray actor of shard" in lost[0]["message"]


DRIVER = """
import sys
from pathlib import Path
from llm_datagen.shards.pipeline import ShardedPipeline
from llm_datagen.shards.ray import RayExecutor
from tests.kit.support import Bench
from tests.shards.test_ray import Held

folder, address, lost_seconds = sys.argv[1:]
bench = Bench(Path(folder))
held = Held(bench.folder)
ray = RayExecutor(address, lost_seconds=float(lost_seconds))
pipeline = ShardedPipeline(bench.pipeline([held], parallel_size=1), shards=4, executor=ray)
pipeline.create("a", if_exists="resume").run(progress=False)
"""


def test_a_run_whose_driver_was_killed_goes_on(bench: Bench, cluster: RayCluster) -> None:
    """The shards of the dead driver end: nothing runs that nobody waits for. A resume has each row once."""
    bench.give(numbered(80))
    held = Held(bench.folder)
    arguments = ["-c", DRIVER, bench.folder, cluster.client_address, LOST_SECONDS]
    driver = Program(arguments, cwd=Path(__file__).parents[2])
    held.until_two_are_held()
    driver.kill()
    assert driver.wait() == -9
    eventually(lambda: not any(cluster.processes(name, WORKER) for name in NODES), "the shards have ended")
    held.go()
    again = Program(arguments, cwd=Path(__file__).parents[2])
    assert again.wait(200) == 0
    check_rows(bench, held, 80, again=8)


def test_a_head_that_is_started_anew_is_connected_to_again(bench: Bench, cluster: RayCluster) -> None:
    """The driver survives its cluster: with a new head, and new nodes, its shards go on."""
    bench.give(numbered(80))
    held = Held(bench.folder)
    pipeline = bench.pipeline([held], parallel_size=1)
    whole = ShardedPipeline(pipeline, shards=4, executor=executor(cluster.client_address)).create("a")
    whole.start()
    held.until_two_are_held()
    for name in ("head", *NODES):
        cluster.kill(name)
    cluster.start_head()
    cluster.add_missing(NODES)
    held.go()
    assert whole.wait().status == "completed"
    check_rows(bench, held, 80, again=8)


def test_commands_reach_the_shards(bench: Bench, cluster: RayCluster) -> None:
    """Pause, status and cancel go through Ray to the actor of each run; a cancelled run is resumed."""
    bench.give(numbered(40))
    held = Held(bench.folder)
    pipeline = bench.pipeline([held], parallel_size=1)
    whole = ShardedPipeline(pipeline, shards=2, executor=executor(cluster.address)).create("a")
    actor = whole.start()
    held.until_two_are_held()

    def ask(message: object) -> Any:
        return actor.ask(message)

    eventually(lambda: ask(GetStatus()).nodes[0].rows_in > 0, "it is known what was done")
    assert ask(Pause()).paused
    assert not ask(Unpause()).paused
    actor.tell(Cancel("enough"))
    assert whole.wait().status == "canceled"
    held.go()
    whole.resume("a").run(progress=False)
    check_rows(bench, held, 40)


@pytest.mark.torture
def test_shards_run_where_their_resources_are(
    bench: Bench, cluster: RayCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """A custom resource: only the node that has it runs a shard; before it is there, the shards wait."""
    bench.give(numbered(10))
    held = Held(bench.folder)
    pipeline = bench.pipeline([held])
    ray = executor(cluster.address, resources={"num_cpus": 0.5, "licence": 1})
    whole = ShardedPipeline(pipeline, shards=2, executor=ray).create("a")
    whole.start()
    text = "no node of the Ray cluster has what a shard needs (num_cpus=0.5, licence=1): shards wait until one joins"
    eventually(lambda: text in caplog.text, "it is said that no node has it")
    cluster.add_node("c", resources='{"licence": 1}')
    try:
        eventually(lambda: cluster.processes("c", WORKER), "a shard on the node that has it")
        assert not any(cluster.processes(name, WORKER) for name in NODES)
        held.go()
        whole.wait()
        check_rows(bench, held, 10)
    finally:
        cluster.kill("c")


@pytest.mark.torture
def test_a_ray_that_is_started_for_a_run_ends_with_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one machine, nothing has to be set up, and nothing is left: no process, no folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    bench.give(numbered(20))
    held = Held(bench.folder, is_held=False)
    folders, processes = set(Path("/tmp").glob("ray-*")), ray_processes()
    with nothing_left():
        whole = ShardedPipeline(bench.pipeline([held]), shards=2, executor=RayExecutor("local")).create("a")
        whole.start()
        assert whole.wait().status == "completed"
    check_rows(bench, held, 20)
    eventually(lambda: not ray_processes() - processes, "all of Ray has ended")
    assert set(Path("/tmp").glob("ray-*")) <= folders


def ray_processes() -> set[int]:
    """Return the ids of the processes of all Rays of this machine."""
    found = {each.pid: " ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])}
    return {pid for pid, line in found.items() if any(word in line for word in ("/ray/", "ray::", "ray.broker"))}
