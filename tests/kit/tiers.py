"""The tiers of the tests: what a test may start, and how long all tests of a tier may take.

A file is listed here as `unit` or `process`, else it is `integration`. A test that starts more than the others of its
file is marked with its own tier; one that is marked `slow` or `torture` belongs to `nightly`, wherever it is. A unit
test that starts a thread or a process fails, and says so.
"""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .programs import Program

BUDGETS = {"unit": 20, "integration": 90, "process": 60, "nightly": None}
"""Seconds that all tests of a tier may take on two cores; printed after each run, beside what they took."""

TESTS = Path(__file__).parents[1]

UNIT: frozenset[str] = frozenset(
    [
        "actors/test_backlog.py",
        "actors/test_context.py",
        "actors/test_chunking.py",
        "actors/test_pykka_contract.py",
        "actors/test_rate.py",
        "cli/test_yaml_errors.py",
        "demo/test_demo_operators.py",
        "examples/test_architecture.py",
        "examples/test_docs.py",
        "examples/test_reference.py",
        "examples/test_statements.py",
        "executors/test_claims.py",
        "executors/test_failing_rows.py",
        "executors/test_work.py",
        "llm/engines/test_call_queue.py",
        "llm/engines/test_engine_options.py",
        "llm/test_grants_limits.py",
        "llm/test_llm_adaptive_concurrency.py",
        "llm/test_llm_adaptive_concurrency_simulated.py",
        "llm/test_llm_counts.py",
        "llm/test_llm_limiter.py",
        "llm/test_llm_meanings.py",
        "llm/test_llm_network.py",
        "llm/test_llm_options.py",
        "llm/test_llm_prices.py",
        "llm/test_llm_redaction.py",
        "llm/test_llm_schemas.py",
        "llm/test_llm_spend.py",
        "llm/test_llm_strict.py",
        "llm/test_prompts.py",
        "llm/test_response_reader.py",
        "pipeline/test_describe.py",
        "pipeline/test_node_overrides.py",
        "pipeline/test_odd_paths.py",
        "report/test_drawings.py",
        "shards/test_stealing.py",
        "simulation/test_simulation.py",
        "streams/test_blocks.py",
        "streams/test_codecs.py",
        "streams/test_coverage.py",
        "streams/test_cursor.py",
        "streams/test_custom_protocol.py",
        "streams/test_factory.py",
        "streams/test_files.py",
        "streams/test_merged.py",
        "streams/test_odd_data.py",
        "streams/test_rows.py",
        "streams/test_seal.py",
        "streams/test_sink.py",
        "streams/test_standalone.py",
        "web/test_page_files.py",
        "test_config.py",
        "test_dependencies.py",
        "test_identity.py",
        "test_ids.py",
        "test_long_integers.py",
        "test_operators.py",
        "test_public_names.py",
        "test_secret_names.py",
        "test_settings.py",
        "test_support.py",
        "test_tiers.py",
        "test_words.py",
        "torture/test_medium.py",
    ]
)
"""Files whose tests start no thread and no process."""

PROCESS: frozenset[str] = frozenset(
    [
        "cli/test_moved.py",
        "demo/test_demo_model.py",
        "llm/engines/test_engine_runs.py",
        "llm/engines/test_llama.py",
        "llm/engines/test_vllm.py",
        "llm/test_killed.py",
        "llm/test_secrets.py",
        "pipeline/test_forking_operators.py",
        "pipeline/test_memory.py",
        "policies/test_operator_ends_run.py",
        "recovery/test_claims.py",
        "recovery/test_forked.py",
        "recovery/test_kill.py",
        "recovery/test_stored.py",
    ]
)
"""Files with tests that start processes, most of them to kill them."""


def tier_of(item: pytest.Item) -> str:
    """Return the tier of a test: what it is marked with, or what its file is."""
    if item.get_closest_marker("slow") or item.get_closest_marker("torture"):
        return "nightly"
    for tier in BUDGETS:
        if item.get_closest_marker(tier):
            return tier
    name = item.path.relative_to(TESTS).as_posix()
    return "unit" if name in UNIT else "process" if name in PROCESS else "integration"


SAMPLED = 2
"""How many cases of a test of a run the default run has, unless the test is marked otherwise."""

IN_CI = 4
"""How many CI has, unless the test is marked otherwise: it ends within twenty minutes."""


def leave_to_the_nightly_run(items: list[pytest.Item]) -> None:
    """Leave some cases of each test to the default run, at even distances; the others are marked `slow`.

    A test that is marked ``sampled(n, of=m)`` leaves n, and has CI do m of them; any other one that is no unit test
    leaves `SAMPLED`, and CI does `IN_CI`. The others are marked `torture`. So each test is in the default run.
    """
    cases: dict[tuple[Path, str], list[pytest.Function]] = {}
    for item in items:
        if not isinstance(item, pytest.Function) or item.get_closest_marker("torture"):
            continue
        if tier_of(item) != "unit" or item.get_closest_marker("sampled"):
            cases.setdefault((item.path, item.originalname), []).append(item)
    for found in cases.values():
        marker = found[0].get_closest_marker("sampled")
        sampled = marker.args[0] if marker and marker.args else SAMPLED
        in_ci = evenly(found, marker.kwargs.get("of", max(IN_CI, sampled)) if marker else IN_CI)
        for case in set(found) - set(in_ci):
            case.add_marker(pytest.mark.torture)
        by_default = [case for case in in_ci if not case.get_closest_marker("slow")]
        for case in set(by_default) - set(evenly(by_default, sampled)):
            case.add_marker(pytest.mark.slow)


def evenly(cases: list[pytest.Function], count: int) -> list[pytest.Function]:
    """Return so many of the cases, at even distances: the first, and with two or more the last."""
    if count >= len(cases):
        return cases
    return [cases[round(number * (len(cases) - 1) / max(1, count - 1))] for number in range(count)]


@contextmanager
def nothing_started() -> Iterator[None]:
    """Let nothing within the block start a thread or a process."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a unit test starts no thread and no process: see tests/kit/tiers.py")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        patch.setattr(subprocess.Popen, "__init__", refuse)
        patch.setattr(Program, "__init__", refuse)
        yield


def table(reports: list[pytest.TestReport], workers: int) -> list[str]:
    """Return what each tier has taken, from the reports of tests, as its share of the time of so many processes."""
    tests: Counter[str] = Counter()
    seconds = dict.fromkeys(BUDGETS, 0.0)
    for report in reports:
        for tier in BUDGETS:
            if tier in report.keywords:
                tests[tier] += report.when == "call"
                seconds[tier] += report.duration
    return [
        f"{tier:12} {tests[tier]:5} tests {seconds[tier] / workers:6.0f} s"
        + (f" of {budget} s" if budget is not None else "")
        for tier, budget in BUDGETS.items()
        if tests[tier]
    ]
