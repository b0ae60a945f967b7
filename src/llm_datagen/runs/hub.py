"""Data sets on the Hugging Face hub. Only huggingface_hub sees the token: it is in no file, log or error of ours."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError, HubError
from llm_datagen.runs.store import RunFolder
from llm_datagen.streams.outputs import Exported, Target
from llm_datagen.streams.storage.hub import hub_api, said_by

PREFIX = "hf://"


@dataclass(frozen=True, slots=True)
class HubTarget:
    """A data set on the hub.

    Attributes:
        repository: ``org/name``.
    """

    repository: str
    shard_bytes: int = 512 << 20

    @classmethod
    def of(cls, text: Any) -> HubTarget | None:
        """Return what ``hf://org/name`` names; None when the text is something else.

        Raises:
            ConfigError: when it names no data set.
        """
        given = os.fspath(text) if isinstance(text, str | os.PathLike) else ""
        if not given.startswith(PREFIX):
            return None
        repository = given.removeprefix(PREFIX).removeprefix("datasets/").strip("/")
        parts = repository.split("/")
        if len(parts) != 2 or not all(parts) or any(sign in repository for sign in "?#@ {}"):
            raise ConfigError(f"{given!r} names no data set of the hub; write hf://org/name")
        return cls(repository)

    @property
    def name(self) -> str:
        """Its name, without the organisation."""
        return self.repository.partition("/")[2]

    def files_in(self, folder: RunFolder) -> Target:
        """Return where the files lie before they are pushed: in the run's folder, so that it may be repeated."""
        place = folder.files_path / "hub" / self.repository.replace("/", "--")
        return Target("parquet", str(place / "data" / "train-{shard:05}.parquet"))


def push(target: HubTarget, made: Exported, card: str, *, public: bool) -> None:
    """Put the files of an export and a card on the hub, as one commit. The data set is made if it is not there.

    Args:
        target: the data set.
        made: the files.
        card: its README.md.
        public: whether all can see a data set that is made; else only its owners.

    Raises:
        ConfigError: when huggingface_hub is not installed.
        HubError: when the hub refuses, or cannot be reached.
    """
    api = hub_api()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    repository: dict[str, Any] = {"repo_id": target.repository, "repo_type": "dataset"}
    new = {f"data/{Path(path).name}": path for path in made.paths}
    try:
        api.create_repo(**repository, private=not public, exist_ok=True)
        there = api.list_repo_files(**repository)
        old = [path for path in there if path.startswith("data/train-") and path not in new]
        operations: list[Any] = [CommitOperationDelete(path_in_repo=path) for path in old]
        operations += [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in new.items()]
        operations.append(CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=card.encode()))
        api.create_commit(**repository, operations=operations, commit_message=f"{made.rows} rows of llm-datagen")
    except Exception as error:  # noqa: BLE001 - every kind that the library and its client raise
        raise HubError(
            f"{PREFIX}{target.repository}: {said_by(error)}; mend that, and export again: the files are kept"
        ) from None
