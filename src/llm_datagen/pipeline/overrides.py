"""What `create()` may be given in place of what the constructor was given."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from llm_datagen.config import check_flag, check_path
from llm_datagen.errors import ConfigError
from llm_datagen.runs.hooks import check_hooks
from llm_datagen.runs.logs.writer import check_log

CHECKS: dict[str, Callable[[Any], Any]] = {
    "streaming": lambda value: check_flag("streaming", value),
    "results_dir": lambda value: check_path("results_dir", os.fspath(value) if hasattr(value, "__fspath__") else value),
    "hooks": check_hooks,
    "log_file": check_log,
}
"""The settings that all kinds of pipelines have, and how each is checked: the value, or a ConfigError."""


@contextlib.contextmanager
def overriding(pipeline: object, overrides: Mapping[str, Any], others: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Set attributes of a pipeline as `create()` was told; a block that raises leaves them as they were.

    Args:
        pipeline: the pipeline, with an attribute for each of `CHECKS`.
        overrides: what `create()` was given.
        others: settings that this kind of pipeline has besides; the block gets those that are overridden.

    Raises:
        ConfigError: when a name is not one of a setting, or a value is wrong.
    """
    before = dict(vars(pipeline))
    try:
        for name, value in overrides.items():
            if name in CHECKS:
                setattr(pipeline, name, CHECKS[name](value))
            elif name not in others:
                known = ", ".join(dict.fromkeys([*others, *CHECKS]))
                raise ConfigError(f"create() has no setting {name!r}; the settings are {known}")
        yield {name: value for name, value in overrides.items() if name in others}
    except BaseException:
        vars(pipeline).update(before)
        raise
