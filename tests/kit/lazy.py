"""Modules that are imported when a test uses them: the collection of all tests, which each process does, does not."""

from __future__ import annotations

import importlib
from typing import Any


class Lazy:
    """A module by its name; it is imported by the first attribute that is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


pa: Any = Lazy("pyarrow")
pq: Any = Lazy("pyarrow.parquet")
pd: Any = Lazy("pandas")
pl: Any = Lazy("polars")
np: Any = Lazy("numpy")
