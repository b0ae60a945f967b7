"""merge="shards": a file for each shard, ``out-00003-of-00016.jsonl``, under one manifest; ``_SUCCESS`` comes last.

The files are put in place one after the other, each whole, as those of an export are; see `streams.outputs.work`. They
are copies: a shard that runs again later (a replay) changes nothing of them before they are gathered again.

``_SUCCESS`` speaks for a whole folder. So where another output or export lies in it, of this run or of another one, the
word is ``_SUCCESS.out.jsonl``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llm_datagen.errors import ConfigError, StreamChangedError, StreamExistsError
from llm_datagen.shards.sealed_parts import SealedPart
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.outputs import Target, Work, check_parts, place_of
from llm_datagen.streams.outputs.part_file import PartFile
from llm_datagen.streams.outputs.paths import absolute, joined, name_of, parent_of, relative_to
from llm_datagen.streams.outputs.side_by_side import real
from llm_datagen.streams.outputs.work import REMOVING

_SUCCESS = "_SUCCESS"


@dataclass(frozen=True, slots=True)
class PartsTarget(Target):
    """Where the files of one output go.

    Attributes:
        name: the name of the output.
        success: the name of what says that all of its files are there.
    """

    name: str = ""

    success: str = _SUCCESS

    @property
    def success_path(self) -> str:
        """What says that all files are there."""
        return joined(self.root, self.success)

    @property
    def apart(self) -> PartsTarget:
        """The same, with a word of its own, where the folder is not its alone."""
        return replace(self, success=f"{_SUCCESS}.{self.name}")


def name_of_parts(name: str, number: str) -> str:
    """Return what the files of an output are called.

    Args:
        name: the name of the output.
        number: what stands for the number of a file, and how many there are.
    """
    stem, dot, endings = name.partition(".")
    return f"{stem}-{number}{dot}{endings}"


def parts_targets(entries: Sequence[Mapping[str, Any]], count: int, exports: Sequence[Target]) -> list[PartsTarget]:
    """Return where the files of each output of a run go.

    Args:
        entries: the nodes that write the outputs, in the run state of the whole.
        count: how many files each has.
        exports: where the exports of the run go.

    Raises:
        ConfigError: when the name of a folder has braces, which part rows in the names of exports.
    """
    paths = [absolute(StreamFactory.create(entry["output_uri"]).path) for entry in entries]
    folders = [parent_of(path) for path in paths]
    others = [real(export.root) for export in exports if export.is_folder]
    targets = []
    for path, folder in zip(paths, folders, strict=True):
        if "{" in path or "}" in path:
            raise ConfigError(f"{path}: a name with braces cannot be that of many files; say merge='concat'")
        endings = name_of(path).partition(".")[2]
        name = name_of_parts(name_of(path), f"{{shard:05}}-of-{count:05}")
        target = PartsTarget(endings.partition(".")[0] or "rows", joined(folder, name), name_of(path))
        is_alone = folders.count(folder) == 1 and real(folder) not in others
        targets.append(_settled(target) if is_alone else target.apart)
    return targets


def _settled(target: PartsTarget) -> PartsTarget:
    """Return it with the word that it has already, or with one that no other run has in the folder."""
    work = _work(target)
    made = work.manifest() or work.plan()
    if made is None:
        return target.apart if any(work.neighbours()) else target
    return replace(target, success=made.get("success", _SUCCESS))


def check_targets_free(targets: Sequence[PartsTarget], owner: str) -> None:
    """Check that the files may be made. Nothing is touched.

    Raises:
        StreamExistsError: when something is there that is not this run's.
        StreamError: when they are to be in a store without conditional puts.
    """
    for target in targets:
        work = _work(target)
        work.check_place()
        made = work.manifest() or work.plan()
        if made is None:
            _refuse_taken(work, target)
        elif made.get("owner") != owner:
            raise _taken(target, made)


def merge_parts(target: PartsTarget, parts: Sequence[SealedPart], owner: str) -> bool:
    """Put the files of all shards of one output in place; when cut short, call it again.

    Args:
        target: where they go.
        parts: what the shards have made, in the order of the input.
        owner: the id of the sharded run.

    Returns:
        Whether anything was done; False when all was there.

    Raises:
        StreamExistsError: when something is there that is not this run's.
        StreamBusyError: when another process gathers there.
        StreamCorruptError, StreamChangedError: when a shard's file is not what it was.
        LeaseLostError: when it is in a store, and another process has taken it over.
        DiskError: when the disk, or the store, refuses.
    """
    work = _work(target)
    request = {
        "target": {"kind": target.kind, "path": target.path},
        "source": {"shards": [part.identity() for part in parts]},
        "owner": owner,
        "success": target.success,
    }
    with work.locked():
        done, plan = work.manifest(), work.plan()
        if done is not None and _is_same(done, request) and _is_there(work, target, done):
            work.succeed()
            return False
        made = done or plan
        if made is not None and made.get("owner") != owner:
            raise _taken(target, made)
        if made is not None and (made is done or not _is_same(made, request)):
            work.remove_outputs()
            made = None
        if made is None:
            _refuse_taken(work, target)
            work.begin(request)
        windows = list(work.windows())
        for number in range(len(windows), len(parts)):
            window = {"parts": [_put(work, target, number, parts[number])], "failed": 0}
            work.note_window(number, window)
            windows.append(window)
        entries = [window["parts"][0] for window in windows]
        work.finish({**request, "rows": sum(entry["rows"] for entry in entries), "failed": 0, "parts": entries})
    return True


def check_merged(target: PartsTarget, parts: Sequence[SealedPart], owner: str) -> list[str]:
    """Return what is wrong with the files of an output: nothing, if they are what the shards have.

    Args:
        target: where they are.
        parts: what the shards have made, in the order of the input.
        owner: the id of the sharded run.
    """
    work = _work(target)
    manifest = work.manifest()
    if manifest is None or manifest.get("owner") != owner:
        return [f"{target.manifest_path} is not there as the list of the files of this run; gather the shards again"]
    if manifest["source"] != {"shards": [part.identity() for part in parts]}:
        return [f"{target.manifest_path}: the files were made of the shards as they were before; gather them again"]
    found = [(part["rows"], part["bytes"], part["crc32"]) for part in manifest["parts"]]
    if found != [(part.seal.rows, part.seal.size, part.seal.crc) for part in parts]:
        return [f"{target.manifest_path} does not say of each file what the seal of its shard says; gather again"]
    return check_parts(target, manifest, work.place)


def remove_merged(target: PartsTarget, owner: str) -> None:
    """Remove the files of an output, and nothing that another run has made."""
    work = _work(target)
    made = work.manifest() or work.plan()
    if made is not None and made.get("owner") == owner:
        with work.locked():
            work.remove_outputs()


def _put(work: Work, target: PartsTarget, number: int, part: SealedPart) -> dict[str, Any]:
    """Put one file in place; return what the manifest says of it."""
    path = target.part_path(number, {})
    file = PartFile(work.place, path, work.temporary(0))
    try:
        for piece in part.packed_pieces():
            file.write(piece)
        file.finish()
    except BaseException:
        file.abandon()
        raise
    first, last = part.seal.ids
    return {
        "path": relative_to(path, target.root),
        "rows": part.seal.rows,
        "bytes": file.size,
        "crc32": file.crc,
        "first_id": first,
        "last_id": last,
        "shard": part.number,
        "run": part.run,
        "source_rows": [[span.start, span.end] for span in part.cover()],
    }


def _is_same(made: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    return REMOVING not in made and all(made.get(name) == value for name, value in request.items())


def _is_there(work: Work, target: PartsTarget, done: Mapping[str, Any]) -> bool:
    """Return whether the files of a manifest are there; one that is gone is made again.

    Raises:
        StreamChangedError: when one has another size: somebody has edited it.
    """
    sizes = {part["path"]: work.place.size(joined(target.root, part["path"])) for part in done["parts"]}
    for part in done["parts"]:
        if (size := sizes[part["path"]]) not in (None, part["bytes"]):
            raise StreamChangedError(
                f"{joined(target.root, part['path'])} has {size} bytes, not {part['bytes']}: it was changed since it "
                "was gathered; move or remove it, then gather again, which makes it anew"
            )
    return None not in sizes.values()


def _refuse_taken(work: Work, target: PartsTarget) -> None:
    has_own_word = target.success != _SUCCESS
    others = {other["target"]["path"] for other in work.neighbours()} if has_own_word else set()
    work.refuse_taken(whose="no gather made it", replaced=others)


def _taken(target: PartsTarget, made: Mapping[str, Any]) -> StreamExistsError:
    maker = f"the run {made['owner']!r}" if made.get("owner") else "an export"
    return StreamExistsError(
        f"{target.path} was made by {maker} already; move or remove it, then gather again, or "
        "start the run afresh with another output"
    )


def _work(target: PartsTarget) -> Work:
    return Work(target, place_of(target))
