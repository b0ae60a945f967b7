"""Which files of a data set on the hub make a split: by the card where it says so, else by their names.

A card (README.md) may begin with YAML that has ``configs``: names, and the files of each, by split. Without it, names
tell: ``data/train-00000-of-00002.parquet``; else folders called after a split (``test/…``); else file names with the
word in them (``my-train-1.csv``). Where no name tells anything, all files are the split ``train``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.streams.formats.patterns import matches

DATA_ENDINGS = (".parquet", ".arrow", ".feather", ".jsonl", ".ndjson", ".json", ".csv", ".txt")

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "dev", "val"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_BETWEEN_WORDS = re.compile(r"[-._ 0-9]+")
_NO_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"}
_KNOWN_KEYS = {"config_name", "data_files", "data_dir", "default", "description", "version", "features"}
_NO_CARD = "default"


def is_data(path: str, compressions: Sequence[str]) -> bool:
    """Return whether a file may hold rows, by its name."""
    name = PurePosixPath(path)
    if any(part.startswith((".", "_")) for part in name.parts) or name.name in _NO_DATA:
        return False
    inner = name.with_suffix("") if name.suffix.lower() in compressions else name
    return inner.suffix.lower() in DATA_ENDINGS


def splits_of_card(
    files: Iterable[str], configs: Sequence[Any], config: str | None, where: str
) -> dict[str, list[str]]:
    """Return the files of each split, as a card says.

    Args:
        files: the paths of all files.
        configs: what the card has.
        config: which of them; None: the default one.
        where: the data set, for messages.

    Raises:
        ConfigError: when there is no such configuration, or it says something that is not known here.
    """
    by_name = {str(each.get("config_name")): each for each in configs if isinstance(each, Mapping)}
    name = config if config is not None else _default_of(by_name, where)
    if name not in by_name:
        raise ConfigError(f"{where} has no config {name!r}; there are {', '.join(sorted(by_name))}")
    chosen = by_name[name]
    if unknown := sorted(set(chosen) - _KNOWN_KEYS):
        raise ConfigError(
            f"{where}: its card says for config {name!r} how to read the files ({', '.join(map(str, unknown))}), which "
            "is not known here; name the files (hf://datasets/org/name/data/*.csv), and set data_config"
        )
    folder = str(chosen.get("data_dir") or "").strip("/")
    prefix = f"{folder}/" if folder else ""
    wanted = chosen.get("data_files")
    if wanted is None:
        return splits_by_name([path for path in files if path.startswith(prefix)], prefix)
    found: dict[str, list[str]] = {}
    for split, patterns in _data_files(wanted, where, name):
        paths = [path for path in files if any(_means(f"{prefix}{pattern}", path) for pattern in patterns)]
        found[split] = sorted({*found.get(split, ()), *paths})
    return found


def splits_by_name(files: Iterable[str], prefix: str = "") -> dict[str, list[str]]:
    """Return the files of each split, as their names tell.

    Args:
        files: the paths of all files with rows.
        prefix: the folder that they are in, whose name tells nothing.
    """
    inner = {path: path.removeprefix(prefix) for path in sorted(files)}
    for tell in (_of_shard, _of_folder, _of_file):
        found: dict[str, list[str]] = {}
        for path, name in inner.items():
            split = tell(name)
            if split is not None:
                found.setdefault(split, []).append(path)
        if found:
            return found
    return {"train": list(inner)} if inner else {}


def chosen_split(splits: Mapping[str, list[str]], split: str | None, where: str) -> list[str]:
    """Return the files of a split; without a name, of the only one that there is.

    Raises:
        ConfigError: when there is no such split, or several to choose from.
    """
    there = ", ".join(sorted(name for name, files in splits.items() if files))
    if not there:
        raise ConfigError(f"{where} has no file of rows that can be read ({', '.join(DATA_ENDINGS)})")
    if split is None:
        names = [name for name, files in splits.items() if files]
        if len(names) > 1:
            raise ConfigError(f"{where} has several splits; choose one with ?split=…: {there}")
        split = names[0]
    if not splits.get(split):
        raise ConfigError(f"{where} has no split {split!r}; there is {there}")
    return splits[split]


def _default_of(by_name: Mapping[str, Mapping[str, Any]], where: str) -> str:
    marked = [name for name, each in by_name.items() if each.get("default") is True]
    if len(marked) == 1:
        return marked[0]
    if _NO_CARD in by_name or len(by_name) == 1:
        return _NO_CARD if _NO_CARD in by_name else next(iter(by_name))
    raise ConfigError(f"{where} has several configs; choose one with ?config=…: {', '.join(sorted(by_name))}")


def _data_files(wanted: Any, where: str, name: str) -> list[tuple[str, list[str]]]:
    """Return splits and their patterns: of text, a list, a dict by split, or a list with a split and a path each."""
    if isinstance(wanted, Mapping):
        entries = [{"split": split, "path": path} for split, path in wanted.items()]
    elif isinstance(wanted, list) and wanted and all(isinstance(each, Mapping) for each in wanted):
        entries = wanted
    else:
        entries = [{"split": "train", "path": wanted}]
    found = []
    for entry in entries:
        paths = entry.get("path")
        patterns = [paths] if isinstance(paths, str) else paths
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            raise ConfigError(f"{where}: its card has data_files of config {name!r} that are no paths: {paths!r}")
        found.append((str(entry.get("split", "train")), patterns))
    return found


def _means(pattern: str, path: str) -> bool:
    pattern = pattern.removeprefix("./")
    return matches(path, pattern) or matches(path, f"{pattern.rstrip('/')}/**")


def _of_shard(path: str) -> str | None:
    found = _SHARD.fullmatch(path)
    return found[1] if found else None


def _of_folder(path: str) -> str | None:
    return next((split for part in path.split("/")[:-1] if (split := _word_of(part))), None)


def _of_file(path: str) -> str | None:
    return _word_of(path.rpartition("/")[2])


def _word_of(name: str) -> str | None:
    return next((_WORDS[word] for word in _BETWEEN_WORDS.split(name) if word in _WORDS), None)
