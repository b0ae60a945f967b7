"""The folders of runs that are shown, and the keys by which the page names runs: never a path.

A key is ``<number of the folder>.<id>``. In the id, all but letters, digits, ``_``, ``.`` and ``-`` is written as ``~``
and two hexadecimal digits per byte, so a key is the same in a path, a query and a fragment.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import quote, unquote

from llm_datagen.errors import ConfigError, PipelineNotFoundError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.results_dir import absolute


class ResultsFolders:
    """The folders of runs that are shown.

    Args:
        folders: their paths, or URIs.

    Attributes:
        paths: their absolute paths, or URIs, each once.

    Raises:
        ConfigError: when one is neither.
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]]) -> None:
        self.paths = tuple(dict.fromkeys(absolute(folder) for folder in folders))

    def key(self, results_dir: str, pipeline_id: str) -> str:
        """Return the key of a run in one of the folders."""
        return f"{self.paths.index(results_dir)}.{_quoted(pipeline_id)}"

    def find(self, key: str) -> RunFolder:
        """Return the folder of the run that a key names.

        Raises:
            PipelineNotFoundError: when it cannot be the key of a run. Whether there is one, is not looked at.
        """
        number, _, quoted = key.partition(".")
        try:
            pipeline_id = unquote(quoted.replace("~", "%"), errors="strict")
            if self.key(self.paths[int(number)], pipeline_id) == key:
                return RunFolder(self.paths[int(number)], pipeline_id)
        except (ValueError, IndexError, ConfigError):
            pass
        raise PipelineNotFoundError("there is no such run")


def _quoted(pipeline_id: str) -> str:
    return quote(pipeline_id, safe="").replace("~", "%7E").replace("%", "~")
