"""Random pipelines of LLM operators, at endpoints that fail: killed, cancelled, and resumed until they are done.

Each case has endpoints in processes of their own, which keep accounts; what the run says is compared with them.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from llm_datagen.errors import DatagenError, NodeFailedError, ResumeWarning
from llm_datagen.llm.limits import shared
from llm_datagen.runs import RunFolder
from llm_datagen.runs.control_client import ask

from ..kit.support import eventually, nothing_left
from .forks import Death, fork
from .llm_cases import CANARY, MOST_ROWS_AT_ONCE, WINDOW_SECONDS, LLMCase
from .llm_judge import LLMJudge
from .tally import Tally
from .till import TillProcess

Command = tuple[float, str, dict[str, Any]]
"""When, in seconds, what, and more of it."""

ROUNDS = 40
"""Resumes until a case must be done."""


class LLMTorture:
    """Tortures one case.

    Args:
        seed: of the case, and of what happens to it.
        folder: where.
        tally: where the results go.
    """

    def __init__(self, seed: int, folder: Path, tally: Tally) -> None:
        self.case = LLMCase.of(seed)
        self.folder = folder
        self.tally = tally
        self.dice = random.Random(f"llm blows {seed}")
        self.budget = self.case.budget
        self.how: list[str] = []
        self.kills = self.ends = self.losses = 0
        self.is_ended = self.is_completed = False
        self.tills: list[TillProcess] = []

    def run(self) -> None:
        """Do it."""
        self.folder.mkdir()
        (self.folder / "s-1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.case.rows))
        try:
            self.tills = [
                TillProcess.start(
                    number,
                    latency=self.case.latency,
                    faults=self.case.faults,
                    seed=self.case.seed * 10 + number,
                    api_key=f"{CANARY}-{number}",
                )
                for number in range(self.case.tills)
            ]
            found = list(self._blows())
        finally:
            for till in self.tills:
                till.stop()
        self.tally.runs += 1
        where = f"llm, seed {self.case.seed}, {self.folder}"
        story = "\n    ".join(["", *self.how])
        if found:
            self.tally.findings.append(f"{where}:\n  " + "\n  ".join(found[:20]) + story)
            print(self.tally.findings[-1], file=sys.stderr, flush=True)
        else:
            shutil.rmtree(self.folder)

    def _blows(self) -> Iterator[str]:
        judge = LLMJudge(self.case, self.folder, self.tills)
        for _ in range(self.dice.randint(2, 8)):
            self._plan_outages()
            after = self.dice.uniform(0.03, self.dice.choice([0.15, 0.4, 1.0]))
            with_what = self.dice.choice([*[signal.SIGKILL] * 5, signal.SIGINT, signal.SIGINT, None])
            full = self._fill_journals() if self.dice.random() < 0.15 else []
            yield from self._round(judge, None if with_what is None else after, with_what or signal.SIGKILL, full)
            for path in full:
                _execute(path, "DROP TRIGGER full")
            if self.is_ended:
                break
        for number in range(ROUNDS):
            if self.is_ended:
                break
            for till in self.tills:
                till.plan(is_calm=number >= 6)
            yield from self._round(judge, None, signal.SIGKILL, [])
        else:
            yield f"it did not end within {ROUNDS} resumes"
        if not self.is_completed:
            return
        found = list(judge.findings(self.kills, ends=self.ends, losses=self.losses))
        yield from found
        self.tally.dead_letters += judge.dead_letters
        if judge.dead_letters and not found and self.dice.random() < 0.5:
            yield from self._replay(judge)

    def _replay(self, judge: LLMJudge) -> Iterator[str]:
        """Have the dead letters done again, by endpoints that are well; perhaps it is killed meanwhile."""
        self.is_ended = self.is_completed = False
        self.tally.replays += 1
        for till in self.tills:
            till.plan(is_calm=True)
        for number in range(ROUNDS):
            after = self.dice.uniform(0.03, 0.3) if number == 0 and self.dice.random() < 0.5 else None
            yield from self._round(judge, after, signal.SIGKILL, [], is_replay=True)
            if self.is_ended:
                break
        if self.is_completed:
            yield from judge.findings(self.kills, ends=self.ends, losses=self.losses, is_replayed=True)
        else:
            yield "the replay did not end"

    def _plan_outages(self) -> None:
        for at, till in enumerate(self.tills):
            outages = []
            if self.dice.random() < 0.4:
                begin = self.dice.uniform(0.0, 0.8)
                outages.append((begin, begin + self.dice.uniform(0.1, 1.2)))
                self.how.append(f"endpoint {at} is out from {begin:.2f} to {outages[0][1]:.2f} s")
            till.plan(outages=outages)

    def _fill_journals(self) -> list[Path]:
        """Let there be no room in the journals that are there."""
        found = sorted({self.folder / stage.cache for stage in self.case.stages if stage.cache})
        found = [path for path in found if path.exists()]
        for path in found:
            _execute(
                path, "CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
            )
            self.how.append(f"{path.name} is full")
        self.tally.fills += len(found)
        return found

    def _round(
        self,
        judge: LLMJudge,
        after: float | None,
        with_what: signal.Signals,
        full: list[Path],
        *,
        is_replay: bool = False,
    ) -> Iterator[str]:
        """Start it, or go on with it, and judge how that has ended."""
        commands = [] if is_replay or self.dice.random() < 0.7 else self._commands()
        work = partial(self._work, commands=commands, is_replay=is_replay)
        death = fork(work, self.folder / "said", kill_after=after, kill_with=with_what)
        self._note_pause("end")
        said = _said(death)
        name = "" if after is None else f" by {with_what.name} after {after:.2f} s"
        name += f", {commands}" * bool(commands) + ", a replay" * is_replay
        self.how.append(f"{death.how}{name}, {death.seconds:.2f} s, cap {self.budget}: {said or death.text[-200:]}")
        self.kills += death.how == "killed"
        self.ends += not (death.how == "killed" or said.get("status") == "completed")
        self.losses += len(full)
        self.tally.kills += death.how == "killed"
        self.tally.ends += death.how == "done" and said.get("status") != "completed"
        yield from judge.accounts(self.budget)
        if death.how == "killed":
            return
        if death.how == "canceled" or (with_what == signal.SIGINT and "KeyboardInterrupt" in death.text):
            if with_what != signal.SIGINT:
                yield f"canceled, and nobody has asked for it: {death.text}"
            return
        if death.how != "done":
            yield f"{death.how}: {death.text}"
            self.is_ended = True
            return
        noise = [line for line in death.text.splitlines() if line and not line.startswith("SAID ")]
        if noise:  # such as a task whose exception nobody has seen
            yield f"it said {noise}"
        if said["status"] == "completed":
            self.is_ended = self.is_completed = True
        elif said["status"] == "stopped":
            if self.budget is None or "is reached" not in (said["reason"] or ""):
                yield f"stopped: {said['reason']}"
            else:
                self.budget = {name: cap * 2 for name, cap in self.budget.items()}
        elif said.get("cause") != "CacheError" or not full:
            yield from judge.failure(said)

    def _commands(self) -> list[Command]:
        """Return what is told to the run while it runs: a pause, and another number of calls at once."""
        begin = self.dice.uniform(0.05, 0.5)
        node = self.dice.choice(self.case.stages).name
        rows = self.dice.choice([1, 3, 12, MOST_ROWS_AT_ONCE])
        return [
            (begin, "pause", {}),
            (begin + 0.1, "reconfigure", {"node_id": node, "parallel_size": rows}),
            (begin + self.dice.uniform(0.2, 1.5), "unpause", {}),
        ]

    def _work(self, *, commands: list[Command], is_replay: bool) -> None:
        """Be the process that runs it."""
        vars(shared)["WINDOW_SECONDS"] = WINDOW_SECONDS  # a minute would be long
        warnings.simplefilter("ignore", ResumeWarning)  # a command may have changed a setting before the kill
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=self._send_commands, args=(commands,), name="commands", daemon=True).start()
        said: dict[str, Any] = {"status": "failed", "reason": None}
        try:
            with nothing_left():
                try:
                    report = (
                        self.case.pipeline(self.folder, self.tills, self.budget).create("a", if_exists="resume").run()
                    )
                    said |= {"status": str(report.status), "reason": report.reason}
                except NodeFailedError as error:
                    cause = error.__cause__
                    said |= {"reason": str(error), "cause": type(cause).__name__, "text": str(cause)}
                if any(stage.gives_up for stage in self.case.stages):  # threads of calls given up are not waited for
                    eventually(lambda: not [one for one in threading.enumerate() if one.name.startswith("datagen-")])
        except KeyboardInterrupt:
            raise SystemExit(128 + signal.SIGTERM) from None
        sys.stdout.write(f"\nSAID {json.dumps(said)}\n")

    def _send_commands(self, commands: list[Command]) -> None:
        """Tell the run what it is to do, and note when it was paused."""
        folder, began = RunFolder(self.folder / "results", "a"), time.monotonic()
        for when, command, fields in commands:
            time.sleep(max(0.0, began + when - time.monotonic()))
            if command == "unpause":
                self._note_pause("end")
            with contextlib.suppress(DatagenError):  # it has not begun, or has ended
                ask(folder, command, **fields)
                if command == "pause":
                    self._note_pause("begin")

    def _note_pause(self, what: str) -> None:
        with (self.folder / "pauses").open("a") as file:
            file.write(f"{what} {time.monotonic()}\n")


def _execute(path: Path, statement: str) -> None:
    # A process may have been killed before the file had its table.
    with closing(sqlite3.connect(path, timeout=20)) as journal, contextlib.suppress(sqlite3.OperationalError):
        journal.execute(statement)


def _said(death: Death) -> dict[str, Any]:
    lines = [line[5:] for line in death.text.splitlines() if line.startswith("SAID ")]
    return dict(json.loads(lines[-1])) if lines else {}


def llm(folder: Path, *, seed: int, cases: int, seconds: float = 1e9) -> Tally:
    """Torture so many cases, one seed after the other; begin none after so many seconds."""
    tally, began = Tally(), time.monotonic()
    for number in range(seed, seed + cases):
        if time.monotonic() - began > seconds:
            break
        LLMTorture(number, folder / f"llm-{number}", tally).run()
    return tally
