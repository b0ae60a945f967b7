"""``python -m tests.simulation``: simulate runs of 10^9 rows, and print the table of docs/explanation/scale.md.

Arguments are words: scenarios whose names hold one of them are simulated, all without any.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

from .cluster import simulate
from .scenario import Scenario
from .tally import Tally

HOUR = 3600.0

OBJECTS_PER_RUN = 5
"""What is left of a run: output, seal, run state, checkpoint, lock or lease (`pieces` shows them)."""

SCENARIOS = [
    Scenario(name="no stealing", has_stealing=False),
    Scenario(name="stealing"),
    Scenario(name="64 cuts per shard", grain=64),
    Scenario(name="4,000 shards", shards=4000),
    Scenario(name="stragglers: speeds spread twice as far", grain=64, spread=0.6),
    Scenario(name="a node lives 48 hours", grain=64, node_life=48 * HOUR),
    Scenario(name="a node lives 5 hours", grain=64, node_life=5 * HOUR),
    Scenario(name="a limit of 2.4 million calls per minute", grain=64, limit=2_400_000),
    Scenario(
        name="all of it, speeds spread twice as far, a node lives 5 hours",
        grain=64,
        spread=0.6,
        node_life=5 * HOUR,
        limit=2_400_000,
    ),
]

_COLUMNS = (
    "what",
    "hours",
    "to ideal",
    "idle",
    "deaths",
    "takeovers",
    "repeated calls",
    "splits",
    "plan, MB (written)",
    "objects",
    "messages/s, driver",
    "messages/s, service (peak)",
    "limit used",
)


def lines(tallies: Iterable[Tally]) -> Iterator[str]:
    """Return the lines of the table."""
    yield _line(_COLUMNS)
    yield _line(["---"] * len(_COLUMNS))
    for tally in tallies:
        has_limit = tally.scenario.limit is not None
        asked = sum(tally.service_messages.values()) / tally.seconds
        yield _line(
            [
                tally.scenario.name,
                f"{tally.seconds / HOUR:.2f}",
                f"{tally.seconds / tally.ideal_seconds:.2f}",
                f"{tally.idle_share:.1%}",
                str(tally.deaths),
                f"{tally.takeovers:,}",
                f"{tally.repeated:,}",
                f"{tally.splits:,}",
                f"{tally.plan_bytes / 1e6:.1f} ({tally.plan_bytes_written / 1e6:,.0f})",
                f"{OBJECTS_PER_RUN * tally.folders:,}",
                f"{tally.driver_messages / tally.seconds:.0f}",
                f"{asked:.0f} ({max(tally.service_messages.values())})" if has_limit else "",
                f"{tally.limit_used:.1%}" if has_limit else "",
            ]
        )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Simulate all, or those whose names hold what is given, and print the table."""
    wanted = sys.argv[1:] or [""]
    chosen = [scenario for scenario in SCENARIOS if any(word in scenario.name for word in wanted)]
    for line in lines(map(simulate, chosen)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
