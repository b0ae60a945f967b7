"""The place of a target: an object store for an address in one, and the folders of this machine for the rest."""

from __future__ import annotations

from typing import cast

from llm_datagen.streams.file_streams import FileStream
from llm_datagen.streams.outputs.local_place import LocalPlace
from llm_datagen.streams.outputs.place import OutputPlace
from llm_datagen.streams.outputs.target import Target
from llm_datagen.streams.storage.local import LocalStorage


def place_of(target: Target) -> OutputPlace:
    """Return where a target lies.

    Raises:
        ConfigError: when it is in a store, and the library for that is not installed.
    """
    if not target.is_remote:
        return LocalPlace(cast(LocalStorage, FileStream.storage))
    from llm_datagen.streams.outputs.object_place import ObjectPlace
    from llm_datagen.streams.storage.objects import OBJECT_STORAGE

    OBJECT_STORAGE.bucket_and_key(target.path)
    return ObjectPlace(OBJECT_STORAGE)
