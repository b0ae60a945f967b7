"""Sharded runs that are simulated keep what sharded runs promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .__main__ import SCENARIOS, lines
from .cluster import simulate
from .limit import Limit, most_in_a_minute
from .scenario import Scenario

SMALL = Scenario(rows=5_000_000, shards=100, grain=64, nodes=10)
"""80 workers, a quarter of an hour."""

SPOT = replace(SMALL, node_life=3600.0, replace_seconds=60.0)
"""About three nodes of its ten die."""

LIMITED = Scenario(rows=1_000_000, shards=32, grain=64, nodes=4, limit=40_000, slice_seconds=2.0)
"""32 workers, which could do 100,000 calls a minute."""


@pytest.mark.parametrize("seed", range(3))
def test_each_row_is_done_once_whatever_dies_and_is_split(seed: int) -> None:
    found = simulate(replace(SPOT, seed=seed))  # it checks that
    assert found.splits > 50
    assert found.takeovers <= 8 * found.deaths
    assert found.folders == 100 + found.splits + found.takeovers


def test_calls_are_repeated_for_what_was_in_flight_at_a_death_alone() -> None:
    assert simulate(SMALL).repeated == 0
    found = simulate(replace(SPOT, seed=3, node_life=1800.0))
    assert found.deaths >= 4
    assert found.takeovers * 32 < found.repeated <= found.bound


def test_a_seed_gives_the_same_run_again_and_another_one_another() -> None:
    one, again, other = (simulate(replace(SPOT, seed=seed)) for seed in (7, 7, 8))
    assert one == again
    assert one.seconds != other.seconds


def test_with_stealing_no_shard_ends_long_after_the_others() -> None:
    assert simulate(SMALL).idle_share < 0.05
    assert simulate(replace(SMALL, has_stealing=False)).idle_share > 0.3


def test_a_straggler_keeps_no_more_than_it_can_do_until_the_others_have_ended() -> None:
    found = simulate(replace(SMALL, spread=0.6))
    assert found.seconds < 1.2 * found.ideal_seconds


@pytest.mark.parametrize("node_life", [None, 3600.0])
def test_a_limit_is_kept_in_each_sliding_minute_and_used(node_life: float | None) -> None:
    found = simulate(replace(LIMITED, node_life=node_life))  # it checks that it is kept
    assert found.most_in_a_minute > 39_000
    assert found.limit_used >= 0.9


def test_a_grant_that_is_used_late_and_one_that_is_used_early_are_not_in_one_minute_with_more() -> None:
    limit = Limit(10, slice_seconds=5.0)
    assert [limit.ask(0.0, 7), limit.ask(1.0, 7), limit.ask(64.9, 7)] == [7, 3, 0]
    assert [limit.ask(65.0, 20), limit.ask(66.0, 20)] == [7, 3]
    assert most_in_a_minute([(5.0, 7), (6.0, 3), (65.0, 7), (66.0, 3)]) == 10
    assert most_in_a_minute([(5.0, 7), (6.0, 3), (64.9, 7)]) == 17


def test_the_table_has_a_line_for_each_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    table = [line.split("|") for line in lines([simulate(SMALL), simulate(LIMITED)])]
    assert {len(line) for line in table} == {len(table[0])}
    assert len(table) == 4
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


@pytest.mark.slow
def test_a_thousand_shards_and_a_billion_rows() -> None:
    found = simulate(Scenario(grain=64, node_life=5 * 3600.0))
    assert found.deaths > 100
    assert found.seconds < 1.06 * found.ideal_seconds
    assert found.repeated < 0.0003 * found.scenario.rows
