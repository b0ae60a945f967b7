"""The file of a plan: made once, split by one at a time, never half there."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

from llm_datagen.errors import PipelineNotFoundError, RunError, RunStateError
from llm_datagen.shards.plan import Cut, ShardPlan, ShardRange
from llm_datagen.shards.plan_file import PlanFile
from llm_datagen.streams.checksums import with_check


def plan_of(uri: str = "in.jsonl") -> ShardPlan:
    cuts = tuple(Cut(row, 10 * row) for row in range(1, 40))
    ranges = (ShardRange(0, Cut(0, 0), Cut(20, 200)), ShardRange(1, Cut(20, 200), Cut(40, 400)))
    return ShardPlan(uri, [400, 7], 2, cuts, ranges)


def created(folder: str, name: str) -> str:
    return PlanFile(folder).create(plan_of(name)).input_uri


def split(folder: str, row: int) -> None:
    """Split the first range, unless another process has split it before that row."""
    with suppress(RunError):
        PlanFile(folder).split(0, Cut(row, 10 * row))


def check_of_many(folder: str, processes: int) -> None:
    """Have several processes make and split a plan at once; check that there is one, which has each split."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        names = list(pool.map(created, [folder] * 8, map(str, range(8))))
        assert len(set(names)) == 1
        list(pool.map(split, [folder] * 9, range(19, 10, -1)))
    plan = PlanFile(folder).load()
    assert plan.input_uri == names[0]
    assert sorted(each.number for each in plan.ranges) == list(range(len(plan.ranges)))
    assert sum(each.rows for each in plan.ranges) == 40
    assert plan.ranges[0] == ShardRange(0, Cut(0, 0), Cut(11, 110))


@pytest.mark.slow
def test_of_several_processes_one_makes_the_plan_and_no_split_is_lost(tmp_path: Path) -> None:
    check_of_many(f"{tmp_path}/shards", 3)


def test_the_first_plan_stays(tmp_path: Path) -> None:
    file = PlanFile(f"{tmp_path}/shards")
    assert file.find() is None
    with pytest.raises(PipelineNotFoundError, match=r"there is no plan of shards \(.*/shards/plan\.json\)"):
        file.load()
    assert file.create(plan_of()) == plan_of()
    assert file.create(plan_of("other.jsonl")) == plan_of()
    assert file.load() == plan_of()


def test_a_range_is_split_where_it_is_said_and_gets_the_next_number(tmp_path: Path) -> None:
    file = PlanFile(f"{tmp_path}/shards")
    file.create(plan_of())
    plan = file.split(0, Cut(5, 50))
    assert plan.ranges == (
        ShardRange(0, Cut(0, 0), Cut(5, 50)),
        ShardRange(2, Cut(5, 50), Cut(20, 200)),
        ShardRange(1, Cut(20, 200), Cut(40, 400)),
    )
    assert file.split(0, Cut(5, 50)) == plan == file.load()
    assert [cut.row for cut in plan.cuts_in(plan.range_of(0))] == [1, 2, 3, 4]
    assert plan.range_of_row(19).number == 2
    with pytest.raises(RunError, match=r"shard 1 cannot be split at row 20: it has the rows 20 to 40"):
        file.split(1, Cut(20, 200))
    with pytest.raises(RunError, match=r"there is no shard 9: the plan has 3, from 0"):
        file.split(9, Cut(20, 200))
    with pytest.raises(RunError, match=r"in\.jsonl has no row 40: it has 40, numbered from 0"):
        plan.range_of_row(40)


def test_a_plan_that_was_damaged_or_is_of_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    file = PlanFile(f"{tmp_path}/shards")
    file.create(plan_of())
    whole = Path(file.path).read_bytes()
    for damaged in (whole.replace(b"200", b"210", 1), whole[:50], b"", b"[]", b"{}"):
        Path(file.path).write_bytes(damaged)
        with pytest.raises(RunStateError, match=r"/shards/plan\.json (was damaged|cannot be read)"):
            file.load()
    Path(file.path).write_bytes(with_check(json.dumps({**json.loads(whole), "format": 2}).encode()))
    with pytest.raises(RunStateError, match="it has format 2, and this version reads 1"):
        file.load()
