"""Things that a pipeline in YAML names by where to import them from: ``"module:Name"``."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from llm_datagen.errors import ConfigError

_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_import_path(value: Any) -> bool:
    """Return whether `value` has the form ``"module:Name"``."""
    return isinstance(value, str) and _IMPORT_PATH.fullmatch(value) is not None


def imported(path: str, *, what: str) -> Any:
    """Return what `path` names.

    Args:
        path: ``"module:Name"``.
        what: the argument, as the error names it.

    Raises:
        ConfigError: when it cannot be imported.
    """
    module_name, _, name = path.partition(":")
    try:
        return getattr(import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{what} {path!r} cannot be imported: {error}") from error
