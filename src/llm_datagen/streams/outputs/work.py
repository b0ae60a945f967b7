"""What is kept of an export: a hidden folder while it is under way, a manifest when it is done.

    .out.parquet.export/plan.json   what is exported, from what, with which columns
    .out.parquet.export/00003.json  window 3 is done: its parts are in place
    out.parquet.manifest            the list of all parts, with rows, bytes and CRC-32; after it, `_SUCCESS`

A *window* is a range of source rows on a fixed grid: the rows of a shard, failed ones included. So a part that is made
again, after a kill between its rename and the note of it, is the same byte for byte.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llm_datagen.errors import StreamBusyError, StreamCorruptError, StreamExistsError
from llm_datagen.streams.checksums import CHECK_FIELD, is_unaltered, with_check
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.outputs.part_file import PartFile
from llm_datagen.streams.outputs.target import Target
from llm_datagen.streams.storage.local import LocalStorage

FORMAT = 1
"""The version of a manifest, and of what lies in the hidden folder."""

_PIECE = 1 << 20


def read_checked(storage: LocalStorage, path: str) -> dict[str, Any] | None:
    """Return what a file of an export says; None when there is none.

    Raises:
        StreamCorruptError: when it was edited, or is of another version.
    """
    data = storage.read_all(path)
    if data is None:
        return None
    try:
        value = loads_exactly(data)
        if value["format"] == FORMAT and is_unaltered(data):
            value.pop(CHECK_FIELD, None)
            return dict(value)
    except (ValueError, KeyError, TypeError):
        pass
    raise StreamCorruptError(
        f"{path} is no manifest of an export of this version, or was edited; remove it, and export again"
    )


class Work:
    """The files that an export keeps of itself.

    Args:
        target: where the export goes; an absolute path.
        storage: what keeps the files.
    """

    def __init__(self, target: Target, storage: LocalStorage) -> None:
        self.target = target
        self.storage = storage
        self.folder = target.work_path
        self._plan_path = str(Path(self.folder) / "plan.json")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Have the target to oneself. When nothing was begun, no folder is left behind.

        Raises:
            StreamBusyError: when another process exports there.
        """
        lock = self.storage.take_lock(str(Path(self.folder) / "lock"))
        if lock is None:
            raise StreamBusyError(f"{self.target.path} is being exported by another process; wait until it has ended")
        with lock:
            try:
                yield
            finally:
                if self.storage.size(self._plan_path) is None:
                    self.clear()

    def manifest(self) -> dict[str, Any] | None:
        """Return the manifest of the target; None when there is none."""
        return read_checked(self.storage, self.target.manifest_path)

    def plan(self) -> dict[str, Any] | None:
        """Return what the export that is under way was begun with; None when there is none."""
        return read_checked(self.storage, self._plan_path)

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Note what is exported."""
        self._put(self._plan_path, plan)

    def window(self, number: int) -> dict[str, Any] | None:
        """Return what is known of a window that is done."""
        return read_checked(self.storage, self._window_path(number))

    def note_window(self, number: int, window: Mapping[str, Any]) -> None:
        """Note that the parts of a window are in place."""
        self._put(self._window_path(number), window)

    def windows(self) -> Iterator[dict[str, Any]]:
        """Yield the windows that are done, in order."""
        number = 0
        while (window := self.window(number)) is not None:
            yield window
            number += 1

    def temporary(self, number: int) -> str:
        """Return where part `number` of a window lies until it is whole."""
        return str(Path(self.folder) / f"part-{number}.tmp")

    def errors_path(self, number: int) -> str:
        """Return where the failed rows of a window are kept."""
        return str(Path(self.folder) / f"{number:05}.errors")

    def put(self, path: str, data: bytes) -> None:
        """Put a small file of the target in place, whole."""
        file = PartFile(self.storage, path, self.temporary(0))
        try:
            file.write(data)
            file.finish()
        except BaseException:
            file.abandon()
            raise

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Put the manifest in place, then `_SUCCESS`."""
        self.put(self.target.manifest_path, _dumped(manifest))
        self.succeed()

    def succeed(self) -> None:
        """Say that everything is there; what was kept to get there is removed."""
        success = self.target.success_path
        if success is not None and self.storage.size(success) is None:
            self.put(success, b"")
        self.clear()

    def clear(self) -> None:
        """Remove the hidden folder: the plan last, so that what is left of a folder is known by it."""
        folder = Path(self.folder)
        if not folder.is_dir():
            return
        names = sorted(path.name for path in folder.iterdir())
        for name in [*(name for name in names if name not in {"plan.json", "lock"}), "plan.json", "lock"]:
            self.storage.remove(str(folder / name))
        folder.rmdir()

    def refuse_taken(self, *, whose: str) -> None:
        """Check that nothing is where a new export is to write.

        Raises:
            StreamExistsError: when something is.
        """
        found = next((path for path in self._in_place() if self.storage.size(path) is not None), None)
        if found is not None:
            raise StreamExistsError(
                f"{found} is there already, and {whose}; choose another target, remove it, or say overwrite"
            )

    def remove_outputs(self) -> None:
        """Remove what an export has made, the word that it is whole first."""
        known = [part["path"] for made in (self.manifest(), *self.windows()) if made for part in made["parts"]]
        root = Path(self.target.root)
        for path in (self.target.success_path, self.target.manifest_path, self.target.errors_path):
            if path is not None:
                self.storage.remove(path)
        for path in known:
            self.storage.remove(str(root / path))
        for path in self.target.extra_paths:
            self.storage.remove(path)
        self.clear()

    def _in_place(self) -> Iterator[str]:
        yield from filter(None, (self.target.manifest_path, self.target.success_path))
        like = Path(self.target.like_parts())
        root = Path(self.target.root)
        if root.is_dir():
            yield from map(str, root.glob(str(like.relative_to(root))))
        yield from self.target.extra_paths

    def _window_path(self, number: int) -> str:
        return str(Path(self.folder) / f"{number:05}.json")

    def _put(self, path: str, value: Mapping[str, Any]) -> None:
        self.storage.replace(path, _dumped(value), sync=True)


def _dumped(value: Mapping[str, Any]) -> bytes:
    return with_check(dumps({"format": FORMAT, **value}))


def check_parts(target: Target, manifest: Mapping[str, Any], storage: LocalStorage) -> list[str]:
    """Return what is wrong with the parts of an export, read from beginning to end: nothing, if they are whole."""
    findings = []
    for part in manifest["parts"]:
        path = str(Path(target.root) / part["path"])
        size = storage.size(path)
        if size != part["bytes"]:
            what = "is gone" if size is None else f"has {size} bytes, not {part['bytes']}"
            findings.append(f"{path} {what}")
        elif _crc(storage, path) != part["crc32"]:
            findings.append(f"{path} was changed: its checksum differs")
    if (success := target.success_path) is not None and storage.size(success) is None:
        findings.append(f"{success} is missing: export again, which makes it")
    return findings


def _crc(storage: LocalStorage, path: str) -> int:
    file = storage.open_read(path)
    try:
        at = crc = 0
        while piece := file.read_at(at, _PIECE):
            crc = zlib.crc32(piece, crc)
            at += len(piece)
    finally:
        file.close()
    return crc
