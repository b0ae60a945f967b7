"""Which files of this machine a pattern (``data/*.jsonl.gz``), or a folder, means; and what they are called in it."""

from __future__ import annotations

import glob
import os
import re
from fnmatch import fnmatchcase
from pathlib import Path

from llm_datagen.streams.inputs.link_circles import without_circles
from llm_datagen.streams.inputs.saved_dataset import saved_files
from llm_datagen.streams.sidecars import WHAT_LIES_BESIDE

_UNUSUAL = re.compile(r"//|/\.\.?(?:/|$)")
"""In a path: what `relpath` takes out of it."""

_MAGIC = re.compile(r"[*?[]")

BESIDE = (*WHAT_LIES_BESIDE, ".state.sqlite-wal", ".state.sqlite-shm", ".tmp")
"""What the names of files end with that this package puts beside its outputs."""


def is_file_set(path: str) -> bool:
    """Return whether a path means many files: a folder, or a pattern with a ``*`` that is no name of something."""
    if path.endswith(os.sep) or os.path.isdir(path):  # noqa: PTH112 - of a name that is too long, this is False
        return True
    return "*" in path and not os.path.lexists(path)


def found_files(pattern: str) -> list[str]:
    """Return the paths of the files that are there now, in order."""
    end = _fixed_end(pattern)
    if end < len(pattern):
        paths = glob.glob(glob.escape(pattern[:end]) + pattern[end:], recursive=True)  # noqa: PTH207 - a Path each costs a second for 100,000
        paths = [path for path in paths if not os.path.isdir(path)]  # noqa: PTH112
        if "**" in pattern[end:]:
            paths = without_circles(paths)
    elif (saved := saved_files(pattern)) is not None:
        return saved
    else:
        paths = []
        for folder, folders, names in os.walk(pattern):
            folders[:] = [name for name in folders if not name.startswith((".", "_"))]
            paths += [f"{folder.rstrip(os.sep)}{os.sep}{name}" for name in names if not name.startswith((".", "_"))]
    return sorted(path for path in paths if not path.endswith(BESIDE))


def may_find(pattern: str, path: str) -> bool:
    """Return whether a file at a path, once it is there, would be one of the files."""
    path = os.path.realpath(path)
    if not is_pattern(pattern):
        return Path(path).is_relative_to(os.path.realpath(pattern))
    folder = Path(os.path.realpath(_fixed(pattern)))
    if not Path(path).is_relative_to(folder):
        return False
    return _is_meant(Path(path).relative_to(folder).parts, Path(pattern[_fixed_end(pattern) :]).parts)


def _is_meant(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    if not patterns or not names:
        return names == patterns
    if patterns[0] == "**":
        return len(patterns) == 1 or _is_meant(names, patterns[1:]) or _is_meant(names[1:], patterns)
    return fnmatchcase(names[0], patterns[0]) and _is_meant(names[1:], patterns[1:])


def name_in(pattern: str, path: str) -> str:
    """Return the path of one of the files from the folder that the pattern begins with."""
    folder = _fixed(pattern)
    if path.startswith(f"{folder}/") and not _UNUSUAL.search(path):
        return path[len(folder) + 1 :]  # `relpath` of 10,000 files takes a quarter of a second
    return os.path.relpath(path, folder)


def path_in(pattern: str, name: str) -> str:
    """Return the path of the file that `name_in` has given a name."""
    return os.path.join(_fixed(pattern), name)  # noqa: PTH118


def is_pattern(path: str) -> bool:
    """Return whether a path is a pattern, and no folder of that name."""
    return _fixed_end(path) < len(path)


def _fixed(pattern: str) -> str:
    """Return the folder that a pattern begins with, before anything that may be several things."""
    end = _fixed_end(pattern)
    return pattern if end == len(pattern) else str(Path(pattern[:end]))


def _fixed_end(pattern: str) -> int:
    """Return where the name of the folder ends that a pattern begins with: all of what is no pattern.

    A folder that is there is one, whatever its name: ``a[1]``.
    """
    found = _MAGIC.search(pattern)
    while found is not None:
        slash = pattern.find("/", found.end())
        end = len(pattern) if slash < 0 else slash
        if not os.path.isdir(pattern[:end]):  # noqa: PTH112
            return pattern.rfind("/", 0, found.start()) + 1
        found = _MAGIC.search(pattern, end)
    return len(pattern)
