"""The finished exports of a folder, known by their manifests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_datagen.streams.outputs.export import Exported
from llm_datagen.streams.outputs.paths import joined
from llm_datagen.streams.outputs.place import OutputPlace
from llm_datagen.streams.outputs.side_by_side import folder_itself
from llm_datagen.streams.outputs.target import Target
from llm_datagen.streams.outputs.work import read_checked


def exports_in(folder: str, place: OutputPlace) -> Iterator[tuple[Exported, dict[str, Any]]]:
    """Yield what was exported into a folder, in the order of paths, with the manifest of each.

    Args:
        folder: the folder, as `Target.root` has it.
        place: what keeps its files.

    Raises:
        StreamCorruptError: when a manifest was edited.
    """
    patterns = [joined(folder, name) for name in ("*.manifest", ".*.manifest")]
    paths = {path for pattern in patterns for path in place.matching(folder, pattern)}
    if (whole := folder_itself(folder)) is not None:
        paths.add(whole.manifest_path)
    made = [manifest for path in paths if (manifest := read_checked(place, path)) is not None]
    for manifest in sorted(made, key=lambda each: each["target"]["path"]):
        target = Target(manifest["target"]["kind"], manifest["target"]["path"])
        if target.root == folder:
            yield Exported.of(target, manifest, was_there=True), manifest
