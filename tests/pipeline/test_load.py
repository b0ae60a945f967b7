"""What the workers of a node have, and what waits for its writer: in the run state, while it runs."""

from __future__ import annotations

import threading
from typing import Any

from ..kit.support import Bench, eventually, numbered


def test_rows_in_flight_are_in_the_run_state_though_no_call_has_ended(bench: Bench) -> None:
    go = threading.Event()

    def hold(item: Any) -> Any:
        go.wait()
        return item

    bench.give(numbered(8))
    pipeline = bench.pipeline([hold], parallel_size=3).create("a")
    pipeline.start()
    try:
        eventually(lambda: bench.run_state("a")["nodes"][0]["in_flight"] > 0, "the run state says so")
        (node,) = bench.run_state("a")["nodes"]
        assert (3 <= node["in_flight"] <= 8, node["queued"], node["rows_in"]) == (True, 0, 0)
    finally:
        go.set()
        report = pipeline.wait()
    (node,) = bench.run_state("a")["nodes"]
    assert (node["in_flight"], node["queued"], node["rows_in"], report.rows_out) == (0, 0, 8, 8)
