"""Does the groups of a run again, as rows were added to it and mended, in a process that is killed at a disk step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline, ops

from ..kit.support import Bench
from .edited_steps import Step, line
from .rerun_job import kill_at


def grouping(bench: Bench, fail_at: int | None = None, **settings: Any) -> UnifiedPipeline:
    """Return two steps, groups of what they make, and a step for each group; the second may fail at a row, once."""
    groups = ops.GroupBy(by="k", collect=["n"])
    return line(bench, [Step("A"), Step("B", fail_at=fail_at), groups, Step("C")], on_error="dead_letter", **settings)


if __name__ == "__main__":
    folder, at = sys.argv[1:]
    kill_at(int(at))
    grouping(Bench(Path(folder))).replay("a", on_change="rerun").run()
