"""The package and its documentation use the field's words: none of those that it had of its own is left."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

ROOT = next(parent for parent in Path(__file__).parents if (parent / "pyproject.toml").exists())

RETIRED = {
    r"kin": "coverage, ids",
    "letters": "dead letters",
    r"spool\w*": "spill",
    r"ledgers?": "account (of rows), spend (of money)",
    r"lineage": "trace",
    r"audit(ed|s)?": "verify",
    r"trials?": "preview",
    r"wiring": "binding",
    r"salvag\w+": "crash isolation",
    r"equipment": "worker setup",
    r"tak(e|es|ing) note of": "record",
    r"see(s)? to it that": "make sure",
    r"journal(ed|s)?": "cache",
    r"StageTrial|RunRecord|NodePlan|LocalDisk|HoldCalls|AllowCalls|FailedRows|HookRunner": "their new names",
    r"joints?": "the files of a node",
    r"steer\w*": "control",
    r"KeptPipeline|KeepingCodec|KeepingEncoder|StateHeard|settle_merges|change_pace": "their new names",
}
"""Words that nobody could guess, and what the field says."""

ALLOWED = [
    r"[Dd]ead[ _-]letters|DEAD_LETTERS",
    r"(capital|case of|some|small|12) letters|letters(,| and) digits",  # those of the alphabet
    r"journal_mode|-journal|JournalError",  # SQLite's; the old name of an error
    r"`?\"?ledger\"?`?: what|`ledger` \||\"ledger\"",  # a key on disk
    r"\"audit\"|`\.audit`",  # the old path of a module
]
"""Where they mean something else."""


@functools.cache
def texts() -> dict[str, str]:
    paths = [*ROOT.joinpath("src").rglob("*.py"), *ROOT.joinpath("docs").rglob("*.md"), ROOT / "README.md"]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def around(text: str, place: int) -> str:
    return " ".join(text[max(0, place - 60) : place + 60].split())


def is_allowed(word: str, context: str) -> bool:
    return any(word in other[0] for allowed in ALLOWED for other in re.finditer(allowed, context))


@pytest.mark.parametrize(("word", "said"), RETIRED.items(), ids=[re.sub(r"\W+", " ", word) for word in RETIRED])
def test_a_retired_word_is_nowhere(word: str, said: str) -> None:
    pattern = re.compile(rf"(?<![A-Za-z])(?:{word})(?![A-Za-z])", re.IGNORECASE)
    found = [
        f"{path}: {context}"
        for path, text in texts().items()
        for match in pattern.finditer(text)
        if not is_allowed(match[0], context := around(text, match.start()))
    ]
    assert not found, f"the field says {said}"


def test_the_texts_are_all_there() -> None:
    assert len(texts()) > 400
