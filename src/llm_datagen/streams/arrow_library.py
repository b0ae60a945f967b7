"""The library pyarrow: imported when it is needed, and with the allocator of the system."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from llm_datagen.errors import ConfigError

_POOL = "ARROW_DEFAULT_MEMORY_POOL"


def arrow(module: str = "pyarrow") -> Any:
    """Return a module of pyarrow, which is imported when it is needed.

    A process that has not imported it, nor chosen an allocator (``ARROW_DEFAULT_MEMORY_POOL``), gets that of the
    system: pyarrow's own keeps 30 MB that it does not need.

    Raises:
        ConfigError: when it is not installed.
    """
    is_first = "pyarrow" not in sys.modules and _POOL not in os.environ
    if is_first:
        os.environ[_POOL] = "system"
    try:
        if is_first:
            importlib.import_module("pyarrow").default_memory_pool()  # which is when it looks
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError("Parquet and Arrow files need pyarrow: pip install 'llm-datagen[parquet]'") from None
    finally:
        if is_first:
            os.environ.pop(_POOL, None)
