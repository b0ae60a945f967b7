"""A loss of power: a disk that keeps a journal of what is done to it, and what the medium may hold after a cut.

A process that is killed loses nothing that the operating system has taken; a machine that loses its power loses what is
not on the medium. So the child's disk writes down each step (before it is taken; an fsync, after), the driver cuts that
journal at some point, and puts into the folder what a medium could hold then. No fsync is really made.

The model, chosen at random within what is promised:

* **A file's bytes.** What was written before an fsync of the file that has come back is there. Of what was written,
  or cut off, after that: a prefix of these steps, the next one half; and in bytes that were not synced, a block of 512
  may be zeros (the length was on the medium, the data was not).
* **Names.** A file that is made, renamed or removed changes its folder. What was done in a folder before an fsync of
  the folder that has come back is there; of what was done after that, a prefix. A rename may be there though the data
  of the renamed file is not.
* Half of the cuts are *ordered*: names are as on ext4 with its defaults, or XFS: one journal for all folders, so a
  prefix of what was done in all of them; and an fsync of any file puts the names on the medium that were made before
  it. The other half has only what POSIX promises: each folder by itself, and no name by the fsync of a file.

Folders themselves are there once they were made. What was there when the child began is on the medium, and the input,
too. The files outside the disk (which rows the operators were given) are the world: the cut ends them, and nothing
takes them back.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .power import Event

BLOCK = 512


@dataclass(slots=True, eq=False)
class _File:
    """A file, whatever its name: what is on the medium, and what was done to it since."""

    synced: bytes = b""
    steps: list[tuple[str, Any]] = field(default_factory=list)

    def all(self) -> bytes:
        """Return the content as the process sees it."""
        return _after(self.synced, self.steps)

    def sync(self) -> None:
        self.synced, self.steps = self.all(), []

    def found(self, dice: random.Random) -> bytes:
        """Return what may be found after a cut."""
        keep = dice.choice((0, len(self.steps), dice.randint(0, len(self.steps))))
        data = _after(self.synced, self.steps[:keep])
        if keep < len(self.steps) and self.steps[keep][0] == "write" and dice.random() < 0.5:
            more: bytes = self.steps[keep][1]
            data += more[: dice.randint(0, len(more))]
        if len(data) > len(self.synced) and dice.random() < 0.25:  # the length is on the medium, a block is not
            at = dice.randrange(len(self.synced), len(data))
            end = min(len(data), (at // BLOCK + 1) * BLOCK)
            at = max(len(self.synced), at // BLOCK * BLOCK)
            data = data[:at] + bytes(end - at) + data[end:]
        return data


def _after(data: bytes, steps: list[tuple[str, Any]]) -> bytes:
    for step, what in steps:
        data = data + what if step == "write" else data[:what]
    return data


_Name = tuple[str, str, _File | None]
"""A change of a name: its folder, the name, and the file that has it from now on (None: nobody)."""


class Medium:
    """What is on a disk, and what the medium may hold of it.

    Args:
        files: what is there, and on the medium, by path.
        ordered: whether there is one journal for the names of all folders.
    """

    def __init__(self, files: dict[str, bytes], *, ordered: bool) -> None:
        self._ordered = ordered
        self._now = {path: _File(data) for path, data in files.items()}
        self._synced = dict(self._now)
        self._names: list[list[_Name]] = []  # steps since, each of one name or (a rename) two
        self._open: dict[int, _File] = {}
        self.world: list[tuple[str, bytes]] = []

    def take(self, event: Event) -> None:
        """Take a step."""
        match event:
            case ("open", path, mode, number):
                file = self._now.get(path)
                if file is None:
                    file = _File()
                    self._change((path, file))
                elif mode == "wb":
                    file.steps.append(("truncate", 0))
                self._open[number] = file
            case ("write" | "truncate" as step, number, what):
                self._open[number].steps.append((step, what))
            case ("sync", number):
                self._open[number].sync()
                if self._ordered:
                    self._sync_names(None)
            case ("sync folder", folder):
                self._sync_names(None if self._ordered else folder)
            case ("rename", path, target):
                file = self._now.get(path)
                if file is not None:
                    self._change((target, file), (path, None))
            case ("remove", path):
                self._change((path, None))
            case ("world", path, data):
                self.world.append((path, data))

    def _change(self, *changes: tuple[str, _File | None]) -> None:
        self._names.append([(str(Path(path).parent), path, file) for path, file in changes])
        _rename(self._now, self._names[-1])

    def _sync_names(self, folder: str | None) -> None:
        left = []
        for step in self._names:
            if folder is None or step[0][0] == folder:
                _rename(self._synced, step)
            else:
                left.append(step)
        self._names = left

    def found(self, dice: random.Random) -> dict[str, bytes]:
        """Return what may be found after the power was cut now: the content of each file, by path.

        In a third of the cuts, all is there but what was done to one file since it was synced, or a part of that.
        """
        unsynced = sorted(path for path, file in self._now.items() if file.steps)
        if unsynced and dice.random() < 0.33:
            unlucky = self._now[dice.choice(unsynced)]
            return {path: file.found(dice) if file is unlucky else file.all() for path, file in self._now.items()}
        entries = dict(self._synced)
        groups: dict[str, list[list[_Name]]] = {}
        for step in self._names:
            groups.setdefault("" if self._ordered else step[0][0], []).append(step)
        for steps in groups.values():
            for step in steps[: dice.choice((0, len(steps), dice.randint(0, len(steps))))]:
                _rename(entries, step)
        content: dict[_File, bytes] = {}
        for file in entries.values():
            if file not in content:
                content[file] = file.found(dice)
        return {path: content[file] for path, file in entries.items()}


def _rename(entries: dict[str, _File], step: list[_Name]) -> None:
    for _, path, file in step:
        if file is None:
            entries.pop(path, None)
        else:
            entries[path] = file


def choose_cut(events: list[Event], dice: random.Random) -> int:
    """Return after how many steps to cut the power: often the last; else each kind of step is as likely as another."""
    if not events or dice.random() < 0.3:
        return len(events)
    kinds: dict[tuple[str, str], list[int]] = {}
    names: dict[int, str] = {}
    for number, event in enumerate(events, 1):
        if event[0] == "open":
            names[event[3]] = Path(event[1]).name
        name = names[event[1]] if event[0] in {"write", "truncate", "sync"} else Path(event[1]).name
        kinds.setdefault((event[0], name), []).append(number)
    return dice.choice(kinds[dice.choice(list(kinds))])


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files in a folder and below it."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def cut(folder: Path, before: dict[str, bytes], events: list[Event], at: int, dice: random.Random) -> str:
    """Make a folder what may be found in it when the power was cut after `at` steps.

    Args:
        folder: where.
        before: its files when the first step was taken.
        events: the steps.
        at: how many of them were taken.
        dice: what is chosen at random.

    Returns:
        What was done, for a report.
    """
    ordered = dice.random() < 0.5
    medium = Medium(before, ordered=ordered)
    for event in events[:at]:
        medium.take(event)
    found = medium.found(dice)
    for path in list(files_of(folder)):
        Path(path).unlink()
    for path, data in found.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)
    for path, data in medium.world:
        with Path(path).open("ab") as file:
            file.write(data)
    last = [str(part)[:80] for part in events[at - 1]] if at else "nothing"
    return f"power cut after {at} of {len(events)} steps ({'ordered' if ordered else 'POSIX'}), the last one {last}"
