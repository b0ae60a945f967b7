"""What a run has noted of the files of a set: the order in which they are read, and what a resume has found of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llm_datagen.errors import StreamChangedError
from llm_datagen.streams.inputs.file_changes import FileChanges, Noted


@dataclass(frozen=True, slots=True)
class NotedFiles:
    """What is known of the files of a set, beside those that are there.

    Attributes:
        known: what was noted of each; one that is not what it was is refused when it begins.
        passed: the same of those that were read to their end before others were begun.
        added: names of files that have come since the run began, as a resume has found.
        changes: what became of files that were begun, or of all if none was; the same.
        is_of_reader: whether a node reads the files; else somebody looks at what a run has read.
    """

    known: Noted = field(default_factory=dict)
    passed: Noted = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    changes: FileChanges = field(default_factory=FileChanges)
    is_of_reader: bool = False

    @classmethod
    def resumed(cls, listed: Noted, begun: Noted, there: Mapping[str, str], changes: FileChanges) -> NotedFiles:
        """Return what is known when a run goes on.

        Args:
            listed: all that the run has noted.
            begun: those of them that were begun: the others are read as they are now.
            there: the paths of those that are there now, by their names.
            changes: what became of them.
        """
        added = [name for name in there if name not in listed]
        return cls(begun, dict(list(begun.items())[:-1]), added, changes, is_of_reader=True)

    def in_order(self, there: Mapping[str, str], path_of: Callable[[str], str]) -> list[str]:
        """Return the paths of the files: first those that the run has noted, in its order, also if they are gone.

        Args:
            there: the paths of those that are there now, by their names.
            path_of: returns the path of one that is gone.
        """
        if not there:
            return []
        return list(({name: path_of(name) for name in self.known} | dict(there)).values())

    def refusal(self, shown: str, *, is_gone: bool) -> StreamChangedError:
        """Return the error that says that a file which begins is not what it was."""
        what = "is gone" if is_gone else "was changed"
        if self.is_of_reader:
            advice = (
                "restore it if rows of it were read: ids go by its rows; else resume the run, which reads it as it is "
                "now"
            )
        else:
            advice = "restore it: its rows, and those of the files behind it, cannot be looked up without it"
        return StreamChangedError(f"{shown} {what} since the run listed it; {advice}")
