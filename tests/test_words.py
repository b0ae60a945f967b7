"""The package and its documentation use the field's words: none of those that it had of its own is left."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ROOT = next(parent for parent in Path(__file__).parents if (parent / "pyproject.toml").exists())

RETIRED = {
    r"kin": "coverage, ids",
    "letters": "dead letters",
    r"ledgers?": "account (of rows), spend (of money)",
    r"lineage": "trace",
    r"audit(ed|s)?": "verify",
    r"trials?": "preview",
    r"wiring": "binding",
    r"salvag\w+": "crash isolation",
    r"equipment": "worker setup",
    r"(tak(e|es|ing)|took|taken) note": "record",
    r"se(e|es|eing|en) to it": "make sure",
    r"journal(ed|s)?": "cache",
    r"ceilings?": "limit",
    r"images? of (a |the )?runs?": "run state",
    r"orders (of|to) (an? |the )?(actor|run|pipeline)": "command",
    r"one's own": "your own",
    r"StageTrial|RunRecord|NodePlan|LocalDisk|HoldCalls|AllowCalls|FailedRows|HookRunner": "their new names",
    r"joints?": "the files of a node",
    r"steer\w*": "control",
    r"KeptPipeline|KeepingCodec|KeepingEncoder|StateHeard|settle_merges|change_pace": "their new names",
}
"""Words that nobody could guess, and what the field says."""

ALLOWED = [
    r"[Dd]ead[ _-]letters|DEAD_LETTERS",
    r"(capital|case of|some|small|12) letters|letters(,| and) digits",  # those of the alphabet
    r"Letters of ASCII|escaped letters|4 letters",
    r"journal_mode|-journal|JournalError",  # SQLite's; the old name of an error
    r"`?\"?ledger\"?`?: what|`ledger` \||\"ledger\"",  # a key on disk
    r"\"audit\"|`\.audit`",  # the old path of a module
]
"""Where they mean something else."""


RETIRED_IN_PAGES = {
    r"(?<!you )(is|are|was|were) told": "who says what to whom",
    r"(calls?|tokens|times|bytes|rows|line|object) a (row|minute|second|node|call|task)": "per row",
}
"""What pages for users and examples do not say."""


@functools.cache
def pages() -> dict[str, str]:
    """Return the pages and examples."""
    paths = [*ROOT.glob("*.md"), *ROOT.joinpath("docs").rglob("*.md"), *ROOT.joinpath("examples").rglob("*.py")]
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths if path.name != "CHANGELOG.md"
    }


@functools.cache
def texts() -> dict[str, str]:
    """Return the pages, examples and modules."""
    modules = ROOT.joinpath("src").rglob("*.py")
    return pages() | {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in modules}


def around(text: str, place: int) -> str:
    return " ".join(text[max(0, place - 60) : place + 60].split())


def is_allowed(word: str, context: str) -> bool:
    return any(word in other[0] for allowed in ALLOWED for other in re.finditer(allowed, context))


def uses(word: str, texts: Mapping[str, str]) -> list[str]:
    """Return the places where a word is used, but for those where it means something else."""
    pattern = re.compile(rf"(?<![A-Za-z])(?:{word})(?![A-Za-z])", re.IGNORECASE)
    return [
        f"{path}, line {text.count(chr(10), 0, match.start()) + 1}: {context}"
        for path, text in texts.items()
        for match in pattern.finditer(text)
        if not is_allowed(match[0], context := around(text, match.start()))
    ]


def named(words: Iterable[str]) -> list[str]:
    return [re.sub(r"\W+", " ", word) for word in words]


@pytest.mark.parametrize(("word", "said"), RETIRED.items(), ids=named(RETIRED))
def test_a_retired_word_is_nowhere(word: str, said: str) -> None:
    found = uses(word, texts())
    assert not found, f"the field says {said}"


@pytest.mark.parametrize(("word", "said"), RETIRED_IN_PAGES.items(), ids=named(RETIRED_IN_PAGES))
def test_what_pages_do_not_say_is_in_none(word: str, said: str) -> None:
    found = uses(word, pages())
    assert not found, f"write {said}"


def test_each_word_of_the_glossary_is_there_once() -> None:
    glossary = ROOT.joinpath("docs", "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", glossary, re.MULTILINE)
    assert len(words) > 50
    assert len(set(words)) == len(words)
    assert words[1:] == sorted(words[1:], key=str.lower)


def test_the_texts_are_all_there() -> None:
    assert len(texts()) > 400
    assert len(pages()) > 50
    assert uses("letters", {"page": "the letters of a run"})
    assert not uses("letters", {"page": "the dead letters of a run"})
