"""Where a run came from: kept beside its image as ``origin.json``, so that ``resume ID`` needs nothing else."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from llm_datagen.errors import ConfigError
from llm_datagen.runtime import RunFolder
from llm_datagen.streams.localdisk import LocalDisk


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a run came from.

    Attributes:
        target: the absolute path of a YAML file, or ``module:attr``.
        cwd: the directory in which it was started, which its relative paths are relative to.
    """

    target: str
    cwd: str

    @classmethod
    def here(cls, target: str) -> Origin:
        """Return the origin of a run that is started now."""
        return cls(target=target, cwd=str(Path.cwd()))

    def save(self, folder: RunFolder) -> None:
        """Keep it beside the image of a run."""
        data = orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        LocalDisk().replace(str(_path(folder)), data, sync=False)

    def enter(self) -> None:
        """Make its directory the working directory, so that relative paths mean what they meant.

        Raises:
            ConfigError: when it is not there any more.
        """
        try:
            os.chdir(self.cwd)
        except OSError as error:
            raise ConfigError(
                f"the run was started in {self.cwd}, which cannot be entered ({error.strerror}); its relative paths "
                "are relative to it: put it back"
            ) from None


def origin_of(folder: RunFolder) -> Origin | None:
    """Return where a run came from; None when it was not started from the command line.

    Raises:
        ConfigError: when the file cannot be read.
    """
    path = _path(folder)
    data = LocalDisk().read_all(str(path))
    if data is None:
        return None
    try:
        content = orjson.loads(data)
        return Origin(target=str(content["target"]), cwd=str(content["cwd"]))
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} cannot be read; remove it, and say what to resume: resume ID FILE.yaml") from None


def _path(folder: RunFolder) -> Path:
    return folder.path / "origin.json"
