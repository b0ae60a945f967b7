"""Whose code a module is: the user's own counts, that of installed packages does not."""

from __future__ import annotations

import functools
import sys
from pathlib import PurePath
from typing import Any

PACKAGE = __name__.partition(".")[0]
"""This package: its code is no part of an operator."""


def is_of_user(file: str | None) -> bool:
    """Return whether the file of a module is the user's own: there is one, and not among installed packages."""
    return bool(file) and not {"site-packages", "dist-packages"} & set(PurePath(str(file)).parts)


class UserCode:
    """The modules whose code counts for one operator: those of the user, and of the operator's own package.

    Args:
        root: the operator, a function or an object.
    """

    def __init__(self, root: Any) -> None:
        while isinstance(root, functools.partial):
            root = root.func
        home = getattr(root, "__module__", None) or type(root).__module__
        self._home = str(home).partition(".")[0]

    def includes(self, module: Any) -> bool:
        """Return whether a module's code counts; of a module's name, or None."""
        top = str(module or "__main__").partition(".")[0]
        if top == PACKAGE or top in sys.stdlib_module_names or top == "builtins":
            return False
        if top in (self._home, "__main__"):
            return True
        return is_of_user(getattr(sys.modules.get(str(module)), "__file__", None))
