"""Random edits of what model calls keep: the budget's spend file, and the cache of answers."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

from llm_datagen import DatagenError, UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.testing import FakeLLMServer

from ..kit.support import stored
from .tally import Tally
from .tampering import edit

ROWS = 30
PIPELINE_ID = "t"


def tampering_llm(folder: Path, *, edits: int, seed: int) -> Tally:
    """Edit the account or the journal of a run that has reached its budget, and go on with a higher one, so many times.

    The rows are those that nobody has edited, or the run fails and names the file; then it goes on when the file is
    back. No answer that was changed in the journal is in a row.
    """
    tally, dice = Tally(), random.Random(seed)
    with FakeLLMServer(answer=lambda messages: f"of {messages[-1]['content']}") as server:
        for number in range(edits):
            _one(folder / str(number), server, dice, tally)
    return tally


def _pipeline(folder: Path, server: FakeLLMServer, tokens: int, output: str = "out") -> UnifiedPipeline:
    ask = LLMOperator(
        "row {{ n }}",
        model="m",
        base_url=server.base_url,
        params={"max_tokens": 20},
        budget={"tokens": tokens},
        cache=f"{folder}/answers.sqlite",
        max_retries=0,
    )
    return UnifiedPipeline(
        [ask],
        f"jsonl://{folder}/in.jsonl",
        f"jsonl://{folder}/{output}.jsonl",
        results_dir=f"{folder}/results",
        log_file=None,
    )


def _rows(folder: Path, output: str) -> Counter[str]:
    rows: list[dict[str, Any]] = stored(f"jsonl://{folder}/{output}.jsonl")
    return Counter(f"{row['n']} {row['answer']}" for row in rows)


def _one(folder: Path, server: FakeLLMServer, dice: random.Random, tally: Tally) -> None:
    folder.mkdir(parents=True)
    (folder / "in.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(ROWS)))
    _pipeline(folder, server, 350).create(PIPELINE_ID).run()
    name = dice.choice(["answers.sqlite", f"results/{PIPELINE_ID}/files/budget.jsonl"])
    whole = (folder / name).read_bytes()
    changed, what = edit(whole, dice)
    (folder / name).write_bytes(changed)
    tally.runs += 1
    told = ""
    try:
        _pipeline(folder, server, 10**6).resume(PIPELINE_ID).run()
        _pipeline(folder, server, 10**6, "again").create("again").run()  # takes what it can from the journal
    except DatagenError as error:
        told = f"{error} {error.__cause__}"
    except Exception as error:  # noqa: BLE001
        tally.findings.append(f"{name}, {what}: {error!r}")
        return
    if told:
        tally.refused += 1
        if Path(name).name not in told:
            tally.findings.append(f"{name}, {what}: the error names no file: {told}")
        for beside in folder.glob("answers.sqlite-*"):
            beside.unlink()
        (folder / name).write_bytes(whole)
        _pipeline(folder, server, 10**6).resume(PIPELINE_ID).run()
        _pipeline(folder, server, 10**6, "again").create("again", if_exists="resume").run()
    for output in ("out", "again"):
        if (rows := _rows(folder, output)) != Counter(f"{n} of row {n}" for n in range(ROWS)):
            tally.findings.append(f"{name}, {what}: the rows of {output} are wrong: {rows}; it said {told!r}")
