"""Names of tools, as all APIs take them."""

from __future__ import annotations

import re
from typing import Any

from llm_datagen.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def checked_name(name: Any, advice: str = "Tool(function, name=…)") -> str:
    """Return the name of a tool.

    Args:
        name: it.
        advice: how another one is given.

    Raises:
        ConfigError: when APIs would refuse it.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"a tool must have a name of up to 64 letters, digits, '_' and '-', with a letter or '_' first, not "
            f"{name!r}: give it one, {advice}"
        )
    return name
