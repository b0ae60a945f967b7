"""Every name that there may be in the folder of a run: who writes there takes it from here, and no user's file may.

`LEASE` is in place of `LOCK` and `OWNER`, on a store.
"""

from llm_datagen.streams.storage.lease import LEASE

RUN_STATE = "runtime.json"
CHECKPOINT = "checkpoint.json"
OWNER = "owner.json"
ORIGIN = "origin.json"
LOCK = "lock"
KEPT = "files"
"""A folder: what the operators keep for themselves."""

RUN_FILES = (RUN_STATE, CHECKPOINT, OWNER, ORIGIN, LOCK, LEASE, KEPT)
"""All of them. Those that are replaced as a whole have a ``.tmp`` beside them for a moment."""
