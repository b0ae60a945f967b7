"""Shards whose process died: each is begun again, unless it does not get further."""

from __future__ import annotations

from llm_datagen.errors import RunError
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.shards.executor import ShardOutcome
from llm_datagen.shards.standing import Standing

TRIES = 3
"""How often a shard may be begun that dies without getting further."""


class LostShards:
    """Counts how often the process of each shard died. Used by one thread.

    Args:
        standing: says how far shards are.
        log: the platform log.
    """

    def __init__(self, standing: Standing, log: PlatformLog) -> None:
        self._standing, self._log = standing, log
        self._tries: dict[int, tuple[int, int]] = {}  # deaths in a row at so many rows, by the shard

    def lost(self, number: int, outcome: ShardOutcome) -> str:
        """Note that the process of a shard died, and that it is begun again; return what people are told.

        Args:
            number: the number of the shard.
            outcome: how it has ended.

        Raises:
            RunError: when it has died too often at the same place.
        """
        rows = self._standing.rows_done(number)
        tries, before = self._tries.get(number, (0, -1))
        tries = 1 if rows > before else tries + 1
        self._tries[number] = tries, rows
        if tries >= TRIES:
            raise RunError(
                f"shard {number} was begun {tries} times at the same place, and its process died each time: "
                f"{outcome.error}. A row that kills its process is found by executor='process' of its node, which has "
                "that row fail alone"
            )
        text = f"{outcome.error}; it is begun again, and goes on where it was ({rows:,} rows are done, over all nodes)"
        self._log.warning(events.SHARD_LOST, shard=number, tries=tries, rows=rows, message=text)
        return text
