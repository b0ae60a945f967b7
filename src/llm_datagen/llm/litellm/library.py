"""The library, imported when it is needed."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from llm_datagen.errors import ConfigError


@cache
def litellm() -> Any:
    """Return the library, told to be quiet and to fetch nothing. The first call takes seconds.

    Raises:
        ConfigError: when it is not installed.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import waits for a download of prices
    try:
        import litellm as library
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"adapter='litellm' needs the extra 'litellm' ({error.name} is missing): pip install 'llm-datagen[litellm]'"
        ) from error
    library.suppress_debug_info = True  # it prints advice of its own, with the messages
    return library
