"""The workloads, and the figures that they should reach."""

from __future__ import annotations

from collections.abc import Sequence

from .kinds import Linear, Resume, Sleep, Start, Workload


def _identities(rows: int, label: str) -> Sequence[Workload]:
    goals = {"1m-b500-p1": "≥ 0.8", "1m-b1-p1": "≥ 0.5", "1m-b1-p8": "≥ 0.4"}
    return [
        Workload(
            name=(name := f"identity-{label}-b{batch}-p{parallel}"),
            about=f"rows as they are, batch_size={batch}, parallel_size={parallel}",
            goal=goals.get(name.removeprefix("identity-"), ""),
            rows=rows,
            operators=("identity",) if batch == 1 else ("identity_batch",),
            settings={"batch_size": batch, "parallel_size": parallel},
            peers=label == "100k" and batch == 500 and parallel == 1,
        )
        for batch in (1, 10, 500)
        for parallel in (1, 8)
    ]


WORKLOADS: Sequence[Workload] = [
    *_identities(100_000, "100k"),
    *_identities(1_000_000, "1m"),
    Workload(
        name="identity-1m-b1-batches",
        about="batches of one row, for an operator that takes batches",
        rows=1_000_000,
        operators=("identity_batch",),
    ),
    Workload(
        name="identity-1m-b500-items",
        about="batch_size=500 for an operator that takes items",
        rows=1_000_000,
        settings={"batch_size": 500},
    ),
    Workload(
        name="three-nodes",
        about="three nodes, streaming; the loop calls three functions",
        goal="≥ 0.25",
        rows=500_000,
        operators=("identity", "identity2", "identity3"),
        settings={"streaming": True},
    ),
    Workload(name="clean", about="strip, lower, regex, count", operators=("clean",), peers=True),
    Workload(
        name="dedupe-1m",
        about="the first row of each text; the loop has a set of them in memory",
        goal="within 2x of datatrove; memory flat",
        kind="dup",
        rows=1_000_000,
        operators=("dedupe",),
        peers=True,
    ),
    Workload(
        name="dedupe-5m",
        about="the same, of five million",
        kind="dup",
        rows=5_000_000,
        operators=("dedupe",),
        peers=True,
        is_big=True,
    ),
    Workload(
        name="clean-p2", about="the same, parallel_size=2, threads", operators=("clean",), settings={"parallel_size": 2}
    ),
    Workload(
        name="clean-process",
        about="the same, in 2 processes",
        goal="≥ 1.4 on 2 cores",
        rows=400_000,
        operators=("clean",),
        settings={"executor": "process", "parallel_size": 2},
    ),
    Workload(name="fan-out", about="five rows of each", rows=50_000, operators=("five",), peers=True),
    Workload(
        name="fan-out-1m",
        about="a million rows of one",
        goal="peak ≤ 200 MB",
        kind="one",
        rows=1_000_000,
        operators=("million",),
    ),
    Workload(name="csv", about="CSV to CSV", kind="csv", rows=50_000),
    Workload(name="rows-20b", about="short rows", kind="20b", rows=1_000_000),
    Workload(name="rows-50kb", about="long rows", kind="50kb", rows=10_000),
    Resume(
        name="resume",
        about="1,000 rows left of 1M or 10k done: until the first new row is committed",
        goal="≤ 2 (ratio)",
        done={"10k": 10_000, "1m": 1_000_000},
    ),
    Resume(name="resume-finished", about="a finished node of 1M rows", done={"finished": 1_000_000}, left=0),
    Sleep(name="sleep", about="20 ms x parallel 50", goal="≥ 0.97", kind="even", rows=5000, operators=("nap",)),
    Sleep(
        name="sleep-async",
        about="20 ms x parallel 50, async",
        goal="≥ 0.97",
        kind="even",
        rows=5000,
        operators=("nap_async",),
    ),
    Sleep(
        name="tail",
        about="5 % take 1 s, the others 20 ms; parallel 50",
        goal="≥ 0.95",
        kind="tail20",
        rows=4000,
        operators=("nap",),
    ),
    Sleep(
        name="tail-async",
        about="the same, async",
        goal="≥ 0.95",
        kind="tail20",
        rows=4000,
        operators=("nap_async",),
    ),
    Sleep(
        name="tail-100ms",
        about="5 % take 1 s, the others 100 ms; parallel 50, async",
        goal="≥ 0.95",
        kind="tail100",
        rows=2000,
        operators=("nap_async",),
    ),
    Start(
        name="import",
        about="import llm_datagen, less the bare interpreter",
        goal="≤ 0.15 s",
        whats={"bare": "bare", "import": "import"},
    ),
    Start(
        name="first-row",
        about="a process starts; until the first row of a small pipeline is on disk",
        goal="≤ 0.3 s",
        whats={"first_row": "first_row"},
    ),
    Linear(
        name="linearity",
        about="4M rows against 1M; takes 5 GB of disk",
        goal="≤ 1.1, peak ≤ 80 MB",
        rows=1_000_000,
        settings={"batch_size": 500},
        operators=("identity_batch",),
        is_big=True,
    ),
]
