"""How many rows may fail before the run does (M24), and going on after that."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_datagen import ConfigError, NodeFailedError, TooManyErrorsError
from llm_datagen.config import FailurePolicy

from ..kit.support import Bench, lines, numbered, pairwise
from ..pipeline.chains import operator
from .helpers import PoisonError, Seen, accounts_of, check_counts, dead_letters_of, double, poisoned


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("limit", "style", "on_error"),
    pairwise([0, 1, 7], ["item", "batch", "async item"], ["skip", "dead_letter"]),
)
def test_one_row_too_many_ends_the_run(bench: Bench, limit: int, style: str, on_error: str) -> None:
    """M24: with the error of that row as the cause of the cause; the others that failed are saved as such."""
    rows = numbered(100)
    bench.give(rows)
    bad = range(3, 100, 9)
    pipeline = bench.pipeline([operator(style, poisoned(bad))], on_error=on_error, max_errors=limit).create("a")
    with pytest.raises(NodeFailedError) as caught:
        pipeline.run()
    error = caught.value.__cause__
    assert isinstance(error, TooManyErrorsError)
    assert str(error) == (
        f"{limit + 1} rows failed, more than max_errors={limit} allows; the last one: "
        f"PoisonError: row {bad[limit]} is bad"
    )
    assert isinstance(error.__cause__, PoisonError)
    assert bench.run_state("a")["error"] == f"TooManyErrorsError: {error}"
    (account,) = accounts_of(bench)
    assert account.skipped + account.dead == limit
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.output)] == (
        list(bad[:limit]) if on_error != "skip" else []
    )


@pytest.mark.parametrize("limit", [11, 0.11, None])
def test_as_many_as_allowed_do_not_end_the_run(bench: Bench, limit: float | None) -> None:
    """M24: `max_errors` is how many may fail."""
    bench.give(numbered(100))
    bad = range(3, 100, 9)
    report = bench.pipeline([poisoned(bad)], on_error="skip", max_errors=limit).create("a").run()
    assert report.failed == len(bad) == 11
    check_counts(bench, report)


@given(st.floats(0.01, 0.99), st.integers(0, 2000), st.integers(0, 2000))
def test_a_share_is_of_the_rows_that_are_done(share: float, errors: int, others: int) -> None:
    """M24: looked at from 100 rows on."""
    rows = errors + others
    exceeded = FailurePolicy(on_error="skip", max_errors=share).is_exceeded(errors, rows)
    assert exceeded == (rows >= 100 and errors > share * rows)


@pytest.mark.slow
@pytest.mark.sampled(5)
@pytest.mark.parametrize(("share", "every", "ends"), [(0.2, 4, True), (0.2, 6, False), (0.7, 1, True), (0.95, 1, True)])
@pytest.mark.parametrize("parallel_size", [1, 4])
def test_a_share_of_the_rows_may_fail(bench: Bench, share: float, every: int, ends: bool, parallel_size: int) -> None:
    """M24: rows that failed are rows that are done, counted once."""
    bench.give(numbered(1000))
    bad = range(0, 1000, every)
    pipeline = bench.pipeline(
        [poisoned(bad)], on_error="dead_letter", max_errors=share, parallel_size=parallel_size
    ).create("a")
    if not ends:
        assert pipeline.run().failed == len(bad)
        return
    with pytest.raises(NodeFailedError) as caught:
        pipeline.run()
    assert isinstance(caught.value.__cause__, TooManyErrorsError)
    (account,) = accounts_of(bench)
    # It is noticed at the hundredth row, or soon after: a few tasks may be on their way.
    assert 99 <= account.covered <= 250
    assert len(dead_letters_of(bench.output)) == account.dead <= 251 // every + 1


@pytest.mark.sampled(3)
@pytest.mark.parametrize("on_error", ["skip", "dead_letter"])
@pytest.mark.parametrize("style", ["item", "batch", "async item"])
def test_with_a_higher_limit_the_run_goes_on_and_calls_nothing_again(bench: Bench, style: str, on_error: str) -> None:
    """M24, R2: earlier failures count on; only the row that was one too many is called a second time."""
    rows = numbered(120)
    bench.give(rows)
    bad = list(range(5, 120, 10))
    seen = Seen()
    pipeline = bench.pipeline(
        [operator(style, seen.of("work", poisoned(bad)), name="work")], on_error=on_error, max_errors=2
    ).create("a")
    for limit in (2, 5):
        with pytest.raises(NodeFailedError, match=f"max_errors={limit} "):
            pipeline.run()
        assert sum(node.skipped + node.dead_letters for node in pipeline.progress) == limit
        pipeline.resume("a", max_errors=5 if limit == 2 else 1000)
    report = pipeline.run()
    assert [row["n"] for row in lines(bench.output)] == [2 * n for n in range(120) if n not in bad]
    assert report.failed == 12
    check_counts(bench, report)
    again = {n: count for n, count in Counter(seen.by("work")).items() if count > 1}
    assert again == {bad[2]: 2, bad[5]: 2}
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.output)] == (
        bad if on_error == "dead_letter" else []
    )


def test_a_resume_may_change_the_policy_and_the_limit_together(bench: Bench) -> None:
    """M24: `on_error` alone takes the limit away; both are kept in the run state."""
    bench.give(numbered(50))
    pipeline = bench.pipeline([poisoned({3, 4, 5})]).create("a")
    with pytest.raises(NodeFailedError, match="row 3 is bad"):
        pipeline.run()
    with pytest.raises(NodeFailedError, match="2 rows failed, more than max_errors=1 allows"):
        pipeline.resume("a", on_error="dead_letter", max_errors=1).run()
    entry = bench.run_state("a")["nodes"][0]
    assert (entry["on_error"], entry["max_errors"]) == ("dead_letter", 1)
    assert pipeline.resume("a", on_error="skip").run().failed == 3
    assert bench.run_state("a")["nodes"][0]["max_errors"] is None
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.output)] == [3], "what was lettered stays so"


WRONG: list[dict[str, Any]] = [
    {"on_error": "ignore"},
    {"max_errors": -1},
    {"max_errors": 1.5},
    {"max_errors": 0.0},
    {"max_errors": True},
    {"max_errors": "10"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_resume_with_a_wrong_policy_changes_nothing(bench: Bench, wrong: dict[str, Any]) -> None:
    """M3: it is named, and the run state stays as it was."""
    bench.give(numbered(5))
    pipeline = bench.pipeline([poisoned({3})]).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    before = bench.run_state("a")
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        pipeline.resume("a", **wrong)
    assert bench.run_state("a") == before


def test_a_limit_alone_is_refused_where_the_first_failure_ends_the_run(bench: Bench) -> None:
    """M24: it would change nothing, and who gives it means something else."""
    bench.give(numbered(5))
    pipeline = bench.pipeline([poisoned({3})]).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    before = bench.run_state("a")
    with pytest.raises(ConfigError, match="max_errors=5 changes nothing by itself"):
        pipeline.resume("a", max_errors=5)
    assert bench.run_state("a") == before
    assert pipeline.resume("a", max_errors=5, on_error="skip").run().failed == 1


def test_a_limit_alone_is_for_the_nodes_that_go_on(bench: Bench) -> None:
    """M24: the others still end the run at their first failure."""
    bench.give(numbered(50))
    configs = [{"on_error": "skip", "max_errors": 1}, {}]
    pipeline = bench.pipeline([poisoned({3, 4, 5}), double]).create("a", node_configs=configs)
    with pytest.raises(NodeFailedError):
        pipeline.run()
    assert pipeline.resume("a", max_errors=3).run().failed == 3
    entries = bench.run_state("a")["nodes"]
    assert [(entry["on_error"], entry["max_errors"]) for entry in entries] == [("skip", 3), ("fail", None)]


def test_each_node_counts_for_itself(bench: Bench) -> None:
    """M24: `max_errors` is per node."""
    bench.give(numbered(50))
    pipeline = bench.pipeline([poisoned({1, 2}), poisoned({6, 8})], on_error="skip", max_errors=2, streaming=True)
    report = pipeline.create("a").run()
    assert [node.skipped for node in report.nodes] == [2, 2]


def test_replayed_rows_count_anew(bench: Bench) -> None:
    """M24: dead letters that are taken up again no longer count."""
    bench.give(numbered(20))
    pipeline = bench.pipeline([poisoned({1, 2, 3})], on_error="dead_letter", max_errors=3).create("a")
    assert pipeline.run().failed == 3
    for _ in range(2):
        report = pipeline.replay("a").run()
        assert report.failed == 3
        check_counts(bench, report)
