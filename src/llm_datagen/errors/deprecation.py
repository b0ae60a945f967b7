"""Names and modules of an earlier release that keep working for one more, with a DeprecationWarning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:  # it imports much
    from importlib.abc import Loader


def old_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module's `__getattr__` that knows old names.

    Args:
        module: the module's name.
        names: the name of today, by the old one.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807 - what the caller calls it
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        deprecated(f"{module}.{name} is {names[name]} now")
        return getattr(sys.modules[module], names[name])

    return __getattr__


class MovedModules:
    """An import finder and loader of modules that have moved. To be put in `sys.meta_path`.

    Args:
        moved: the name of today, by the old one.
    """

    def __init__(self, moved: Mapping[str, str]) -> None:
        self._moved = moved

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load a module that has moved; None for all others."""
        return ModuleSpec(fullname, cast("Loader", self)) if fullname in self._moved else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python to make the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the old module with the names of the new one."""
        new = self._moved[module.__name__]
        deprecated(f"{module.__name__} is {new} now")
        found = import_module(new)
        kept = {name: value for name, value in vars(found).items() if name == "__all__" or not name.startswith("__")}
        module.__dict__.update(kept, __getattr__=partial(getattr, found))  # for names that it imports when asked for


def deprecated(what: str) -> None:
    """Warn whoever called the caller of this function."""
    warnings.warn(f"{what}; the old name goes with the next release", DeprecationWarning, stacklevel=3)
