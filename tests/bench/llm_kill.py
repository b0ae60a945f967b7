"""``kill -9`` in the middle of the calls: what is lost, made twice, and paid for twice."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .llm_sides import lost_and_twice, pipeline_of, served, told, write_questions

SHARES = (0.15, 0.40, 0.75)
"""Of the rows, answered when the process is killed."""


def killed(share: float, *, rows: int, at_once: int, latency: float, has_journal: bool) -> dict[str, Any]:
    """Kill a run when a share of its rows is answered, resume it, and return what became of the rows and calls.

    ``unanswered`` are the calls of the first process whose answer it did not have, or had not kept in the journal;
    ``paid_twice`` the answers that the server gave for rows that it had answered before.
    """
    with TemporaryDirectory() as name, served(latency=latency) as base_url:
        folder = Path(name)
        write_questions(folder, rows)
        command = [sys.executable, "-m", __name__, base_url, str(folder), str(at_once), str(int(has_journal))]
        with subprocess.Popen(command) as first:
            while (before := told(base_url, "stats"))["answered"] < share * rows and first.poll() is None:
                time.sleep(0.01)
            first.kill()
        if first.returncode != -signal.SIGKILL:
            raise RuntimeError(f"the run had ended by itself ({first.returncode}) before {share:.0%} were answered")
        time.sleep(3 * latency)  # what is on its way to nobody is told so
        before = told(base_url, "stats")
        kept = answers_in(folder / "answers.sqlite") if has_journal else 0
        subprocess.run(command, check=True)
        after = told(base_url, "stats")
        lost, twice = lost_and_twice(folder, rows)
        return {
            "killed_at": share,
            "journal": has_journal,
            "lost": lost,
            "twice": twice,
            "unanswered": before["calls"] - kept if has_journal else None,
            "calls_in_all": after["calls"],
            "paid_twice": after["answered"] - rows,
        }


def answers_in(path: Path) -> int:
    """Return how many answers are in a journal."""
    with closing(sqlite3.connect(path)) as file:
        return int(file.execute("SELECT count(*) FROM answers").fetchone()[0])


def main(base_url: str, folder: Path, at_once: int, *, has_journal: bool) -> None:
    """Run the pipeline, or resume it."""
    cache = str(folder / "answers.sqlite") if has_journal else None
    pipeline_of(base_url, folder, at_once=at_once, cache=cache).create("job", if_exists="resume").run()


def figures(rows: int, at_once: int, repeat: int) -> None:
    """Print a line for each share, without and with a journal."""
    for has_journal in (False, True):
        for share in SHARES:
            found = [
                killed(share, rows=rows, at_once=at_once, latency=0.1, has_journal=has_journal) for _ in range(repeat)
            ]
            worst = {key: max(sample[key] for sample in found) for key in ("lost", "twice", "paid_twice")}
            unanswered = [sample["unanswered"] for sample in found]
            print(
                json.dumps(
                    {"case": "kill", "killed_at": share, "journal": has_journal, **worst}
                    | {"paid_twice_each": [sample["paid_twice"] for sample in found], "unanswered": unanswered}
                ),
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), has_journal=sys.argv[4] == "1")
