"""The length of the vectors of a node: that of the first one, also after a resume."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from llm_datagen.llm.errors import LLMAnswerError
from llm_datagen.llm.types import ChatAnswer
from llm_datagen.operators import INodeContext
from llm_datagen.streams.formats.json_text import dumps


class SameLength:
    """Takes vectors of one length. Used on the event loop of the node.

    The length is written down in the folder of the run, with what the vectors depend on: of another model, or other
    `dimensions`, another length is right. What cannot be written, or read, costs the check after a resume, and no row.
    """

    def __init__(self) -> None:
        self._length: int | None = None
        self._turn = asyncio.Lock()

    async def check(
        self, length: int, row: str, answer: ChatAnswer, ctx: INodeContext, identity: Mapping[str, Any]
    ) -> None:
        """Check the length of a vector.

        Args:
            length: how many numbers it has.
            row: how errors name its row.
            answer: what it came with.
            ctx: of the node.
            identity: what the vectors depend on.

        Raises:
            LLMAnswerError: when it is not that of the vectors before: the two cannot be compared.
        """
        if self._length is None:
            async with self._turn:
                if self._length is None:
                    path = None if ctx.folder is None else ctx.folder / f"vectors.{quote(ctx.node_id, safe='')}.json"
                    self._length = length if path is None else await asyncio.to_thread(_first, path, length, identity)
        if length != self._length:
            whence = "the cache" if answer.is_cached else answer.endpoint
            raise LLMAnswerError(
                f"the vector of {row} has {length:,} numbers, and those before had {self._length:,} (from {whence}): "
                "give dimensions, and check that one model answers"
            )


def _first(path: Path, length: int, identity: Mapping[str, Any]) -> int:
    """Return the length that was written down for these vectors; write this one down when there is none."""
    wanted = hashlib.sha256(dumps(identity, option=orjson.OPT_SORT_KEYS)).hexdigest()
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
        known = orjson.loads(path.read_bytes())
        if known["of"] == wanted and type(known["length"]) is int:
            return int(known["length"])
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.write_bytes(dumps({"of": wanted, "length": length}))
        new.replace(path)
    return length
