"""The steps of runs whose operators are edited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from llm_datagen import UnifiedPipeline

from ..kit.support import QUICK, Bench

CALLS: Counter[str] = Counter()


class Step:
    """Marks rows; fails once at a row, if it is told to."""

    stateful = True  # it counts its calls

    def __init__(self, name: str, mark: str = "", fail_at: int | None = None) -> None:
        self.name = name
        self.mark = mark or name
        self.trouble = Trouble(fail_at)

    def process_item(self, item: Any, ctx: Any) -> Any:
        CALLS[self.name] += 1
        self.trouble.strike(item)
        return {**item, "by": [*item.get("by", []), self.mark]}


class Trouble:
    """Is no setting of a step: it is no plain data, so it is known by its type alone."""

    def __init__(self, at: int | None) -> None:
        self.at = at

    def strike(self, item: Any) -> None:
        if item["n"] == self.at:
            self.at = None
            raise RuntimeError("cut short")


def line(bench: Bench, steps: Sequence[Any], **settings: Any) -> UnifiedPipeline:
    """Return a pipeline whose operators are what they are: no instruments."""
    given: dict[str, Any] = {
        "input_uri": f"jsonl://{bench.input}",
        "output_uri": f"jsonl://{bench.output}",
        "base_path": bench.folder / "between",
        "results_dir": bench.results,
        "log_file": bench.log,
        "writer_config": QUICK,
        **settings,
    }
    return UnifiedPipeline(list(steps), **given)


def steps(dead_letters: str) -> list[Step]:
    """Return a step for each letter; a small one is the step of the capital one, edited."""
    return [Step(dead_letter.upper(), dead_letter) for dead_letter in dead_letters]
