"""The rows that benchmarks read: always the same ones, made once and kept."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["20b", "500b", "50kb", "csv", "one", "even", "tail20", "tail100", "dup"]

BYTES = {"20b": 0, "500b": 465, "50kb": 50_000, "csv": 465}
"""Bytes of text a row, so that a row has about the size of its name."""

KEPT_BYTES = 1_000_000_000
"""Files up to this size are kept for the next time."""

_VERSION = 1  # part of the files' names: change it when the rows change
_SEED = 20_240_601
_TEXTS = 997  # different texts, used in turn
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Data:
    """What a file holds.

    Attributes:
        kind: "20b", "500b", "50kb": rows of about that size; "csv": 500 B, as CSV; "one": one row, which says to become
            `rows` children; "even": rows that say to sleep 20 ms; "tail20", "tail100": 20 or 100 ms, and 1 s for 5 %;
            "dup": rows of about 200 B, of which every twentieth has the text of one before.
        rows: how many.
        sleep_factor: what the seconds to sleep are multiplied with.
    """

    kind: Kind
    rows: int
    sleep_factor: float = 1.0

    @property
    def extension(self) -> str:
        """The format."""
        return "csv" if self.kind == "csv" else "jsonl"

    def file(self, folder: Path) -> Path:
        """Return the path of the file; it is made if it is not there."""
        path = folder / f"v{_VERSION}-{self.kind}-{self.rows}-{self.sleep_factor:g}.{self.extension}"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                for chunk in self._chunks():
                    file.write(chunk)
            part.replace(path)
        return path

    def _chunks(self) -> Iterator[bytes]:
        if self.kind == "one":
            yield json.dumps({"n": 0, "children": self.rows, "text": "x" * 100}).encode() + b"\n"
        elif self.kind == "20b":
            for start in range(0, self.rows, _CHUNK):
                yield b"".join(b'{"n":%d,"a":1}\n' % n for n in range(start, min(start + _CHUNK, self.rows)))
        elif self.kind == "csv":
            yield from self._as_csv()
        elif self.kind == "dup":
            yield from self._with_duplicates()
        elif self.kind in BYTES:
            tails = [json.dumps(text, ensure_ascii=False).encode() for text in _texts(BYTES[self.kind])]
            for start in range(0, self.rows, _CHUNK):
                numbers = range(start, min(start + _CHUNK, self.rows))
                yield b"".join(b'{"id":"row-%d","n":%d,"text":%s}\n' % (n, n, tails[n % len(tails)]) for n in numbers)
        else:
            for n, seconds in enumerate(self.durations()):
                yield json.dumps({"n": n, "seconds": seconds}).encode() + b"\n"

    def _with_duplicates(self) -> Iterator[bytes]:
        tails = [json.dumps(text, ensure_ascii=False).encode()[1:] for text in _texts(140)]
        for start in range(0, self.rows, _CHUNK):
            numbers = [(n, n if n % 20 else n // 2) for n in range(start, min(start + _CHUNK, self.rows))]
            yield b"".join(b'{"id":"row-%d","text":"%d %s}\n' % (n, k, tails[k % len(tails)]) for n, k in numbers)

    def _as_csv(self) -> Iterator[bytes]:
        texts = _texts(BYTES["csv"])
        for start in range(0, self.rows, _CHUNK):
            text = io.StringIO()
            writer: Any = csv.writer(text, lineterminator="\n")
            if not start:
                writer.writerow(["id", "n", "text"])
            for n in range(start, min(start + _CHUNK, self.rows)):
                writer.writerow([f"row-{n}", n, texts[n % len(texts)]])
            yield text.getvalue().encode()

    def durations(self) -> list[float]:
        """Return the seconds that each row says to sleep."""
        chance = random.Random(_SEED)
        base = 0.1 if self.kind == "tail100" else 0.02
        slow = 0.0 if self.kind == "even" else 0.05
        return [(1.0 if chance.random() < slow else base) * self.sleep_factor for _ in range(self.rows)]


def _texts(size: int) -> list[str]:
    """Return texts as one finds them: some capitals, spaces too many, signs that do not belong there."""
    chance = random.Random(_SEED)
    dead_letters = "eeeeeeaaaaiiioooottttnnnnssssrrrrhhllddccuummffppggwwyybbvkxjqz"
    words = ["".join(chance.choices(dead_letters, k=chance.randint(2, 10))) for _ in range(800)]
    words += [word.capitalize() for word in words[:150]] + [word + "," for word in words[150:220]]
    words += [f'"{word}"' for word in words[:20]] + ["naïve", "café", "数据", "#x!", "***", "", "", "3.14", "e-mail"]
    texts = []
    for _ in range(_TEXTS if size < 10_000 else 50):
        text = "  " + " ".join(chance.choices(words, k=size // 4)) + " \t"
        texts.append(text.encode()[:size].decode(errors="ignore"))
    return texts
