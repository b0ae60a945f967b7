"""The input of the demo: 50 nouns and their definitions from WordNet 3.1.

``tests/demo/select_definitions.py`` tells how they were chosen, ``data/WORDNET-LICENSE.txt`` under which terms they
are here.
"""

from __future__ import annotations

from importlib.resources import files


def definition_lines() -> list[str]:
    """Return the definitions: one JSON object per line, with ``synset``, ``word``, ``topic``, ``definition``."""
    source = files("llm_datagen.cli.demo").joinpath("data", "definitions.jsonl")
    return source.read_text(encoding="utf-8").splitlines()
