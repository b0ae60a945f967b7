"""Random edits of the files of runs: each is without effect on the rows, or is refused and then changes nothing."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llm_datagen import DatagenError, NodeFailedError, UnifiedPipeline
from llm_datagen.runs import RunFolder
from llm_datagen.runs.verify import verify

from ..kit.support import instrument, stored
from .tally import Tally

ROWS = 40
PIPELINE_ID = "t"
NOT_READ = ("lock", "owner.json", "checkpoint.json", "platform.log")
"""Files that no resume reads, and some that it writes whatever happens."""

KINDS = ("line away", "line twice", "lines swapped", "cut", "flip", "byte away", "byte twice")


def edit(data: bytes, dice: random.Random) -> tuple[bytes, str]:
    """Return the content of a file with one random edit, and what was done."""
    kind = dice.choice(KINDS)
    at = dice.randrange(len(data))
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :], f"flip at {at}"
    if kind == "byte away":
        return data[:at] + data[at + 1 :], f"byte {at} away"
    if kind == "byte twice":
        return data[: at + 1] + data[at:], f"byte {at} twice"
    if kind == "cut":
        return data[:at], f"cut at {at}"
    lines = data.splitlines(keepends=True)
    number = dice.randrange(len(lines))
    line = lines[number]
    if kind == "line away":
        lines[number : number + 1] = []
    elif kind == "line twice":
        lines.insert(number, line)
    else:
        other = dice.randrange(len(lines))
        lines[number], lines[other] = lines[other], line
    return b"".join(lines), f"{kind}: {number}"


class Scene:
    """A run that has stopped somewhere, in a folder of its own.

    Args:
        folder: where; it is made anew for each edit.
        settings: those of the pipeline.
        stops_at: the node, and the value of its row, at which the run fails; None: it ends well.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], stops_at: tuple[int, int] | None) -> None:
        self.folder = folder
        self.settings = settings
        self.stops_at = stops_at
        self.kept = folder.with_name(f"{folder.name}.kept")
        for place in (folder, self.kept):
            shutil.rmtree(place, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "in.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(ROWS)))
        with contextlib.suppress(NodeFailedError):
            self.pipeline(stops_at).create(PIPELINE_ID).run()
        shutil.copytree(folder, self.kept)
        self.expected = self._expected()

    def pipeline(self, stops_at: tuple[int, int] | None = None) -> UnifiedPipeline:
        """Return the pipeline, which fails at a row, or does not."""

        def double(row: Any) -> Any:
            if (0, row["n"]) == stops_at:
                raise KeyError("the run ends here")
            if row["n"] % 11 == 5 and self.settings.get("on_error") == "dead_letter":
                raise ValueError(f"{row['n']} is bad")
            return {**row, "twice": 2 * row["n"]}

        def fan(row: Any) -> Any:
            if (1, int(row["n"])) == stops_at:
                raise KeyError("the run ends here")
            return [{**row, "k": k} for k in range(int(row["n"]) % 3)]

        return UnifiedPipeline(
            [instrument(double), instrument(fan)],
            f"jsonl://{self.folder}/in.jsonl",
            f"jsonl://{self.folder}/out.jsonl",
            base_path=f"{self.folder}/between",
            results_dir=f"{self.folder}/results",
            log_file=None,
            **self.settings,
        )

    def _expected(self) -> Counter[str]:
        self.pipeline().resume(PIPELINE_ID).run()
        return self.rows()

    def rows(self) -> Counter[str]:
        """Return the rows of the output, and those that are dead-lettered."""
        found = [repr(row) for row in stored(f"jsonl://{self.folder}/out.jsonl")]
        dead_letters = [line for path in self.folder.rglob("*.errors.jsonl") for line in path.read_text().splitlines()]
        return Counter(found + [f"letter {line.partition(',')[0]}" for line in dead_letters])

    def is_right(self) -> bool:
        """Return whether the rows are those of a run that nobody has edited."""
        rows = self.rows()
        if self.settings.get("delivery") != "at_most_once":
            return rows == self.expected
        # What a commit log had said that was cut is not known to be done: it is never done again, but lettered.
        too_many, missing = rows - self.expected, self.expected - rows
        dead_lettered = {text.rpartition(":")[2] for text in too_many}
        owners = {text.partition("'_i': '")[2].partition("_")[0] for text in missing}
        return owners <= dead_lettered and all(text.startswith("letter") for text in too_many)

    def restore(self) -> None:
        """Put back everything as it was when the run had stopped."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept, self.folder)

    def files(self) -> dict[str, bytes]:
        """Return what is on the disk, without what is not read."""
        paths = (path for path in sorted(self.folder.rglob("*")) if path.is_file() and path.name not in NOT_READ)
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}

    def findings(self) -> str:
        """Return what `verify` says; empty when nothing is wrong."""
        try:
            run_state = RunFolder(self.folder / "results", PIPELINE_ID).load()
            return " | ".join(finding for account in verify(run_state) for finding in account.findings)
        except DatagenError as error:
            return str(error)

    def resume(self) -> str:
        """Go on to the end; return why it was refused, or nothing."""
        try:
            self.pipeline().resume(PIPELINE_ID).run()
        except DatagenError as error:
            return str(error)
        return ""


def scenes(folder: Path) -> Iterator[Callable[[], Scene]]:
    """Return what makes the scenes: runs that failed, and one that ended well; with dead letters, and at most once."""
    quick = {"writer_config": {"flush_batch_size": 1, "async_mode": False}}
    settings: list[tuple[dict[str, Any], tuple[int, int] | None]] = [
        ({**quick, "streaming": True}, (0, 23)),
        ({**quick, "streaming": False, "default_protocol": "csv://"}, (1, 23)),
        ({**quick, "streaming": True, "delivery": "at_most_once"}, (1, 23)),
        ({**quick, "streaming": True, "parallel_size": 3}, (1, 23)),
        ({**quick, "streaming": True, "on_error": "dead_letter", "parallel_size": 3}, None),
        ({"streaming": True, "id_scheme": "numeric"}, None),
    ]
    for number, (given, stops_at) in enumerate(settings):
        yield lambda number=number, given=given, stops_at=stops_at: Scene(  # type: ignore[misc]
            folder / f"scene-{number}", given, stops_at
        )


def tampering(folder: Path, *, edits: int, seed: int) -> Tally:
    """Make so many random edits, one at a time, and look at what a resume and `verify` do about each."""
    tally, dice = Tally(), random.Random(seed)
    made = [make() for make in scenes(folder)]
    for number in range(edits):
        scene = made[number % len(made)]
        scene.restore()
        before = scene.files()
        names = [name for name, data in before.items() if data and name != "in.jsonl"]
        name = dice.choice(names)
        changed, what = edit(before[name], dice)
        if changed == before[name]:
            continue
        (scene.folder / name).write_bytes(changed)
        tally.runs += 1
        _judge(scene, f"scene {number % len(made)}, {name}, {what}", tally)
    return tally


def _judge(scene: Scene, what: str, tally: Tally) -> None:
    tampered = scene.files()
    try:
        findings = scene.findings()
    except Exception as error:  # noqa: BLE001
        tally.findings.append(f"{what}: verify raised {error!r}")
        return
    try:
        refusal = scene.resume()
    except Exception as error:  # noqa: BLE001
        tally.findings.append(f"{what}: resume raised {error!r}")
        return
    if refusal:
        tally.refused += 1
        after = scene.files()
        if after != tampered:
            names = {name for name in {*after, *tampered} if after.get(name) != tampered.get(name)}
            tally.findings.append(f"{what}: refused ({refusal}), and {sorted(names)} changed")
        if not findings:
            tally.findings.append(f"{what}: refused ({refusal}), and verify finds nothing")
        return
    if not scene.is_right():
        wrong = f"missing {scene.expected - scene.rows()}, too many {scene.rows() - scene.expected}"
        tally.findings.append(f"{what}: accepted, and the rows are wrong: {wrong[:300]}; verify said {findings!r}")
    elif left := scene.findings():
        tally.findings.append(f"{what}: accepted, and verify says after it: {left}")
