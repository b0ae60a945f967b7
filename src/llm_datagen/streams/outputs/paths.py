"""Paths of what an export makes: on this machine, or addresses in an object store, such as ``s3://bucket/dir/x``."""

from __future__ import annotations

from pathlib import Path, PurePath, PurePosixPath

from llm_datagen.streams.storage.object_uri import ObjectUri, is_object_uri


def split_place(path: str) -> tuple[str, PurePath]:
    """Return the bucket of an address, with the slash behind it, and the key; of a path, nothing and the path."""
    if not is_object_uri(path):
        return "", Path(path)
    scheme, _, rest = path.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}/", PurePosixPath(key)


def joined(folder: str, name: str) -> str:
    """Return the path of what is in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_object_uri(folder) else str(Path(folder) / name)


def parent_of(path: str) -> str:
    """Return the folder in which something is."""
    return path.rpartition("/")[0] if is_object_uri(path) else str(Path(path).parent)


def name_of(path: str) -> str:
    """Return the last part of a path."""
    return split_place(path)[1].name


def relative_to(path: str, folder: str) -> str:
    """Return the path of something as seen from a folder above it."""
    return path.removeprefix(f"{folder}/") if is_object_uri(path) else str(Path(path).relative_to(folder))


def absolute(path: str) -> str:
    """Return a path that does not depend on the working directory."""
    return str(ObjectUri.parse(path)) if is_object_uri(path) else str(Path(path).absolute())
