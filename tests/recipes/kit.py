"""A recipe in a folder of its own, with an endpoint that answers as a test says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any

import yaml

from llm_datagen import RunReport, Status
from llm_datagen.cli.recipes import recipe_text
from llm_datagen.cli.target import find_target

from ..kit.support import lines


class Kitchen:
    """Runs recipes in a folder, which must be the current one, and answers the questions of their models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: Counter[str] = Counter()
        self.report: RunReport
        self._known: dict[str, Any] = {}

    def answers(self, known: Mapping[str, Any]) -> None:
        """Say what is answered: by a text that occurs in the question, of which the first that fits counts.

        An answer is a text, JSON data, several in turn (a tuple), or a function of the question.
        """
        self._known = dict(known)

    def answer(self, messages: Sequence[Mapping[str, Any]]) -> Any:
        """Answer a question, and count it in `calls`, as the server's `answer`."""
        asked = "\n".join(str(message["content"]) for message in messages)
        for key, value in self._known.items():
            if key in asked:
                number = self.calls[key]
                self.calls[key] += 1
                made = value[number % len(value)] if isinstance(value, tuple) else value
                return made(asked) if callable(made) else made
        raise AssertionError(f"nothing is known to answer to: {asked}")

    def file(self, name: str, changes: Mapping[str, Any]) -> Path:
        """Write a recipe, with other values of some keys, and return its path."""
        file = self.folder / f"{name}.yaml"
        text = recipe_text(name)
        file.write_text(json.dumps({**yaml.safe_load(text), **changes}) if changes else text, encoding="utf-8")
        return file

    def run(self, name: str, **changes: Any) -> list[dict[str, Any]]:
        """Run a recipe to its end, and return what came out, without what says where it comes from."""
        self.calls.clear()
        self.report = find_target(str(self.file(name, changes))).create(None, "overwrite").run(progress=False)
        assert self.report.status is Status.COMPLETED
        assert self.report.failed == 0
        made = lines(self.folder / f"{name}.jsonl")
        return [{column: row[column] for column in row if column not in ("_i", "_sources")} for row in made]


def tasks_of(asked: str) -> dict[str, list[str]]:
    """Return four tasks that nobody else invents, and of which one is the same each time."""
    words = [md5(f"{number} {asked}".encode()).hexdigest() for number in range(3)]
    return {"task": ["Count to ten.", *(" ".join(word[at : at + 4] for at in range(0, 32, 4)) for word in words)]}
