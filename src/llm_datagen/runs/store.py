"""The folder of a run: ``results_dir/<pipeline_id>/`` with its run state, its checkpoint and its lock.

    runtime.json     the run state: the first truth of a resume (M6, M27); see `state_file`
    checkpoint.json  each node's position, derived from the streams, for people and tools
    lock, owner.json who runs it; see `lock`. On a store lease.json; see `lease`
    origin.json      what the command line started it with; see `runs.origin`
    timeline.jsonl   how far it was, and what it had cost, over time; see `timeline`
    files            what its operators keep for themselves; there only if they do. Always on the machine

Files are replaced atomically: a reader always sees a whole one. Where the run state and the streams differ, the streams
are right (R1).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_datagen.config import check_path
from llm_datagen.errors import ConfigError, DiskError, PipelineNotFoundError
from llm_datagen.errors.advice import advice
from llm_datagen.runs import file_names
from llm_datagen.runs.lock import RunLock
from llm_datagen.runs.results_dir import absolute, local_folder
from llm_datagen.runs.state_file import OPTIONS, parse, serialize
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.storage.local import LOCAL_STORAGE, LocalStorage
from llm_datagen.streams.storage.object_uri import is_object_uri

if TYPE_CHECKING:
    from llm_datagen.runs.lease import RunLease
    from llm_datagen.runs.on_store import RunOnStore

_LONGEST_ID = 255

LOCAL_SAVE_SECONDS = 0.5
"""How often a run state is saved while rows move, on this machine."""

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
    """The folder of one run, on this machine or on a store.

    Args:
        results_dir: the folder of the runs, or its URI.
        pipeline_id: the run's id.

    Attributes:
        results_dir: where runs are kept: an absolute path, or a URI.
        location: where this one is kept.
        path: its folder on this machine. Of a run on a store, what cannot be there lies in it.
        lock: who may run it.
        save_seconds: how often its state is saved while rows move.

    Raises:
        ConfigError: when the id cannot be a folder's name, or `results_dir` is none.
    """

    storage: LocalStorage = LOCAL_STORAGE

    def __init__(self, results_dir: str | os.PathLike[str], pipeline_id: str) -> None:
        self.pipeline_id = check_pipeline_id(pipeline_id)
        self._shown = check_path("results_dir", os.fspath(results_dir))  # as it was given, for people
        self.results_dir = absolute(results_dir)  # the program may change its working directory
        self.location = f"{self.results_dir}/{pipeline_id}"
        self.path = local_folder(self.results_dir) / pipeline_id
        self.files_path = self.path / file_names.KEPT
        self.lock: RunLock | RunLease
        self._on_store: RunOnStore | None = None
        if is_object_uri(self.results_dir):
            from llm_datagen.runs import on_store  # here: most runs are on this machine

            self._on_store = on_store.RunOnStore(self.location, self.path, f"run {pipeline_id!r} in {self._shown}")
            self.save_seconds, self.lock = on_store.SAVE_SECONDS, self._on_store.lock
        else:
            self.save_seconds = LOCAL_SAVE_SECONDS
            self.lock = RunLock(self.path, self._shown)

    @property
    def is_on_store(self) -> bool:
        """Whether it is kept on a store."""
        return self._on_store is not None

    def check(self) -> None:
        """Raise LeaseLostError if this process had the run, and another one has taken it. Asks no store."""
        self.lock.check()

    def place_of(self, name: str) -> str:
        """Return the path or the URI of a file in it, for messages."""
        return f"{self.location}/{name}"

    def read(self, name: str) -> bytes | None:
        """Return what a small file in it holds; None when there is none.

        Raises:
            DiskError: when it cannot be read.
        """
        if self._on_store is not None:
            return self._on_store.read(name)
        return self.storage.read_all(str(self.path / name))

    def write(self, name: str, data: bytes, *, sync: bool = False) -> None:
        """Replace a small file in it, atomically.

        Raises:
            DiskError: when it cannot be written.
        """
        if self._on_store is not None:
            self._on_store.write(name, data)
        else:
            self.storage.replace(str(self.path / name), data, sync=sync)

    def exists(self) -> bool:
        """Return whether there is a run state."""
        if self._on_store is not None:
            return self._on_store.read(file_names.RUN_STATE) is not None
        return self.storage.size(str(self.path / file_names.RUN_STATE)) is not None

    def load(self) -> dict[str, Any]:
        """Return the run state.

        Raises:
            PipelineNotFoundError: when there is none; the message names the runs that there are.
            RunStateError: when it cannot be read.
        """
        data = self.read(file_names.RUN_STATE)
        if data is None:
            if any(self.path.glob(f"{SPOOLED}.*")):
                raise PipelineNotFoundError(
                    f"run {self.pipeline_id!r} in {self._shown} was not created: its process died while it "
                    "copied the input; create it again, with the same rows"
                )
            known = ", ".join(sorted(run_ids(self.results_dir))) or "none"
            raise PipelineNotFoundError(
                f"there is no run {self.pipeline_id!r} in {self._shown} (runs there: {known}); "
                + advice("check the id and results_dir, or create() it", "check the id and --results-dir")
            )
        return parse(data, self.place_of(file_names.RUN_STATE))

    def save(self, run_state: dict[str, Any], *, may_wait: bool = False) -> bool:
        """Replace the run state, atomically; `updated_at` is set.

        A resume needs it. So unless every node has fsync="never", it is put on the medium, too. Each time: a file that
        was not must not take the place of one that was.

        Args:
            run_state: the run state.
            may_wait: whether it is saved again soon. Then a store may be out of reach for half a minute.

        Returns:
            Whether it was saved: not when a store is out of reach, and `may_wait`, or the run is cancelled.

        Raises:
            LeaseLostError: when another process has taken the run.
            DiskError: when it cannot be saved.
        """
        if self._on_store is not None:
            return self._on_store.save(run_state, may_wait=may_wait)
        sync = any(node.get("writer_config", {}).get("fsync") != "never" for node in run_state["nodes"])
        self.write(file_names.RUN_STATE, serialize(run_state), sync=sync)
        self.lock.check()  # behind it: who takes the run over after that finds what was saved
        return True

    def begin(self, run_state: dict[str, Any]) -> None:
        """Have what its operators keep for themselves on this machine, before they run. The run is locked.

        Raises:
            DiskError: when that cannot be fetched, or saved.
        """
        if self._on_store is not None:
            self._on_store.copied.begin(run_state)
            self.save(run_state)

    @contextlib.contextmanager
    def files_to_look_at(self) -> Iterator[Path]:
        """Yield a folder with what its operators keep, to look at it: of another machine, copies of what it has saved.

        Raises:
            DiskError: when that cannot be fetched.
        """
        if self._on_store is None or self._on_store.copied.are_here(self.load()):
            yield self.files_path
            return
        with tempfile.TemporaryDirectory() as folder:
            self._on_store.copied.fetch_to(Path(folder))
            yield Path(folder)

    def save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Replace the checkpoint, atomically; on a store, with the run state that is saved next."""
        data = dumps(checkpoint, option=OPTIONS)
        if self._on_store is not None:
            self._on_store.checkpoint = data
        else:
            self.write(file_names.CHECKPOINT, data)

    def forget(self) -> None:
        """Remove the run state, the checkpoint and the timeline: there is no run of this id any more.

        Raises:
            DiskError: when they cannot be removed.
        """
        if self._on_store is not None:
            self._on_store.forget()
        else:
            self.storage.remove(str(self.path / file_names.RUN_STATE))
            self.storage.remove(str(self.path / file_names.CHECKPOINT))
            self.storage.remove(str(self.path / file_names.TIMELINE))

    def remove_files(self) -> None:
        """Remove what the operators of the run have kept for themselves.

        Raises:
            DiskError: when it cannot be removed.
        """
        try:
            if self._on_store is not None:
                self._on_store.copied.remove()
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
    """Return the ids of the runs that are kept in `results_dir`; on a store, those of folders that hold no run, too.

    Raises:
        DiskError: when a store refuses, or cannot be reached.
    """
    results_dir = absolute(results_dir)
    if is_object_uri(results_dir):
        from llm_datagen.streams.storage.object_folder import ObjectFolder

        return list(ObjectFolder(results_dir).folders())
    try:
        return [path.parent.name for path in Path(results_dir).glob(f"*/{file_names.RUN_STATE}")]
    except OSError:  # such as a name that is too long
        return []
