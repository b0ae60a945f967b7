"""Addresses on the Hugging Face hub: ``hf://datasets/org/name?split=train``, ``hf://org/name@revision/data/*.parquet``."""

from __future__ import annotations

import re
from typing import NamedTuple, Self
from urllib.parse import unquote

from llm_datagen.errors import ConfigError

PREFIX = "hf://"

_NAME = re.compile(r"[\w.-]+")
_OTHER_KINDS = ("models", "spaces", "buckets")


class HubUri(NamedTuple):
    """What an address on the hub says.

    Attributes:
        repository: ``org/name`` of a data set.
        path: a file or a pattern in it, or a folder; empty for all of it.
        split: which split; None when there is no choice.
        config: which configuration; None: the default one.
        revision: a branch, a tag or a commit; None: the main branch.
        columns: which columns, as they stand in the address; None: all.
    """

    repository: str
    path: str
    split: str | None
    config: str | None
    revision: str | None
    columns: str | None

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Return what an address says.

        Raises:
            ConfigError: when it is none.
        """
        place, sign, query = uri.removeprefix(PREFIX).partition("?")
        given: dict[str, str] = {}
        for part in query.split("&") if sign else ():
            key, is_given, value = part.partition("=")
            if key not in {"split", "config", "revision", "columns"} or not is_given or not value or key in given:
                raise ConfigError(
                    f"{uri!r}: {part!r} is no option of hf://; there are split=…, config=…, revision=… and columns=a,b"
                )
            given[key] = value if key == "columns" else unquote(value)
        parts = place.rstrip("/").split("/")
        if parts[0] in _OTHER_KINDS:
            raise ConfigError(f"{uri!r}: only data sets are read; write hf://datasets/org/name")
        parts = parts[1:] if parts[0] == "datasets" else parts
        name, at, revision = parts[1].partition("@") if len(parts) > 1 else ("", "", "")
        if at and (not revision or "revision" in given):
            raise ConfigError(f"{uri!r}: give the revision once, as hf://org/name@revision or as revision=…")
        if len(parts) < 2 or not _NAME.fullmatch(parts[0]) or not _NAME.fullmatch(name) or not all(parts):
            raise ConfigError(
                f"{uri!r} names no data set of the hub; write hf://datasets/org/name?split=train, or "
                "hf://datasets/org/name/data/*.parquet"
            )
        path = "/".join(parts[2:])
        if path and ("split" in given or "config" in given):
            raise ConfigError(f"{uri!r}: it names files, so there is no split or config to choose; leave that out")
        return cls(
            f"{parts[0]}/{name}",
            path,
            given.get("split"),
            given.get("config"),
            unquote(revision) or given.get("revision"),
            given.get("columns"),
        )

    @property
    def place(self) -> str:
        """The data set, as an address."""
        return f"{PREFIX}datasets/{self.repository}"
