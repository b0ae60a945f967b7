"""The documentation and the examples use the words of the glossary, and none that it has replaced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .pages import DOCS

ROOT = DOCS.parent
RETIRED = {
    "a ceiling, of calls at once": r"\bceiling\b",
    "a journal or a ledger": r"(?<!`)\b(?:journal|ledger)\w*",
    "a spool": r"\bspool\w*",
    "an image, of a run": r"\b(?:the|its|old) image of (?:a|the) run\b|\bimages? of runs\b",
    "an order, to an actor": r"\borders (?:of|to) (?:an? |the )?(?:actor|run|pipeline)",
    "kin": r"\bkin\b",
    "letters": r"\b(?:the|its|their) letters\b",
    "lineage": r"\blineage\b",
    "one's own": r"\bone's own\b",
    "see to it that": r"\bse(?:e|es|eing|en) to it\b",
    "somebody is told": r"(?<!you )\b(?:is|are|was|were) told\b",
    "take note of": r"\b(?:take|takes|took|taken|taking) note\b",
    "so many rows a call": r"\b(?:calls?|tokens|times|bytes|rows|line|object) a (?:row|minute|second|node|call|task)\b",
}
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.py")])


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_no_retired_word_is_used(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for meaning, pattern in RETIRED.items():
        for found in re.finditer(pattern, text):
            line = text.count("\n", 0, found.start()) + 1
            raise AssertionError(
                f"{page.name}, line {line}: {found[0]!r} ({meaning}); docs/glossary.md has the word for it"
            )


def test_each_word_of_the_glossary_is_there_once() -> None:
    words = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(words) > 50
    assert len(set(words)) == len(words)
    assert words[1:] == sorted(words[1:], key=str.lower)
