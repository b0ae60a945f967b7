"""What a run was started with: ``origin.json`` beside its run state, so that ``resume ID`` needs nothing else."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson

from llm_datagen.errors import ConfigError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.file_names import ORIGIN
from llm_datagen.runs.results_dir import absolute
from llm_datagen.runs.typed_commands import command_line, id_option


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a run was started with, and where.

    Attributes:
        target: the absolute path of a YAML file, or ``module:attr``.
        cwd: the directory in which it was started, which its relative paths are relative to.
        folder: the run's folder at that time; a copy of a project has another one. Empty in runs of earlier versions.
        budget_usd: US dollars that the last resume was given to spend in all; None for what the budgets say.
        budget_tokens: tokens that it was given; None for what the budgets say.
    """

    target: str
    cwd: str
    folder: str = ""
    budget_usd: float | None = None
    budget_tokens: int | None = None

    @property
    def caps(self) -> dict[str, float | int]:
        """What the last resume was given to spend, in place of what the budgets say: "usd", "tokens", or none."""
        given = {"usd": self.budget_usd, "tokens": self.budget_tokens}
        return {name: cap for name, cap in given.items() if cap is not None}

    @classmethod
    def here(cls, target: str) -> Origin:
        """Return the origin of a run that is started now."""
        return cls(target=target, cwd=str(Path.cwd()))

    def save(self, folder: RunFolder) -> None:
        """Save it beside the run state."""
        kept = replace(self, folder=folder.location)
        known = {name: value for name, value in asdict(kept).items() if value is not None}
        data = orjson.dumps(known, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        folder.write(ORIGIN, data)

    def enter(self, folder: RunFolder) -> None:
        """Change to its directory, so that relative paths mean the same as before.

        It need not be there for a run on a store, which may have begun on another machine.

        Args:
            folder: that of the run.

        Raises:
            ConfigError: when it is gone.
        """
        try:
            os.chdir(self.cwd)
        except OSError as error:
            if folder.is_on_store:
                return
            raise ConfigError(
                f"the run was started in {self.cwd}, which cannot be entered ({error.strerror}); its relative paths "
                "are relative to it: put it back, or go on in the directory that has its files, by "
                f"{_run_again(folder.pipeline_id, folder.results_dir)}"
            ) from None

    def moved_to(self, folder: Path) -> Origin:
        """Return the origin of a run whose project was moved or copied as a whole: its folder is now `folder`.

        Raises:
            ConfigError: when more than the project's place has changed, so that its files are not known.
        """
        if not self.folder or _is_same(folder, self.folder):
            return self
        within = Path(self.folder).relative_to(self.cwd) if Path(self.folder).is_relative_to(self.cwd) else None
        if within is None or folder.parts[-len(within.parts) :] != within.parts:
            raise ConfigError(
                f"the folder of run {folder.name!r} was {self.folder}, and is {folder}: a copy, or it was moved. Its "
                f"relative paths were relative to {self.cwd}. Put it back; or go on in the directory that has its "
                f"files, by {_run_again(folder.name, str(folder.parent))}"
            )
        cwd, target = folder.parents[len(within.parts) - 1], Path(self.target)
        if target.is_relative_to(self.cwd):
            target = cwd / target.relative_to(self.cwd)
        return replace(self, target=str(target), cwd=str(cwd), folder=str(folder))


def _run_again(pipeline_id: str, results_dir: str) -> str:
    """Return the command that goes on with a run in another directory."""
    options = [*id_option(pipeline_id), "--if-exists", "resume", "--results-dir", absolute(results_dir)]
    return shlex.join(["llm-datagen", "run", "FILE.yaml", *options])


def origin_of(folder: RunFolder) -> Origin | None:
    """Return the origin of a run; None when it was not started from the command line.

    If its project was moved or copied as a whole, the origin is in the copy.

    Raises:
        ConfigError: when the file cannot be read, or the run's folder alone was moved or copied.
    """
    data = folder.read(ORIGIN)
    if data is None:
        return None
    try:
        content = orjson.loads(data)
        origin = Origin(
            target=str(content["target"]),
            cwd=str(content["cwd"]),
            folder=str(content.get("folder", "")),
            budget_usd=content.get("budget_usd"),
            budget_tokens=content.get("budget_tokens"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        path = folder.place_of(ORIGIN)
        typed = command_line("resume", folder.pipeline_id, folder.results_dir, arguments=["FILE.yaml"])
        raise ConfigError(f"{path} cannot be read; remove it, and say what to resume: {typed}") from None
    return origin if folder.is_on_store else origin.moved_to(folder.path)


def _is_same(folder: Path, other: str) -> bool:
    try:
        return folder.samefile(other)
    except OSError:
        return str(folder) == other
