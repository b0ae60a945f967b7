"""merge="shards": a file for each shard, ``out-00003-of-00016.jsonl``, under one manifest; ``_SUCCESS`` comes last.

The files are put in place one after the other, each whole, as those of an export are; see `streams.outputs.work`. They
are copies: a shard that runs again later (a replay) changes nothing of them before they are gathered again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_datagen.errors import ConfigError, StreamExistsError
from llm_datagen.shards.sealed_parts import SealedPart
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.outputs import Target, Work, check_parts, place_of
from llm_datagen.streams.outputs.part_file import PartFile
from llm_datagen.streams.outputs.paths import absolute, joined, name_of, parent_of, relative_to
from llm_datagen.streams.outputs.work import REMOVING

_SUCCESS = "_SUCCESS"


@dataclass(frozen=True, slots=True)
class PartsTarget(Target):
    """Where the files of one output go.

    Attributes:
        success: the name of what says that all of them are there.
    """

    success: str = _SUCCESS

    @property
    def success_path(self) -> str:
        """What says that all files are there."""
        return joined(self.root, self.success)


def parts_targets(entries: Sequence[Mapping[str, Any]], count: int) -> list[PartsTarget]:
    """Return where the files of each output of a run go.

    Args:
        entries: the nodes that write the outputs, in the run state of the whole.
        count: how many files each has.

    Raises:
        ConfigError: when the name of a folder has braces, which part rows in the names of exports.
    """
    paths = [absolute(StreamFactory.create(entry["output_uri"]).path) for entry in entries]
    folders = [parent_of(path) for path in paths]
    targets = []
    for path, folder in zip(paths, folders, strict=True):
        if "{" in path or "}" in path:
            raise ConfigError(f"{path}: a name with braces cannot be that of many files; say merge='concat'")
        stem, dot, endings = name_of(path).partition(".")
        name = f"{stem}-{{shard:05}}-of-{count:05}{dot}{endings}"
        # One file of this name can speak for one output only.
        success = _SUCCESS if folders.count(folder) == 1 else f"{_SUCCESS}.{name_of(path)}"
        targets.append(PartsTarget(endings.partition(".")[0] or "rows", joined(folder, name), success))
    return targets


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
            work.refuse_taken(whose="no gather made it", replaced=_others(targets, target))
        elif made.get("owner") != owner:
            raise _taken(target, made)


def merge_parts(
    target: PartsTarget, parts: Sequence[SealedPart], owner: str, *, siblings: Collection[PartsTarget] = ()
) -> bool:
    """Put the files of all shards of one output in place; when cut short, call it again.

    Args:
        target: where they go.
        parts: what the shards have made, in the order of the input.
        owner: the id of the sharded run.
        siblings: where the files of all outputs of the run go.

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
    }
    with work.locked():
        done, plan = work.manifest(), work.plan()
        if done is not None and _is_same(done, request):
            work.succeed()
            return False
        made = done or plan
        if made is not None and made.get("owner") != owner:
            raise _taken(target, made)
        if made is not None and not _is_same(made, request):
            work.remove_outputs()
            made = None
        if made is None:
            work.refuse_taken(whose="no gather made it", replaced=_others(siblings, target))
            work.begin(request)
        windows = list(work.windows())
        for number in range(len(windows), len(parts)):
            window = {"parts": [_put(work, target, number, parts[number])], "failed": 0}
            work.note_window(number, window)
            windows.append(window)
        entries = [window["parts"][0] for window in windows]
        work.finish({**request, "rows": sum(entry["rows"] for entry in entries), "failed": 0, "parts": entries})
    return True


def check_merged(target: PartsTarget, parts: Sequence[SealedPart], owner: str, *, is_read: bool = True) -> list[str]:
    """Return what is wrong with the files of an output: nothing, if they are what the shards have.

    Args:
        target: where they are.
        parts: what the shards have made, in the order of the input.
        owner: the id of the sharded run.
        is_read: whether their bytes are compared with their checksums.
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
    if is_read:
        return check_parts(target, manifest, work.place)
    if work.place.size(target.success_path) is None:
        return [f"{target.success_path} is missing; gather the shards again"]
    return []


def remove_merged(target: PartsTarget, owner: str) -> None:
    """Remove the files of an output, and nothing that another run has made."""
    work = _work(target)
    made = work.manifest() or work.plan()
    if made is not None and made.get("owner") == owner:
        with work.locked():
            work.remove_outputs()


def paths_of(target: PartsTarget) -> Iterator[str]:
    """Yield the paths of the files that are in place, by the manifest; none before it is there."""
    manifest = _work(target).manifest()
    for part in manifest["parts"] if manifest else ():
        yield joined(target.root, part["path"])


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
        "source_rows": [[span.start, span.end] for span in part.seal.cover],
    }


def stream_of_part(target: PartsTarget, number: int) -> Stream:
    """Return one of the files, as it is read."""
    return StreamFactory.create(target.part_path(number, {}))


def _is_same(made: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    return REMOVING not in made and all(made.get(name) == value for name, value in request.items())


def _others(targets: Collection[PartsTarget], target: PartsTarget) -> set[str]:
    return {other.path for other in targets if other.path != target.path}


def _taken(target: PartsTarget, made: Mapping[str, Any]) -> StreamExistsError:
    maker = f"the run {made['owner']!r}" if made.get("owner") else "an export"
    return StreamExistsError(
        f"{target.path} was made by {maker} already; move or remove it, then gather again, or "
        "start the run afresh with another output"
    )


def _work(target: PartsTarget) -> Work:
    return Work(target, place_of(target))
