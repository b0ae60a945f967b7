"""Short names of operators in YAML: ``use: ops.Dedupe``."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_datagen import ConfigError
from llm_datagen.cli.target import find_target

from ..kit.support import lines, write_jsonl

LINE = """
operators:
  - use: ops.Dedupe
    with: {by: text, normalize: [lower]}
  - use: ops.Keep
    with: {condition: "score >= 4 and lang in ['en', 'de']"}
  - use: ops.Cross
    with: {tone: [calm, angry]}
  - use: ops.Choose
    with: {column: level, values: {easy: 1}}
input_uri: in.jsonl
output_uri: out.jsonl
"""


def test_operators_have_short_names_in_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "line.yaml").write_text(LINE)
    write_jsonl(
        tmp_path / "in.jsonl",
        [{"text": text, "score": len(text) + 2, "lang": "en"} for text in ("Ab", "aB", "c", "abc")],
    )
    find_target("line.yaml").create("run", if_exists="error").run(progress=False)
    assert [(row["text"], row["tone"], row["level"], row["_i"]) for row in lines(tmp_path / "out.jsonl")] == [
        ("Ab", "calm", "easy", "0_0"),
        ("Ab", "angry", "easy", "0_1"),
        ("abc", "calm", "easy", "3_0"),
        ("abc", "angry", "easy", "3_1"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("ops.Dedupe", "ops.Dedup", r"operators\[0\]\.use: llm_datagen\.ops has no 'Dedup'; did you mean 'Dedupe'"),
        ("{by: text,", "{of: text,", r"operators\[0\]\.with\.of: .*takes no 'of'"),
        ("score >= 4", "score => 4", r"operators\[1\]\.with: .*cannot be read"),
        ("condition", "columns", r"operators\[1\]\.with\.columns: .*takes no 'columns'"),
    ],
)
def test_an_error_names_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "line.yaml").write_text(LINE.replace(old, new, 1))
    (tmp_path / "in.jsonl").write_text("")
    with pytest.raises(ConfigError, match=error):
        find_target("line.yaml").create("run", if_exists="error")
