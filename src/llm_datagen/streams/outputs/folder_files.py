"""What makes a folder of Arrow files one that `datasets.load_from_disk` reads. It is written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.outputs.paths import joined
from llm_datagen.streams.outputs.target import HF_FILES, Target
from llm_datagen.streams.outputs.work import Work


def write_folder_files(target: Target, parts: Sequence[dict[str, Any]], plan: dict[str, Any], work: Work) -> None:
    """Write the state and the description of a folder for `datasets`; nothing for other targets.

    The types of the columns are those of the Arrow files.
    """
    if target.kind != "hf-folder":
        return
    state: dict[str, Any] = {
        "_data_files": [{"filename": PurePath(part["path"]).name} for part in parts],
        "_fingerprint": f"{plan['source'].get('crc32') or 0:08x}{plan['source']['bytes']:08x}"[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    info = {"citation": "", "description": "", "homepage": "", "license": ""}
    for name, value in zip(HF_FILES, (state, info), strict=True):
        work.put(joined(target.path, name), dumps(value))
