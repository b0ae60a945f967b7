"""Every name that there may be in the folder of a run: who writes there takes it from here, and no user's file may.

On a store, `LEASE` is in place of `LOCK` and `OWNER`.
"""

from llm_datagen.streams.storage.lease_record import LEASE

RUN_STATE = "runtime.json"
CHECKPOINT = "checkpoint.json"
OWNER = "owner.json"
ORIGIN = "origin.json"
TIMELINE = "timeline.jsonl"
LOCK = "lock"
CLAIM = "claim"
"""Of a shard on a file system: locked by who has claimed it. Then `LEASE` is beside it: its heartbeat."""
TAKEN = "taken.json"
"""Of a shard on a file system: that it goes on in another folder, so that what is written here counts no more."""
KEPT = "files"
"""A folder: what the operators keep for themselves."""

RUN_FILES = (RUN_STATE, CHECKPOINT, OWNER, ORIGIN, TIMELINE, LOCK, LEASE, CLAIM, TAKEN, KEPT)
"""All of them. Those that are replaced as a whole have a ``.tmp`` beside them for a moment."""
