"""Reading platform.log: its events one by one, and what they say of a run's speed.

* `read`: an iterator of `LogEvent`, over a log and its rotated files, filtered
* `summary`: a `LogSummary`: for each run and node, how often and how long workers were held back and rows were waited
  for, and where the bottleneck is

Both read only, and may be used while others write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_datagen.errors.lazy import lazy_names

if TYPE_CHECKING:
    from llm_datagen.runs.logs.bottleneck import LogSummary, NodeSummary, RunSummary
    from llm_datagen.runs.logs.log_summary import summary
    from llm_datagen.runs.logs.reader import LogEvent, read

__all__ = ["LogEvent", "LogSummary", "NodeSummary", "RunSummary", "read", "summary"]

if not TYPE_CHECKING:
    __getattr__ = lazy_names(
        __name__,
        {
            "bottleneck": "LogSummary NodeSummary RunSummary",
            "reader": "LogEvent read",
            "log_summary": "summary",
        },
    )
