"""Any pipeline, in any mode, interrupted again and again, gives the rows of the model (M5-M7, M14)."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import NodeFailedError, Status

from ..kit.support import PATIENCE_SECONDS, Bench, bag, lines, nothing_left, numbered
from ..pipeline.chains import STYLES, Fate, modelled, operator

MAX_TRIES = 8


class Fault(Exception):
    """What operators raise at random."""


def random_fate(chance: random.Random, *, is_flat: bool) -> Fate:
    """Return a fate that depends on nothing but the row; a flat one makes no lists."""
    widths = [chance.randint(-1, 3) for _ in range(chance.randint(1, 5))]

    def fate(row: Any) -> Any:
        n = row["n"]
        width = widths[n % len(widths)]
        if width < 0 or is_flat:
            return {"n": n + 1} if width else None
        return [{"n": 3 * n + k} for k in range(width)]

    return fate


def interrupted(bench: Bench, chance: random.Random) -> None:
    """Make a random pipeline and run it, with faults and cancels, until it is complete."""
    rows = numbered(chance.choice([0, 1, 7, 50, 300]))
    bench.give(rows)
    styles = [chance.choice(STYLES) for _ in range(chance.randint(1, 4))]
    fates = [random_fate(chance, is_flat=style == "flat batch") for style in styles]
    odds = 0.0

    def faulty(fate: Fate) -> Fate:
        def work(row: Any) -> Any:
            if chance.random() < odds:
                raise Fault
            return fate(row)

        return work

    naps = chance.choice([None, random.Random(1)]) if len(rows) <= 50 else None
    operators = [
        operator(style, faulty(fate), name=f"op {n}", naps=naps)
        for n, (style, fate) in enumerate(zip(styles, fates, strict=True))
    ]
    settings: dict[str, Any] = {
        "streaming": chance.random() < 0.6,
        "ordered": chance.random() < 0.4,
        "parallel_size": chance.randint(1, 6),
        "batch_size": chance.randint(1, 9),
        "default_protocol": chance.choice(["jsonl://", "memory://"]),
        "writer_config": {
            "async_mode": chance.random() < 0.5,
            "queue_size": chance.choice([1, 5, 50, 1000]),
            "flush_batch_size": chance.randint(1, 30),
            "flush_interval": chance.choice([0.001, 1.0]),
        },
    }
    pipeline = bench.pipeline(operators, **settings).create("a")
    for tries in range(MAX_TRIES + 1):
        is_last = tries == MAX_TRIES
        odds = 0.0 if is_last else chance.choice([0.0, 0.02, 0.1])
        is_cancelled = not is_last and chance.random() < 0.4
        try:
            if is_cancelled:
                pipeline.start()
                time.sleep(chance.random() * 0.03)
                pipeline.cancel()
            report = pipeline.wait(PATIENCE_SECONDS) if is_cancelled else pipeline.run()
        except NodeFailedError as error:
            if not isinstance(error.__cause__, Fault):
                raise
        else:
            assert report is not None, f"the run hangs: {settings}"
            if report.status == Status.COMPLETED:
                break
        pipeline = bench.pipeline(operators).resume("a")
    found, expected = lines(bench.output), modelled(rows, fates)
    assert bag(found) == bag(expected), settings
    if settings["ordered"] and "flat batch" not in styles:
        assert found == expected, settings


def interrupt_many(seed: int, count: int) -> None:
    for number in range(count):
        with tempfile.TemporaryDirectory() as folder, nothing_left():
            interrupted(Bench(Path(folder)), random.Random(f"{seed} {number}"))


@pytest.mark.slow
def test_any_pipeline_survives_any_interruption() -> None:
    """M5, M6, M7, M10, M14, F2: faults and cancels at random, then a resume, and so on to the end."""
    interrupt_many(0, 30)


@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(1, 9))
def test_hundreds_of_pipelines_survive_any_interruption(seed: int) -> None:
    """M5, M6, M7, M10, M14, F2: the same, for long."""
    interrupt_many(seed, 100)
