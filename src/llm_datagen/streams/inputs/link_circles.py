"""Links to folders that lead in a circle: a pattern with ``**`` finds each file below them again and again."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def without_circles(paths: Iterable[str]) -> list[str]:
    """Return the paths of files on whose way no link leads back to a folder that the way has passed."""
    known: dict[Path, bool] = {}
    return [path for path in paths if not _is_in_circle(Path(path).parent, known)]


def _is_in_circle(folder: Path, known: dict[Path, bool]) -> bool:
    """Return whether a folder lies behind such a link; `known` keeps the answers."""
    if folder not in known:
        above = folder.parent
        if above == folder:
            known[folder] = False
        elif folder.is_symlink() and Path(os.path.realpath(above)).is_relative_to(os.path.realpath(folder)):
            known[folder] = True
        else:
            known[folder] = _is_in_circle(above, known)
    return known[folder]
