"""Whether a run in shards has left what one run on one machine leaves, and has spent what it may."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llm_datagen.runs import RunFolder
from llm_datagen.shards.claim import latest
from llm_datagen.shards.plan_file import PlanFile
from llm_datagen.shards.spec import shards_folder
from llm_datagen.shards.verify_whole import verify_whole
from llm_datagen.shards.whole import Whole

from .files import EXPECTED_OF, rows_in, unpacked
from .shard_cases import CANARY, ID, WINDOW_SECONDS, ShardCase

Row = tuple[str, dict[str, Any]]


class ShardJudge:
    """Compares a run in shards with one in peace, in the folder ``peace`` beside it.

    Args:
        case: the case.
        folder: where it is.
    """

    def __init__(self, case: ShardCase, folder: Path) -> None:
        self.case, self.folder, self.peace = case, folder, folder / "peace"
        self._run = RunFolder(folder / "results", ID)

    def verified(self) -> Iterator[str]:
        """Yield what `verify` finds, at any time when nobody runs it."""
        if not self._run.exists():
            return
        whole = Whole.find(self._run)
        if whole is None:
            yield "it is not in shards"
            return
        found = verify_whole(whole)
        yield from (f"verify: {text}" for text in found.findings)
        yield from (f"verify: {node.node_id}: {text}" for node in found.nodes for text in node.findings)

    def findings(self) -> Iterator[str]:
        """Yield what is wrong with a run that is completed."""
        yield from self.verified()
        state, peace = self._run.load(), RunFolder(self.peace / "results", ID).load()
        if state["status"] != "completed":
            yield f"runtime.json says {state['status']}"
        for node, wanted in zip(state["nodes"], peace["nodes"], strict=True):
            there, right = ([entry[name] for name in EXPECTED_OF] for entry in (node, wanted))
            if there != right:
                yield f"runtime.json: {node['node_id']} has {EXPECTED_OF} {there}, not {right}"
        for name in self.case.outputs():
            yield from (f"{name}: {what}" for what in self._output(name))
        if self.case.export:
            yield from (f"the export: {what}" for what in self._export())
        found = _bag(self._dead_letters(*self._latest()))
        yield from _difference("dead letters", found, _bag(self._dead_letters(self.peace)))
        yield from self._left()

    def account(self, sold: dict[str, Any], again: int | None) -> Iterator[str]:
        """Yield what is wrong with the calls that an endpoint has seen.

        Args:
            sold: its account.
            again: how many answers may have been paid for twice; None: that is not known.
        """
        ask = self.case.ask
        if ask is None:
            return
        if ask.requests is not None and (self.case.has_grants or self.case.way in ("driver", "command")):
            most = most_within(sold["came_at"], WINDOW_SECONDS)
            if most > ask.requests:
                yield f"{most} calls came within a window, and the limit is {ask.requests}"
        twice = sum(max(0, counts.get("answered", 0) - 1) for counts in sold["of"].values())
        if again is not None and twice > again:
            yield f"{twice} answers were paid for again, and {again} may have been in flight"

    def _output(self, name: str) -> Iterator[str]:
        ending = self.case.ending
        wanted = self._rows([self.peace / f"{name}.{ending}"])
        if self.case.merge == "concat":
            paths = [self.folder / f"{name}.{ending}"]
        else:
            paths = sorted(self.folder.glob(f"{name}-?????-of-?????.{ending}"))
            count = len(PlanFile(shards_folder(self._run).location).load().ranges)
            if len(paths) != count or count < self.case.shards:
                yield f"{len(paths)} files of {count} shards"
        found = self._rows(paths)
        yield from _difference("rows", _bag(found), _bag(wanted))
        if self.case.is_graph or not self.case.vertices[0].settings["ordered"]:
            return
        if [row_id for row_id, _ in found] != [row_id for row_id, _ in wanted]:
            yield "the order is not that of one run"

    def _export(self) -> Iterator[str]:
        wanted = Counter(_text(_plain(row)) for _, row in self._rows([self.peace / f"out.{self.case.ending}"]))
        path = self.folder / f"more.{self.case.export}"
        if self.case.export == "parquet":
            rows = importlib.import_module("pyarrow.parquet").read_table(path).to_pylist()
        else:
            rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        yield from _difference("rows", Counter(_text(_plain(row)) for row in rows), wanted)

    def _rows(self, paths: Iterable[Path]) -> list[Row]:
        return [row for path in paths for row in rows_in(path, unpacked(path))]

    def _latest(self) -> list[Path]:
        shards = shards_folder(self._run)
        numbers = [each.number for each in PlanFile(shards.location).load().ranges]
        runs = [latest(shards.location, number) for number in numbers]
        return [Path(shards.location, run) for run in runs if run is not None]

    def _dead_letters(self, *folders: Path) -> list[Row]:
        found: list[Row] = []
        for folder in folders:
            for path in folder.rglob("*.errors.jsonl"):
                for line in path.read_bytes().splitlines():
                    row = json.loads(line)
                    error = {name: row["error"][name] for name in ("kind", "text")}
                    found.append((str(row["_i"]), {"error": error, "item": row.get("item")}))
        return found

    def _left(self) -> Iterator[str]:
        dead = set(shards_folder(self._run).path.glob("?????*")) - set(self._latest())
        for path in self.folder.rglob("*"):
            if not path.is_file() or dead & set(path.parents):
                continue
            if CANARY.encode() in path.read_bytes():
                yield f"the key lies in {path}"
            if path.suffix in (".tmp", ".commits", ".sock"):
                yield f"left over: {path}"


def most_within(moments: Iterable[float], seconds: float) -> int:
    """Return how many moments lie in the fullest window of so many seconds."""
    ordered = sorted(moments)
    first = most = 0
    for at, moment in enumerate(ordered):
        while ordered[first] <= moment - seconds:
            first += 1
        most = max(most, at - first + 1)
    return most


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without its id, and of an answer only what each answer to its prompt says."""
    row = {name: value for name, value in row.items() if name != "_i"}
    return {**row, "answer": row["answer"].split()[0]} if "answer" in row else row


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _bag(rows: Iterable[Row]) -> Counter[str]:
    return Counter(f"{row_id} {_text(_plain(row))}" for row_id, row in rows)


def _difference(what: str, found: Counter[str], wanted: Counter[str]) -> Iterator[str]:
    if found != wanted:
        lost, more = wanted - found, found - wanted
        yield f"{what}: lost {lost.total()}, {list(lost)[:3]}; too many {more.total()}: {list(more)[:3]}"
