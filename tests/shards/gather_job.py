"""A program that gathers a run: ``RESULTS ID``; faults by its environment."""

from __future__ import annotations

import sys

from llm_datagen.shards.gather import gather
from llm_datagen.testing import inject_from_env

if __name__ == "__main__":
    inject_from_env()
    gather(sys.argv[1], sys.argv[2])
