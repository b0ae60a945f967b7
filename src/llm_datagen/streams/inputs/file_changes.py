"""What became of the files of a set since a run has listed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_datagen.errors import StreamChangedError
from llm_datagen.streams.storage.base import Storage

Noted = dict[str, list[Any]]
"""What a run has noted of each file, by its name, in the order in which they are read. Their size comes first."""

_NAMED = 5


def shown_names(names: Sequence[str]) -> str:
    """Return some names, and how many more there are."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


@dataclass(frozen=True, slots=True)
class FileChanges:
    """Which files are not what they were.

    Attributes:
        gone: names of files that are not there any more.
        changed: names of files whose rows may be others.
        grown: names of files to which something was added after they were read to their end. Nobody reads it.
    """

    gone: Sequence[str] = ()
    changed: Sequence[str] = ()
    grown: Sequence[str] = ()

    @property
    def lost(self) -> str:
        """What became of files whose rows are not there any more as they were, for people; empty when all are."""
        told = []
        if self.gone:
            told.append(f"{shown_names(self.gone)} {'is' if len(self.gone) == 1 else 'are'} gone")
        if self.changed:
            is_one = len(self.changed) == 1
            told.append(f"{shown_names(self.changed)} {'is not what it was' if is_one else 'are not what they were'}")
        return ", and ".join(told)

    @property
    def unread(self) -> str:
        """What has rows that nobody reads, for people; empty when nothing has."""
        if not self.grown:
            return ""
        has = "has" if len(self.grown) == 1 else "have"
        return (
            f"{shown_names(self.grown)} {has} grown after other files were begun, and what was added may not have been "
            "read: give new rows in a new file"
        )

    def refusal(self, path: str) -> StreamChangedError:
        """Return the error that says why nobody goes on with these files."""
        return StreamChangedError(
            f"{path}: {self.lost}, and the run has begun to read these files, whose rows are kept, and could be others "
            "now; restore what was there, or, if it was damaged and is mended, start afresh with "
            "if_exists='overwrite', which does all rows again"
        )

    def all(self) -> list[str]:
        """Return all of it, for people."""
        return [text for text in (self.lost, self.unread) if text]


def changes_of(
    storage: Storage,
    is_changed: Callable[[str, list[Any]], bool],
    noted: Noted,
    begun: Noted,
    there: Mapping[str, str],
) -> FileChanges:
    """Return what became of files.

    Args:
        storage: where they lie.
        is_changed: given a path and what was noted of it, returns whether what was there is not what it was.
        noted: all that were listed.
        begun: those of them that were begun; when none was, all may have changed. The last one may grow.
        there: the paths of those that are there now, by their names.
    """
    here = {name: values for name, values in (begun or noted).items() if name in there}
    changed = [name for name, values in here.items() if is_changed(there[name], values)]
    passed = [name for name in list(begun)[:-1] if name in here and name not in changed]
    grown = [name for name in passed if (storage.size(there[name]) or 0) > begun[name][0]]
    return FileChanges([name for name in noted if name not in there], changed, grown)


def not_as_listed(
    storage: Storage, is_changed: Callable[[str, list[Any]], bool], listed: Noted, paths: Mapping[str, str]
) -> str | None:
    """Return the names of files that are not what they were, also if they only grew, with what they are; else None.

    Args:
        storage: where they lie.
        is_changed: as of `changes_of`.
        listed: what was noted of them.
        paths: where each lies, or has lain.
    """
    sizes = {name: storage.size(paths[name]) for name in listed}
    if gone := [name for name, size in sizes.items() if size is None]:
        return f"{shown_names(gone)}: gone"
    changed = [name for name, values in listed.items() if sizes[name] != values[0] or is_changed(paths[name], values)]
    return f"{shown_names(changed)}: not what {'it was' if len(changed) == 1 else 'they were'}" if changed else None
