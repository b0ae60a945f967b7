"""What `create()` may be given in place of what the constructor was given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from llm_datagen.config import refuse_unknown, settings_in


@contextlib.contextmanager
def restoring(pipeline: object) -> Iterator[None]:
    """Leave the attributes of a pipeline as they were when a block raises."""
    before = dict(vars(pipeline))
    try:
        yield
    except BaseException:
        vars(pipeline).update(before)
        raise


def override(pipeline: object, table: type, overrides: Mapping[str, Any]) -> None:
    """Set the attributes of a pipeline that are settings: who watches, and where runs and the log go.

    Raises:
        ConfigError: when a name is not one of a setting, or a value is wrong.
    """
    refuse_unknown(table, overrides, "create()")
    for name in ("results_dir", "hooks", "log_file"):
        if name in overrides:
            setattr(pipeline, name, settings_in(table)[name].check(name, overrides[name]))
