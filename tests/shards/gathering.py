"""A program that gathers what a file says: run state, shards and merge, as JSON; faults by its environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from llm_datagen.shards.gathered import Gathered, ShardState
from llm_datagen.testing import inject_from_env

if __name__ == "__main__":
    said = json.loads(Path(sys.argv[1]).read_bytes())
    inject_from_env()
    Gathered(said["run_state"], [ShardState(*shard) for shard in said["shards"]], said["merge"]).make()
