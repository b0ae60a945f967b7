"""Whether what a pipeline of LLM operators has left, and says that it spent, is right."""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from llm_datagen.llm.cost.budget import Amount, Budget
from llm_datagen.llm.cost.spend_file import SpendFile
from llm_datagen.runs import RunFolder
from llm_datagen.runs.usage import PICO
from llm_datagen.runs.verify import verify

from .llm_cases import CANARY, LLMCase, Stage
from .till import TillProcess, never_fits

_OF_CALLS = ("rate_limit", "server_error", "reset", "truncated", "malformed", "slow")
PAUSE_SLACK = 0.3
"""Seconds that a call may take from its sender to the endpoint, on a machine that does other things."""
_DEPTHS = range(1, 8)
"""Messages of a conversation with its repairs."""


class LLMJudge:
    """Compares a case with the accounts of its endpoints.

    Args:
        case: the case.
        folder: where it runs.
        tills: its endpoints.

    Attributes:
        dead_letters: dead letters that were compared.
    """

    def __init__(self, case: LLMCase, folder: Path, tills: list[TillProcess]) -> None:
        self.case = case
        self.folder = folder
        self.tills = tills
        self.dead_letters = 0

    # After each round.

    def accounts(self, budget: dict[str, float] | None) -> Iterator[str]:
        """Yield what is wrong with the money: the cap holds, and the account knows all that was charged."""
        if budget is None:
            return
        spent, lost, in_flight, _ = SpendFile(self.folder / "results" / "a" / "files").read()
        sold = [till.sold() for till in self.tills]
        charged = Amount(*(sum(one[name] for one in sold) for name in Amount._fields))
        if not Budget(usd=budget.get("usd", 1e6), tokens=int(budget.get("tokens", 1e12))).holds(charged):
            yield f"{charged} was charged, and the cap is {budget}"
        noted, known = spent.plus(in_flight), spent.minus(lost)
        if charged.tokens > noted.tokens or charged.picodollars > noted.picodollars:
            yield f"{charged} was charged, and the account knows of {noted}"
        if known.tokens > charged.tokens or known.picodollars > charged.picodollars:
            yield f"the account has {known} of calls that were answered, and {charged} was charged"

    def failure(self, said: dict[str, Any]) -> Iterator[str]:
        """Yield what is wrong with the reason for which a run failed."""
        cause, text = said.get("cause"), said.get("text", "")
        can_fail = any(stage.on_error == "fail" for stage in self.case.stages)
        if cause == "LLMAnswerError" and can_fail and self.case.faults.cut_off and "cut off" in text:
            return
        if cause == "LLMAnswerError" and can_fail and "cannot be used after" in text:
            return
        if cause == "LLMRequestError" and can_fail and f"(try {self.case.stages[0].tries} of" in text:
            return
        if cause == "OutageError" and self.case.outage_after < 100:
            return
        yield f"it failed for {cause}: {text or said}"

    # In the end.

    def findings(self, kills: int, *, ends: int, losses: int, is_replayed: bool = False) -> Iterator[str]:
        """Yield what is wrong with a run that is complete.

        Args:
            kills: how often it was killed.
            ends: how often it ended early in order; nodes without patience give calls up then.
            losses: how often a journal had no room; then the answers of calls in flight were lost.
            is_replayed: whether the dead letters were done again.
        """
        sold = [till.sold() for till in self.tills]
        of: dict[str, Counter[str]] = {}
        for one in sold:
            for key, counts in one["of"].items():
                of.setdefault(key, Counter()).update(counts)
        run_state = RunFolder(self.folder / "results", "a").load()
        if run_state["status"] != "completed":
            yield f"runtime.json says {run_state['status']}"
        for account in verify(run_state):
            yield from (f"verify: {what}" for what in account.findings)
        for stage, node in zip(self.case.stages, run_state["nodes"], strict=True):
            deaths = kills + losses + (ends if stage.gives_up else 0)
            wrong = self._rows(stage, node, of, deaths, is_replayed=is_replayed)
            yield from (f"{stage.name}: {what}" for what in wrong)
            yield from (f"{stage.name}: {what}" for what in self._paid_again(stage, of, deaths))
        is_exact = not (kills or losses or self.case.latency.slow_share)
        is_exact &= not (ends and any(stage.gives_up for stage in self.case.stages))
        yield from self._usage(run_state, sold, is_exact=is_exact)
        yield from self._while_paused([moment for one in sold for moment in one["came_at"]])
        yield from self._left()

    def _rows(
        self, stage: Stage, node: dict[str, Any], of: dict[str, Counter[str]], deaths: int, *, is_replayed: bool
    ) -> Iterator[str]:
        given = {
            str(row.get("_i", at)): row for at, row in enumerate(_lines(self.folder / f"s{stage.number - 1}.jsonl"))
        }
        made = _lines(self.folder / f"s{stage.number}.jsonl")
        dead_letters = _lines(self.folder / f"s{stage.number}.jsonl.errors.jsonl")
        self.dead_letters += len(dead_letters)
        by_id: dict[str, list[dict[str, Any]]] = {}
        for row in made:
            row_id = str(row["_i"])
            by_id.setdefault(row_id.rpartition("_")[0] if stage.samples > 1 else row_id, []).append(row)
        buried = Counter(str(dead_letter["_i"]) for dead_letter in dead_letters)
        abandoned = {
            str(dead_letter["_i"]) for dead_letter in dead_letters if dead_letter["error"]["kind"] == "Abandoned"
        }
        if abandoned and not (deaths and stage.node["delivery"] == "at_most_once"):
            yield f"{len(abandoned)} rows are abandoned"
        strangers = (by_id.keys() | buried.keys()) - given.keys()
        if strangers:
            yield f"rows of nowhere: {sorted(strangers)[:3]}"
        missing = 0
        kept = self._kept(stage)
        for row_id, row in given.items():
            rows, prompt = by_id.get(row_id, []), stage.prompt_of(row)
            if len(rows) + buried[row_id] == 0:
                missing += 1
            if len({str(one["_i"]) for one in rows}) != len(rows) or len(rows) not in (0, stage.samples):
                yield f"row {row_id} is there {len(rows)} times: {[one['_i'] for one in rows]}"
            if (rows and buried[row_id]) or buried[row_id] > 1:
                yield f"row {row_id} is there {len(rows)} times, and {buried[row_id]} times among the dead letters"
            if not rows and row_id not in abandoned and not _may_fail(prompt, of, stage):
                why = [dead_letter["error"]["text"] for dead_letter in dead_letters if str(dead_letter["_i"]) == row_id]
                yield f"row {row_id} failed, and its calls did not: {why}, {of.get(f'1 {prompt}')}"
            for one in rows:
                yield from self._answer(stage, row, one, kept)
            bys = [_by(stage, one) for one in rows]
            if len(set(bys)) != len(bys):
                yield f"row {row_id} has the same answer twice: {bys}"
        if missing != (node["skipped"] if stage.on_error == "skip" else 0) or (
            len(dead_letters) > len(abandoned) and stage.on_error != "dead_letter"
        ):
            gone, skipped = f"{missing} rows are gone", f"{node['skipped']} skipped by {stage.on_error}"
            yield f"{gone}, {len(dead_letters)} dead letters, {skipped}"
        for dead_letter in dead_letters:
            if dead_letter["error"]["kind"] not in ("LLMAnswerError", "LLMRequestError", "Abandoned"):
                yield f"a dead letter for {dead_letter['error']}"
            elif "outage" in dead_letter["error"]["text"] or "budget" in dead_letter["error"]["text"]:
                yield f"a dead letter for {dead_letter['error']['text']}"
        if stage.node["ordered"] and not is_replayed:
            order = [row_id for row_id in given for _ in by_id.get(row_id, [])]
            found = [str(row["_i"]) for row in made]
            if [one.rpartition("_")[0] if stage.samples > 1 else one for one in found] != order:
                yield "the order is not that of the input"

    def _answer(self, stage: Stage, row: dict[str, Any], one: dict[str, Any], kept: set[str] | None) -> Iterator[str]:
        mine = {*stage.columns, "_i", "_meta"}
        said = str(one["answer"]).split()[0] if stage.style == "t" else one["h"]
        if said != stage.wanted(row):
            yield f"row {row} has the answer of another: {one}"
        if {k: v for k, v in one.items() if k not in mine} != {k: v for k, v in row.items() if k not in mine}:
            yield f"row {row} has become {one}"
        by = _by(stage, one)
        if kept is not None and by not in kept:
            yield f"the answer {by} of {row} is not in the journal"
        if stage.has_meta:
            meta = one["_meta"][stage.name]
            till = self.tills[int(by.split("-")[0])]
            where = meta["model"], meta["endpoint"]
            if where != (f"m{by.split('-')[0]}", f"{till.base_url}/chat/completions"):
                yield f"_meta says that {where} gave {by}"
            if set(one["_meta"]) != {*row.get("_meta", {}), stage.name} or meta["prompt_tokens"] <= 0:
                yield f"_meta is {one['_meta']}"
        elif one.get("_meta") != row.get("_meta"):
            yield f"_meta has become {one.get('_meta')}"

    def _kept(self, stage: Stage) -> set[str] | None:
        """Return the marks of the answers that the journal of a node holds."""
        if stage.cache is None:
            return None
        found = set()
        with closing(sqlite3.connect(self.folder / stage.cache)) as journal:
            for (answer,) in journal.execute("SELECT answer FROM answers"):
                text = json.loads(answer[8:])["text"]  # behind its checksum
                found.add(text.split('"by": "')[-1][:10] if text.startswith("{") else text.split()[-1])
        return found

    def _paid_again(self, stage: Stage, of: dict[str, Counter[str]], deaths: int) -> Iterator[str]:
        """Yield it when answers that were kept were asked for again."""
        if stage.cache is None:
            return
        again, of_whom = 0, []
        for key, counts in of.items():
            prompt = key.partition(" ")[2]
            if not prompt.startswith(f"{stage.name} ") or never_fits(prompt) or _counts(of, prompt)["cut_off"]:
                continue
            more = counts["answered"] - counts["cut_off"] - stage.samples
            if more > 0:
                again += more
                of_whom.append((key, dict(counts)))
        if again > deaths * stage.calls_at_once:
            yield f"{again} answers were paid for again after {deaths} deaths: {of_whom[:3]}"

    def _usage(self, run_state: dict[str, Any], sold: list[dict[str, Any]], *, is_exact: bool) -> Iterator[str]:
        usage = [entry for node in run_state["nodes"] for entry in node["usage"]]
        requests, cost = (sum(entry.get(name, 0) for entry in usage) for name in ("requests", "cost"))
        served, broken_off = (sum(one[name] for one in sold) for name in ("served", "broken_off"))
        if requests > served + broken_off or (is_exact and requests < served):
            yield f"runtime.json has {requests} requests, {served} were served, {broken_off} broken off, {is_exact=}"
        tokens, charged = (sum(entry.get("total_tokens", 0) for entry in usage)), sum(one["tokens"] for one in sold)
        if tokens > charged:
            yield f"runtime.json has {tokens} tokens, and {charged} were charged"
        usd = sum(one["picodollars"] for one in sold) / PICO
        if cost > usd + 1e-9:
            yield f"runtime.json has a cost of {cost}, and {usd} were charged"

    def _while_paused(self, came_at: list[float]) -> Iterator[str]:
        begin = math.inf
        for line in (self.folder / "pauses").read_text().splitlines():
            what, when = line.split()
            if what == "end":
                late = sum(begin + PAUSE_SLACK < moment < float(when) for moment in came_at)
                if late:
                    yield f"{late} calls came in a pause of {float(when) - begin:.2f} s"
            begin = float(when) if what == "begin" else math.inf

    def _left(self) -> Iterator[str]:
        for path in self.folder.rglob("*"):
            if not path.is_file():
                continue
            if CANARY.encode() in path.read_bytes():
                yield f"a key lies in {path}"
            if path.suffix in (".tmp", ".commits", ".dispatched", ".sock") or path.name == "owner.json":
                yield f"left over: {path}"


def _may_fail(prompt: str, of: dict[str, Counter[str]], stage: Stage) -> bool:
    """Return whether the endpoints gave a row a reason to fail."""
    each = [of.get(f"{depth} {prompt}", Counter()) for depth in _DEPTHS]
    has_failed = any(sum(counts[name] for name in _OF_CALLS) >= stage.tries for counts in each)
    return has_failed or never_fits(prompt) or _counts(of, prompt)["cut_off"] > 0


def _counts(of: dict[str, Counter[str]], prompt: str) -> Counter[str]:
    """Return the counts of a prompt, with its repairs."""
    counts = Counter[str]()
    for depth in _DEPTHS:
        counts.update(of.get(f"{depth} {prompt}", Counter()))
    return counts


def _by(stage: Stage, row: dict[str, Any]) -> str:
    return str(row["answer"]).split()[1] if stage.style == "t" else str(row["by"])


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    data = path.read_bytes()
    assert not data or data.endswith(b"\n"), f"{path} ends within a line"
    return [json.loads(line) for line in data.splitlines()]
