"""Real calls of a test, recorded once and replayed from then on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_datagen.llm.cache.cassette_file import RecordMode


@contextmanager
def cassette(path: str | os.PathLike[str], record_mode: RecordMode | None = None) -> Iterator[Path]:
    """Play the calls of all `LLMOperator` within the block from a file, or record them there; usable as a decorator.

    Works for pipelines of this process and of processes that it starts: it sets the environment variables
    ``LLM_DATAGEN_CASSETTE`` and ``LLM_DATAGEN_RECORD_MODE``, so only one block can be active at a time.

    Args:
        path: the file, JSON lines; relative to the working directory.
        record_mode: "none": only play, a call that is not there is an error, and the network is not touched; "once":
            record, if there is no file, else as "none"; "new_episodes": play what is there, record the rest; "all":
            record everything anew. None: the environment variable ``LLM_DATAGEN_RECORD_MODE``, else "none".

    Yields:
        The absolute path of the file.

    Raises:
        ConfigError: on another record mode.
    """
    from llm_datagen.llm.cache.cassette import CASSETTE_VARIABLE, MODE_VARIABLE, checked_mode, eject

    file = Path(path).absolute()
    values = {
        CASSETTE_VARIABLE: str(file),
        MODE_VARIABLE: checked_mode(record_mode or os.environ.get(MODE_VARIABLE) or "none"),
    }
    before = {name: os.environ.get(name) for name in values}
    eject(file)
    os.environ.update(values)
    try:
        yield file
    finally:
        eject(file)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
