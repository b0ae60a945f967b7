"""What is kept of an export: a hidden folder while it is under way, a manifest when it is done.

    .out.parquet.export/plan.json   what is exported, from what, with which columns; or what is being removed
    .out.parquet.export/00003.json  window 3 is done: its parts are in place
    .out.parquet.export/00003.paths the partitions of window 3, whose parts are about to be put in place
    .out.parquet.export/lock        who exports; in a store, lease.json
    out.parquet.manifest            the list of all parts, with rows, bytes and CRC-32; after it, `_SUCCESS`

A *window* is a range of source rows on a fixed grid: the rows of a shard, failed ones included. So a part that is made
again, after a kill between its rename and the note of it, is the same byte for byte. Where another export takes the
place of one that was killed, such parts are known by their names, and removed.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from llm_datagen.errors import StreamCorruptError, StreamExistsError
from llm_datagen.streams.checksums import CHECK_FIELD, is_unaltered, with_check
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.outputs.paths import joined, relative_to
from llm_datagen.streams.outputs.place import OutputPlace
from llm_datagen.streams.outputs.side_by_side import PLAN, neighbours
from llm_datagen.streams.outputs.target import Target
from llm_datagen.streams.sidecars import stream_at

FORMAT = 1
"""The version of a manifest, and of what lies in the hidden folder."""

REMOVING = "removing"
"""In a plan: the parts of an export that is being removed."""

_PIECE = 1 << 20


def read_checked(place: OutputPlace, path: str) -> dict[str, Any] | None:
    """Return what a file of an export says; None when there is none.

    Raises:
        StreamCorruptError: when it was edited, or is of another version.
    """
    data = place.read_all(path)
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
        place: what keeps the files.
    """

    def __init__(self, target: Target, place: OutputPlace) -> None:
        self.target = target
        self.place = place
        self.folder = target.work_path
        self._plan_path = joined(self.folder, PLAN)

    def check_place(self) -> None:
        """Check that the place can be exported to.

        Raises:
            StreamError: when it cannot: a store without conditional puts.
            DiskError: when it refuses, or cannot be reached.
        """
        self.place.check(self.folder)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Have the target to oneself. When nothing is under way at the end, no folder is left behind.

        Raises:
            StreamBusyError: when another process exports there.
        """
        with self.place.lock(self.folder, self.target.path) as lock:
            try:
                yield
            finally:
                if self.place.size(self._plan_path) is None:
                    self._clear()
                    lock.remove()

    def manifest(self) -> dict[str, Any] | None:
        """Return the manifest of the target; None when there is none."""
        return read_checked(self.place, self.target.manifest_path)

    def plan(self) -> dict[str, Any] | None:
        """Return what the export that is under way was begun with; None when there is none."""
        return read_checked(self.place, self._plan_path)

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Note what is exported."""
        self._put(self._plan_path, plan)

    def window(self, number: int) -> dict[str, Any] | None:
        """Return what is known of a window that is done."""
        return read_checked(self.place, self._window_path(number))

    def note_window(self, number: int, window: Mapping[str, Any]) -> None:
        """Note that the parts of a window are in place."""
        self._put(self._window_path(number), window)

    def note_paths(self, number: int, paths: Sequence[str]) -> None:
        """Note which parts of a window are about to be put in place, where that does not follow from its number."""
        self._put(self._paths_path(number), {"paths": list(paths)})

    def windows(self) -> Iterator[dict[str, Any]]:
        """Yield the windows that are done, in order."""
        number = 0
        while (window := self.window(number)) is not None:
            yield window
            number += 1

    def temporary(self, number: int) -> str:
        """Return where part `number` of a window lies until it is whole."""
        return joined(self.folder, f"part-{number}.tmp")

    def errors_path(self, number: int) -> str:
        """Return where the failed rows of a window are kept."""
        return joined(self.folder, f"{number:05}.errors")

    def put(self, path: str, data: bytes) -> None:
        """Put a small file of the target in place, whole."""
        self.place.put_new(path, data, self.temporary(0))

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Put the manifest in place, then `_SUCCESS`."""
        self.put(self.target.manifest_path, _dumped(manifest))
        self.succeed()

    def succeed(self) -> None:
        """Say that everything is there; what was kept to get there is removed."""
        success = self.target.success_path
        if success is not None and self.place.size(success) is None:
            self.put(success, b"")
        self._clear()

    def refuse_taken(self, *, whose: str, replaced: Collection[str] = ()) -> None:
        """Check that nothing is where a new export is to write.

        Args:
            whose: what is said of a file that is there.
            replaced: the targets of exports that are removed before this one is made.

        Raises:
            StreamExistsError: when something is.
        """
        found = None if self.target.is_folder else stream_at(self.place, self.target.path)
        if found is not None and found[0] != self.target.path:
            raise StreamExistsError(
                f"{self.target.path} is where the {found[1]} of {found[0]} lie, a stream of a run; choose another "
                "target"
            )
        goes = set()
        for other in self.neighbours():
            path = other["target"]["path"]
            if path not in replaced:
                raise StreamExistsError(
                    f"{self.target.path} would share {self.target.success_path} with {path}, {_made_by(other)}, and "
                    "that says that all files of one export are there; give each a folder of its own, or remove the "
                    "other"
                )
            goes.add(self.target.success_path)
        there = (path for path in self._in_place() if path not in goes)
        taken = next((path for path in there if self.place.size(path) is not None), None)
        if taken is not None:
            raise StreamExistsError(
                f"{taken} is there already, and {whose}; choose another target, remove it, or say overwrite"
            )

    def neighbours(self) -> Iterator[dict[str, Any]]:
        """Yield what is known of other exports, finished or under way, whose `_SUCCESS` is the one of this target."""
        for path in neighbours(self.target, self.place):
            made = read_checked(self.place, path)
            if made is not None and Target(made["target"]["kind"], made["target"]["path"]).is_folder:
                yield made

    def remove_outputs(self) -> None:
        """Remove what an export has made, the word that it is whole first. The target is locked.

        What is to go is noted before: who is killed meanwhile leaves a plan that says so, and is called again.
        """
        windows, manifest, plan = list(self.windows()), self.manifest(), self.plan()
        known = [part["path"] for made in (manifest, *windows) if made for part in made["parts"]]
        known += [*self._perhaps_in_place(len(windows)), *(plan or {}).get(REMOVING, ())]
        made = {name: value for name, value in (manifest or plan or {}).items() if name not in {"parts", REMOVING}}
        self.begin({**made, REMOVING: known})
        for path in (self.target.success_path, self.target.manifest_path, self.target.errors_path):
            if path is not None:
                self.place.remove(path)
        for path in known:
            self.place.remove(joined(self.target.root, path))
        for path in self.target.extra_paths:
            self.place.remove(path)
        self._clear()

    def _perhaps_in_place(self, number: int) -> Sequence[str]:
        """Return the parts of the window behind the last one that is noted: they may be in place."""
        if self.plan() is None:
            return ()
        if not self.target.columns:
            return (relative_to(self.target.part_path(number, {}), self.target.root),)
        noted = read_checked(self.place, self._paths_path(number))
        return () if noted is None else noted["paths"]

    def _clear(self) -> None:
        """Empty the hidden folder: the plan last, so that what is left of a folder is known by it."""
        names = self.place.names_in(self.folder)
        for name in sorted(names, key=lambda name: (name == PLAN, name)):
            self.place.remove(joined(self.folder, name))

    def _in_place(self) -> Iterator[str]:
        yield from filter(None, (self.target.manifest_path, self.target.success_path))
        yield from self.place.matching(self.target.root, self.target.like_parts())
        yield from self.target.extra_paths

    def _window_path(self, number: int) -> str:
        return joined(self.folder, f"{number:05}.json")

    def _paths_path(self, number: int) -> str:
        return joined(self.folder, f"{number:05}.paths")

    def _put(self, path: str, value: Mapping[str, Any]) -> None:
        self.place.replace(path, _dumped(value))


def _made_by(made: Mapping[str, Any]) -> str:
    how = "made" if "parts" in made else "began"
    return f"which the run {made['owner']!r} {how}" if made.get("owner") else f"which another export {how}"


def _dumped(value: Mapping[str, Any]) -> bytes:
    return with_check(dumps({"format": FORMAT, **value}))


def check_parts(target: Target, manifest: Mapping[str, Any], place: OutputPlace) -> list[str]:
    """Return what is wrong with the parts of an export, read from beginning to end: nothing, if they are whole."""
    findings = []
    for part in manifest["parts"]:
        path = joined(target.root, part["path"])
        size = place.size(path)
        if size != part["bytes"]:
            what = "is gone" if size is None else f"has {size} bytes, not {part['bytes']}"
            findings.append(f"{path} {what}")
        elif _crc(place, path) != part["crc32"]:
            findings.append(f"{path} was changed: its checksum differs")
    if (success := target.success_path) is not None and place.size(success) is None:
        findings.append(f"{success} is missing: export again, which makes it")
    return findings


def _crc(place: OutputPlace, path: str) -> int:
    file = place.open_read(path)
    try:
        at = crc = 0
        while piece := file.read_at(at, _PIECE):
            crc = zlib.crc32(piece, crc)
            at += len(piece)
    finally:
        file.close()
    return crc
