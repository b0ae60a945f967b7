"""The folder of a run: ``results_dir/<pipeline_id>/`` with its run state, its checkpoint and its lock.

    runtime.json     the run state: the first truth of a resume (M6, M27); see `state_file`
    checkpoint.json  each node's position, derived from the streams, for people and tools
    lock, owner.json who runs it; see `lock`
    origin.json      what the command line started it with; see `cli.run_origin`
    files            what its operators keep for themselves; there only if they do

Files are replaced atomically: a reader always sees a whole one. Where the run state and the streams differ, the streams
are right (R1).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from llm_datagen.config import check_path
from llm_datagen.errors import ConfigError, DiskError, PipelineNotFoundError
from llm_datagen.errors.advice import advice
from llm_datagen.runs import file_names
from llm_datagen.runs.lock import RunLock
from llm_datagen.runs.state_file import OPTIONS, parse, serialize
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.storage.local import LOCAL_STORAGE, LocalStorage

_LONGEST_ID = 255

SPOOLED = "spooled-input"
"""What the copy of an input that can be read once is called, without its ending."""


def check_pipeline_id(pipeline_id: Any) -> str:
    """Return `pipeline_id` if it can be the name of a folder.

    Raises:
        ConfigError: when it is not.
    """
    is_name = isinstance(pipeline_id, str) and pipeline_id and pipeline_id == Path(pipeline_id).name
    if not is_name or pipeline_id in {".", ".."} or "\\" in pipeline_id:
        raise ConfigError(f"pipeline_id must be a name that can be a folder's (no '/'), not {pipeline_id!r}")
    if len(check_path("pipeline_id", pipeline_id).encode()) > _LONGEST_ID:
        raise ConfigError(
            f"pipeline_id is longer than the {_LONGEST_ID} bytes of a folder's name: {pipeline_id[:40]!r}…"
        )
    return str(pipeline_id)


class RunFolder:
    """The folder of one run.

    Args:
        results_dir: the folder of the runs.
        pipeline_id: the run's id.

    Attributes:
        lock: the lock of the run.

    Raises:
        ConfigError: when the id cannot be a folder's name.
    """

    storage: LocalStorage = LOCAL_STORAGE

    def __init__(self, results_dir: str | os.PathLike[str], pipeline_id: str) -> None:
        self.pipeline_id = check_pipeline_id(pipeline_id)
        self._results_dir = check_path("results_dir", os.fspath(results_dir))  # as it was given, for people
        self.path = Path(results_dir).absolute() / pipeline_id  # the program may change its working directory
        self.state_path = self.path / file_names.RUN_STATE
        self.checkpoint_path = self.path / file_names.CHECKPOINT
        self.files_path = self.path / file_names.KEPT
        self.lock = RunLock(self.path, self._results_dir)

    def exists(self) -> bool:
        """Return whether there is a run state."""
        return self.storage.size(str(self.state_path)) is not None

    def load(self) -> dict[str, Any]:
        """Return the run state.

        Raises:
            PipelineNotFoundError: when there is none; the message names the runs that there are.
            RunStateError: when it cannot be read.
        """
        data = self.storage.read_all(str(self.state_path))
        if data is None:
            if any(self.path.glob(f"{SPOOLED}.*")):
                raise PipelineNotFoundError(
                    f"run {self.pipeline_id!r} in {self._results_dir} was not created: its process died while it "
                    "copied the input; create it again, with the same rows"
                )
            known = ", ".join(sorted(run_ids(self.path.parent))) or "none"
            raise PipelineNotFoundError(
                f"there is no run {self.pipeline_id!r} in {self._results_dir} (runs there: {known}); "
                + advice("check the id and results_dir, or create() it", "check the id and --results-dir")
            )
        return parse(data, str(self.state_path))

    def save(self, run_state: dict[str, Any]) -> None:
        """Replace the run state, atomically; `updated_at` is set.

        A resume needs it. So unless every node has fsync="never", it is put on the medium, too. Each time: a file that
        was not must not take the place of one that was.
        """
        sync = any(node.get("writer_config", {}).get("fsync") != "never" for node in run_state["nodes"])
        self.storage.replace(str(self.state_path), serialize(run_state), sync=sync)

    def save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Replace the checkpoint, atomically."""
        self.storage.replace(str(self.checkpoint_path), dumps(checkpoint, option=OPTIONS), sync=False)

    def forget(self) -> None:
        """Remove the run state and the checkpoint: there is no run of this id any more.

        Raises:
            DiskError: when they cannot be removed.
        """
        self.storage.remove(str(self.state_path))
        self.storage.remove(str(self.checkpoint_path))

    def remove_files(self) -> None:
        """Remove what the operators of the run have kept for themselves.

        Raises:
            DiskError: when it cannot be removed.
        """
        try:
            if self.files_path.exists():
                shutil.rmtree(self.files_path)
        except OSError as error:
            raise DiskError(error.errno, error.strerror or str(error), error.filename) from error

    def remove_if_unused(self) -> None:
        """Remove the folder if there is nothing in it but the lock, which nobody has."""
        if self.exists() or self.lock.is_held():
            return
        self.lock.remove()
        with contextlib.suppress(OSError):
            for path in self.path.glob(f"{SPOOLED}.*"):
                path.unlink()
            self.path.rmdir()


def run_ids(results_dir: str | os.PathLike[str]) -> list[str]:
    """Return the ids of the runs that are kept in `results_dir`."""
    try:
        return [path.parent.name for path in Path(results_dir).glob(f"*/{file_names.RUN_STATE}")]
    except OSError:  # such as a name that is too long
        return []
