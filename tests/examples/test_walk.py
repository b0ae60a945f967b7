"""The walk of a row in docs/internals/walk.md goes through the code as it is: each function that it names is called."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import llm_datagen

from .pages import DOCS, names_in

SOURCE = Path(llm_datagen.__file__).parent
ROW = re.compile(r"^\| `([a-z_/]+\.py)` \| (`[^|]+`) \|", re.MULTILINE)


def walked() -> list[tuple[str, str]]:
    """Return the files and functions of the walk, in order."""
    text = (DOCS / "internals" / "walk.md").read_text(encoding="utf-8")
    return [(file, name) for file, names in ROW.findall(text) for name in names_in(names)]


def test_each_function_of_the_walk_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in (5, 6, 7)), encoding="utf-8")
    called: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            called.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    def double(row: dict[str, Any]) -> dict[str, Any]:
        return {"n": 2 * row["n"]}

    def same(row: dict[str, Any]) -> dict[str, Any]:
        return row

    pipeline = llm_datagen.UnifiedPipeline([double, same], "in.jsonl", "out.jsonl", streaming=True)
    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        pipeline.create("walk").run()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    lines = Path("out.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(lines) == ['{"n":10,"_i":0}', '{"n":12,"_i":1}', '{"n":14,"_i":2}']
    steps = walked()
    assert len(steps) > 30
    missing = [step for step in steps if (str(SOURCE / step[0]), step[1]) not in called]
    assert not missing, f"the walk names what is not called: {missing}"
