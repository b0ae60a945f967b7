"""Near duplicates: planted ones are found, others are kept. The figures stand in the documentation."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest

from llm_datagen import ConfigError, RowDataError, ops
from llm_datagen.ops.bands import best_bands

from ..kit.support import Bench, lines
from .calls import bare, outcome

pytest.importorskip("datasketch")

WORDS = [f"{first}{last}" for first in ("ba", "ke", "li", "mo", "nu", "pra", "sto") for last in "abcdefghijklmnopqrst"]


def shingles(text: str, n: int = 3) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return set(zip(*(words[at:] for at in range(n)), strict=False))


def similarity(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def corpus(texts: int, copies: int) -> list[dict[str, Any]]:
    """Return texts of 40 to 120 words, and after them copies of some, of which 0 to 12 % of the words are others."""
    chance = random.Random(7)
    rows = [{"text": " ".join(chance.choices(WORDS, k=chance.randint(40, 120)))} for _ in range(texts)]
    for _ in range(copies):
        original = chance.randrange(texts)
        words = rows[original]["text"].split()
        share = chance.random() * 0.12
        copy = " ".join(chance.choice(WORDS) if chance.random() < share else word for word in words)
        rows.append({"text": copy, "of": original})
    return rows


def test_planted_duplicates_are_found_and_hardly_any_other() -> None:
    rows = corpus(250, 200)
    made = outcome(ops.MinHashDedupe(threshold=0.7, mark="same_as"), rows)
    likeness = [similarity(row["text"], rows[row["of"]]["text"]) if "of" in row else 0.0 for row in rows]
    marked = [row["same_as"] is not None for row in made]
    true = [value >= 0.7 for value in likeness]
    found = sum(one and other for one, other in zip(marked, true, strict=True))
    recall, precision = found / sum(true), found / sum(marked)
    print(f"{sum(true)} planted, recall {recall:.3f}, precision {precision:.3f}")
    assert sum(true) > 90
    assert recall > 0.93
    assert precision > 0.93
    assert min(value for value, is_marked in zip(likeness, marked, strict=True) if is_marked) > 0.55
    clear = [is_marked for value, is_marked in zip(likeness, marked, strict=True) if value > 0.8]
    assert len(clear) > 50
    assert all(clear)
    assert all(row["same_as"] in (None, row.get("of")) for row in made if row["same_as"] is None or "of" in row)
    kept = bare(outcome(ops.MinHashDedupe(threshold=0.7), rows))
    assert kept == [row for row, is_marked in zip(rows, marked, strict=True) if not is_marked]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, [0, 2, 3, 4, 5]),
        ({"threshold": 1}, [0, 2, 3, 4, 5]),
        ({"unit": "characters", "ngrams": 5}, [0, 2, 3, 4, 5]),
        ({"seed": 3, "permutations": 64}, [0, 2, 3, 4, 5]),
    ],
)
def test_short_and_empty_texts_are_compared_as_well(settings: Any, kept: list[int]) -> None:
    texts = [
        "A bird sings  in the tree",
        "a bird sings in the tree",
        "bird",
        "",
        "something else now",
        "鳥が歌う",
        "鳥が歌う",
    ]
    rows = [{"text": text} for text in texts]
    assert [row["_i"] for row in outcome(ops.MinHashDedupe(**settings), rows)] == kept


def test_bands_find_what_is_similar() -> None:
    for threshold in (0.3, 0.5, 0.8, 0.95, 1.0):
        bands, values = best_bands(threshold, 128)
        assert bands * values <= 128
        similar = min(1, threshold + 0.1)
        assert 1 - (1 - similar**values) ** bands > 0.92


def test_what_cannot_be_compared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RowDataError, match="column 'text' must hold text, and holds null"):
        outcome(ops.MinHashDedupe(), [{"text": None}])
    with pytest.raises(ConfigError, match="threshold must be a number above 0"):
        ops.MinHashDedupe(threshold=0)
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(ConfigError, match=r"extra 'dedupe'.*pip install 'llm-datagen\[dedupe\]'"):
        ops.MinHashDedupe()


def test_near_duplicates_are_known_after_a_stop(bench: Bench) -> None:
    from ..kit.support import Stopping

    rows = [{**row, "n": number} for number, row in enumerate(corpus(60, 60))]
    bench.give(rows)
    pipeline = bench.pipeline([Stopping(80), ops.MinHashDedupe(mark="same_as")], streaming=True)
    pipeline.create("run")
    pipeline.run()
    again = bench.pipeline([Stopping(), ops.MinHashDedupe(mark="same_as")], streaming=True)
    again.resume("run")
    again.run()
    assert lines(bench.output) == outcome(ops.MinHashDedupe(mark="same_as"), rows)
