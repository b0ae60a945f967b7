"""Exports side by side: which two would have one file in common, such as the `_SUCCESS` of a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from llm_datagen.streams.outputs.paths import joined
from llm_datagen.streams.outputs.place import OutputPlace
from llm_datagen.streams.outputs.target import Target
from llm_datagen.streams.storage.object_uri import is_object_uri


def why_not_both(one: Target, other: Target) -> str | None:
    """Return why two exports cannot both be made, as a sentence about both; None when they can."""
    if one.success_path is not None and other.success_path is not None:
        success = real(one.success_path)
        if success == real(other.success_path):
            return f"both would put {success}, which says that all files of one export are there"
    if shared := sorted(_own(one) & _own(other)):
        return f"both would write {shared[0]}"
    for some, single in ((one, other), (other, one)):
        if not single.is_folder and may_be_part(some, single.path):
            return f"{single.path} is a name that a file of {some.path} may have"
    return None


def may_be_part(target: Target, path: str) -> bool:
    """Return whether a path may be that of a file of an export."""
    pattern = re.escape(real(target.like_parts())).replace(r"\*", "[^/]*")
    return re.fullmatch(pattern, real(path)) is not None


def names(target: Target) -> set[str]:
    """Return the paths, without links, that an export is certain to write."""
    return _own(target) | ({real(target.success_path)} if target.success_path is not None else set())


def real(path: str) -> str:
    """Return a path without links; an address as it is."""
    return path if is_object_uri(path) else os.path.realpath(path)


def neighbours(target: Target, place: OutputPlace) -> Iterator[str]:
    """Yield where other exports of the same folder, finished or under way, would say what they are."""
    if target.success_path is None:
        return
    mine = {target.manifest_path, joined(target.work_path, PLAN)}
    like = [joined(target.root, ".*.manifest"), joined(joined(target.root, ".*.export"), PLAN)]
    found = [path for pattern in like for path in place.matching(target.root, pattern)]
    if (whole := folder_itself(target.root)) is not None:
        found += [whole.manifest_path, joined(whole.work_path, PLAN)]
    yield from (path for path in found if path not in mine)


def folder_itself(folder: str) -> Target | None:
    """Return the export that a folder would be as a whole, whose own files lie beside it; None of all of a bucket."""
    is_bucket = is_object_uri(folder) and "/" not in folder.partition("://")[2].rstrip("/")
    return None if is_bucket else Target("hf-folder", folder)


PLAN = "plan.json"
"""What an export is, in its hidden folder while it is under way."""


def _own(target: Target) -> set[str]:
    fixed = [target.manifest_path, target.errors_path, *target.extra_paths]
    return {real(path) for path in (target.path, target.base, *fixed)}
