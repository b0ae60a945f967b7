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
    """Return texts of 40 to 120 words; after them, copies of some, of which up to 4 % of the words are others (`of`).

    And as many that are similar to some, but no duplicates: 15 to 30 % of the words are others.
    """
    chance = random.Random(7)
    rows: list[dict[str, Any]] = [
        {"text": " ".join(chance.choices(WORDS, k=chance.randint(40, 120)))} for _ in range(texts)
    ]
    for number in range(2 * copies):
        original = chance.randrange(texts)
        is_copy = number % 2 == 0
        share = chance.uniform(0, 0.04) if is_copy else chance.uniform(0.15, 0.3)
        words = rows[original]["text"].split()
        text = " ".join(chance.choice(WORDS) if chance.random() < share else word for word in words)
        rows.append({"text": text, **({"of": original} if is_copy else {})})
    return rows


@pytest.mark.slow
def test_planted_duplicates_are_found_and_no_others() -> None:
    rows = corpus(200, 150)
    made = outcome(ops.MinHashDedupe(threshold=0.6, mark="same_as"), rows)
    planted = {row["_i"] for row in made if "of" in row}
    marked = {row["_i"] for row in made if row["same_as"] is not None}
    recall, precision = len(planted & marked) / len(planted), len(planted & marked) / len(marked)
    print(f"{len(planted)} planted, recall {recall:.3f}, precision {precision:.3f}")
    assert recall >= 0.95
    assert precision >= 0.98
    for row in made:
        if row["same_as"] is not None:
            assert similarity(row["text"], made[row["same_as"]]["text"]) > 0.45
    kept = bare(outcome(ops.MinHashDedupe(threshold=0.6), rows))
    assert kept == [rows[number] for number in range(len(rows)) if number not in marked]


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


def test_ids_of_more_than_64_bits_are_compared_as_well() -> None:
    rows = [{"text": text, "_i": row_id} for text, row_id in (("a b c", 2**63), ("d e f", str(2**63)), ("a b c", 1))]
    made = outcome(ops.MinHashDedupe(mark="same_as"), rows)
    assert [row["same_as"] for row in made] == [None, None, 2**63]


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


@pytest.mark.slow
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
