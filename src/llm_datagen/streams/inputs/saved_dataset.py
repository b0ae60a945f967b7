"""Folders in which the library `datasets` saves a dataset (``save_to_disk``): Arrow files, and their order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm_datagen.errors import StreamError


def saved_files(folder: str) -> list[str] | None:
    """Return the paths of the files of a saved dataset, in their order; None when a folder is none.

    Raises:
        StreamError: when it holds several splits, or does not say its files.
    """
    splits = _read(Path(folder, "dataset_dict.json"))
    if splits is not None:
        names = splits.get("splits", [])
        raise StreamError(
            f"{folder} is a dataset with the splits {', '.join(names)}; give the folder of one, such as "
            f"{Path(folder, *names[:1])}"
        )
    state = _read(Path(folder, "state.json"))
    if state is None or "_data_files" not in state:
        return None
    try:
        return [str(Path(folder, file["filename"])) for file in state["_data_files"]]
    except (TypeError, KeyError) as error:
        raise StreamError(f"{folder}/state.json does not name the files of the dataset: {error!r}") from error


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise StreamError(f"{path} is no JSON: {error}; the dataset was not saved whole: save it again") from error
    return value if isinstance(value, dict) else None
