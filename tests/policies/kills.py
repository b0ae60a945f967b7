"""The other end of `job.py`: jobs are started, killed, and what they have left is looked at."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from llm_datagen.runs.account import NodeAccount
from llm_datagen.runs.verify import verify

from ..kit.jobs import Jobs
from ..kit.support import bag, eventually, lines, numbered, write_jsonl
from .helpers import dead_letters_of
from .job import expected

JOB = Path(__file__).with_name("job.py")


class Work:
    """A folder in which a job is done, and killed.

    Args:
        jobs: runs them.
        folder: an empty folder.
        rows: rows of the input.
        job: what the job is like.
    """

    def __init__(self, jobs: Jobs, folder: Path, rows: int, **job: Any) -> None:
        self.jobs = jobs
        self.folder = folder
        self.rows = rows
        self.job = {"folder": str(folder), **job}
        self.kills = 0
        self.chance = random.Random(f"{rows} {job}")
        write_jsonl(folder / "in.jsonl", numbered(rows))
        (folder / "calls").touch()

    @property
    def output(self) -> Path:
        """The output."""
        return self.folder / "out.jsonl"

    @property
    def between(self) -> Path:
        """What the first node writes."""
        return self.folder / "between" / "a" / "node_0.jsonl"

    def calls(self) -> Counter[str]:
        """Return how often each row was handed to which operator."""
        return Counter((self.folder / "calls").read_text().split())

    def said(self) -> str:
        """Return what the jobs have said."""
        path = self.folder / "said"
        return path.read_text() if path.exists() else ""

    def kill_after(self, calls: int, *, headstart: int = 40, **changes: Any) -> bool:
        """Start the job, and kill it when so many further calls were made; return whether it was killed in time.

        The kill comes late on a machine that is busy: `headstart` says how many calls the job makes meanwhile, at most.
        """
        before = self.calls().total()
        changes = {"hold": calls + headstart, **changes}
        pid = self.jobs.start({**self.job, "seed": self.chance.random(), **changes})
        ended = f"ended {self.said().count('ended')}"
        eventually(lambda: self.calls().total() >= before + calls or self.said().count("ended") > int(ended[6:]))
        time.sleep(self.chance.random() * 0.01)
        was_killed = self.jobs.kill(pid) == -signal.SIGKILL
        self.kills += was_killed
        self.check_run_state()
        return was_killed

    def finish(self, **changes: Any) -> None:
        """Do the job to its end."""
        assert self.jobs.run({**self.job, "nap": 0.0, **changes}) == 0, self.said()

    def check_run_state(self) -> None:
        """Make sure that the run state and the checkpoint are whole: so they must be at every instant."""
        for name in ("runtime.json", "checkpoint.json"):
            path = self.folder / "results" / "a" / name
            if path.exists():
                json.loads(path.read_bytes())

    def accounts(self) -> list[NodeAccount]:
        """Recount the run: nothing must be wrong."""
        accounts = verify(json.loads((self.folder / "results" / "a" / "runtime.json").read_bytes()))
        assert [account.findings for account in accounts] == [[], []]
        return accounts

    def check(self, *, mended: bool = False) -> None:
        """Make sure that the finished job has made exactly what it must: rows and dead letters, once each (M21, C1)."""
        rows, dead = expected(self.rows, mended=mended)
        assert bag(lines(self.output)) == bag(rows)
        for path, ids in zip((self.between, self.output), dead, strict=True):
            assert sorted(dead_letter["_i"] for dead_letter in dead_letters_of(path)) == ids
            assert all(
                dead_letter["error"]["text"] == f"row {dead_letter['_i']} is bad"
                for dead_letter in dead_letters_of(path)
            )
            assert not Path(f"{path}.commits").exists()
            assert not Path(f"{path}.dispatched").exists()
        assert [account.dead for account in self.accounts()] == [len(ids) for ids in dead]
