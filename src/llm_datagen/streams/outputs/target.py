"""Targets of exports: what ``parquet:out-{shard:05}.parquet`` says about format, path, shards and partitions."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from llm_datagen.config import check_path
from llm_datagen.errors import ConfigError
from llm_datagen.streams.outputs.paths import absolute, joined, name_of, parent_of, split_place
from llm_datagen.streams.outputs.template import FIELD, SHARD, Template, check_length
from llm_datagen.streams.storage.compression import compression_of, ending_of
from llm_datagen.streams.storage.object_uri import SCHEMES, ObjectUri, is_object_uri, refuse_path_of_uri

KINDS = ("parquet", "jsonl", "csv", "chatml", "hf-folder")
"""The formats of exports."""

HF_FILES = ("state.json", "dataset_info.json")
"""What makes a folder of Arrow files one that `datasets.load_from_disk` reads."""

_ENDINGS = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
_NEW_ENDINGS = {"parquet": ".parquet", "jsonl": ".jsonl", "csv": ".csv", "chatml": ".jsonl", "hf-folder": ""}


@dataclass(frozen=True, slots=True)
class Target:
    """Where an export goes, and in which format.

    Attributes:
        kind: one of `KINDS`.
        path: the path, or the address in an object store; or a template of one, with ``{shard}``, ``{shard:05}`` or
            ``{column}`` in it; of a folder, the folder.
    """

    kind: str
    path: str

    @classmethod
    def of(cls, text: Any) -> Target:
        """Return what `text` names: ``out.parquet``, ``parquet:out``, ``hf-folder:dir``, ``chatml://out.jsonl.zst``.

        Raises:
            ConfigError: when it names no format, or has a field that is none.
        """
        given = os.fspath(text) if isinstance(text, os.PathLike) else text
        path = check_path("the target of an export", given)
        kind, colon, rest = path.partition(":")
        if colon and kind in KINDS:
            path = rest.removeprefix("//")
        elif is_object_uri(path):
            kind = _kind_by_ending(path)
        elif colon and "://" in path:
            raise ConfigError(
                f"{path!r}: the format {kind!r} is not known; known are {', '.join(KINDS)}; "
                f"stores are {', '.join(f'{scheme}://' for scheme in SCHEMES)}"
            )
        else:
            kind = _kind_by_ending(path)
        if not path:
            raise ConfigError(f"{text!r} names a format, and no path; say where: {kind}:out{_NEW_ENDINGS[kind]}")
        path = refuse_path_of_uri("the target of an export", path)
        target = cls(kind, path.rstrip("/") if kind == "hf-folder" and is_object_uri(path) else path)
        target.check()
        return target

    def check(self) -> None:
        """Check the template, and that what its compression needs is there.

        Raises:
            ConfigError: when it does not fit.
        """
        if re.sub(FIELD, "", self.path).strip("/") != re.sub(FIELD, "", self.path).strip("/").replace("{", ""):
            raise ConfigError(f"{self.path}: a brace is open; write {{shard}}, {{shard:05}} or {{column}}")
        if self.kind == "hf-folder" and self.fields:
            raise ConfigError(f"hf-folder:{self.path}: its files have names of their own; leave {{…}} out")
        if self.compression is not None:
            if self.kind in {"parquet", "hf-folder"}:
                raise ConfigError(f"{self.path}: {self.kind} is compressed inside; leave {self.compression} out")
            compression_of(self.compression)
        if any(not name for name in self.fields):
            raise ConfigError(f"{self.path}: {{}} names nothing; write {{shard}} or {{column}}")
        for name, digits in FIELD.findall(self.path):
            if digits and name != SHARD:
                raise ConfigError(
                    f"{self.path}: only {{shard}} has a number of digits; write {{shard:{digits}}}, or {{{name}}} for "
                    f"the values of a column {name!r}"
                )
        if self.is_remote and "{" in ObjectUri.parse(self.path).bucket:
            raise ConfigError(f"{self.path}: all parts go into one bucket; leave {{…}} out of its name")

    @property
    def is_remote(self) -> bool:
        """Whether it is in an object store."""
        return is_object_uri(self.path)

    @property
    def compression(self) -> str | None:
        """The ending that tells how parts are compressed; None when they are not."""
        return None if self.kind == "hf-folder" else ending_of(self.path)

    @property
    def fields(self) -> list[str]:
        """The names of the template's fields, in order."""
        return [found[0] for found in FIELD.findall(self.path)]

    @property
    def columns(self) -> list[str]:
        """The columns that the rows are parted by."""
        return [name for name in self.fields if name != SHARD]

    @property
    def is_sharded(self) -> bool:
        """Whether there may be several parts with the rows of one partition."""
        return self.kind == "hf-folder" or SHARD in self.fields

    @property
    def is_folder(self) -> bool:
        """Whether it is more than one file, so that `_SUCCESS` says that all are there."""
        return self.kind == "hf-folder" or bool(self.fields)

    @property
    def root(self) -> str:
        """The folder in which everything lies."""
        if self.kind == "hf-folder":
            return self.path
        place, path = split_place(self.path)
        parts = path.parts[:-1]
        fixed = next((number for number, part in enumerate(parts) if "{" in part), len(parts))
        return place + str(type(path)(*parts[:fixed])) if fixed else place.rstrip("/") or "."

    @property
    def base(self) -> str:
        """The path that names of what lies beside the parts begin with: that of the only part, if there is only one."""
        if self.kind == "hf-folder":
            return self.path.rstrip("/")
        name = re.sub(r"[-_.]?" + FIELD.pattern, "", name_of(self.path))
        return joined(self.root, name if name.strip(".") else "rows")

    @property
    def manifest_path(self) -> str:
        """Where the list of the parts is kept."""
        return f"{self._beside}.manifest"

    @property
    def errors_path(self) -> str:
        """Where rows go that the format cannot hold."""
        return f"{self._beside}.errors.jsonl"

    @property
    def _beside(self) -> str:
        """The path that what is no part begins with: hidden in a folder of parts, which programs read as a whole."""
        if not self.is_folder or self.kind == "hf-folder":
            return self.base
        return joined(parent_of(self.base), f".{name_of(self.base)}")

    @property
    def success_path(self) -> str | None:
        """What says that all parts are there; None when there is one, which comes whole."""
        return joined(self.root, "_SUCCESS") if self.is_folder else None

    @property
    def extra_paths(self) -> list[str]:
        """The files that a folder needs besides the parts."""
        return [joined(self.path, name) for name in HF_FILES] if self.kind == "hf-folder" else []

    @property
    def work_path(self) -> str:
        """The hidden folder of an export that is under way."""
        return joined(parent_of(self.base), f".{name_of(self.base)}.export")

    def part_path(self, number: int, values: Mapping[str, Any]) -> str:
        """Return the path of a part.

        Args:
            number: the number of the shard.
            values: the values of the columns that rows are parted by.

        Raises:
            ValueError: when a value cannot be in a path.
        """
        if self.kind == "hf-folder":
            return joined(self.path, f"data-{number:05}.arrow")

        return Template.of(self.path).filled(number, values)

    def check_part(self, path: str) -> None:
        """Check that a part may have a path, which its values have made.

        Raises:
            ValueError: when it is too long, or that of a file which the export has of itself.
        """
        check_length(*map(str, split_place(path)))
        if path in {self.manifest_path, self.errors_path, self.success_path}:
            raise ValueError(f"{path} is a file that the export has of itself")

    def like_parts(self) -> str:
        """Return a glob that the paths of parts match."""
        return joined(self.path, "data-*.arrow") if self.kind == "hf-folder" else Template.of(self.path).glob()

    def absolute(self) -> Target:
        """Return it with an absolute path."""
        return Target(self.kind, absolute(self.path))


def _kind_by_ending(path: str) -> str:
    plain = PurePath(path).with_suffix("") if ending_of(path) else PurePath(path)
    kind = _ENDINGS.get(plain.suffix.lower())
    if kind is None:
        raise ConfigError(
            f"{path!r} does not say a format; let it end with {', '.join(_ENDINGS)} (compressed: .jsonl.zst, "
            f".csv.gz), or say it: {', '.join(f'{kind}:PATH' for kind in KINDS)}"
        )
    return kind
