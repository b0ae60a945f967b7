"""The values of settings that are one of a few words."""

from __future__ import annotations

from typing import Literal

Fsync = Literal["never", "close", "flush"]
OnError = Literal["fail", "skip", "dead_letter"]
DeliveryMode = Literal["exactly_once", "at_most_once"]
IdScheme = Literal["path", "numeric"]
PipelineIdScheme = Literal["path", "numeric", "text"]
BatchBy = Literal["position", "parent"]
"""Which rows share a call of `process_batch`: those that lie together, or of these, those that have one parent."""

InputIds = Literal["keep", "refuse", "drop"]
"""What becomes of an `_i` that a row of a pipeline's input has: it is kept as `_i_in`; or the row fails; or it goes."""

Nan = Literal["error", "null"]
"""What becomes of NaN and the infinities in an input."""

CellType = Literal["int", "float", "bool", "str", "json"]
"""What the cells of a column of CSV hold."""

TargetRows = Literal["accepted"]
"""Which rows a target counts: those in the output of the node."""

MergeIds = Literal["keep", "rename"]
"""Whether rows of several inputs keep their ids, or are named after their input."""

IfExists = Literal["error", "resume", "overwrite"]
ExecutorKind = Literal["auto", "thread", "process"]
Verify = Literal["tail", "full"]
OnChange = Literal["refuse", "accept", "rerun", "replace"]
"""What becomes of rows of operators that were edited: "replace" is "rerun" that keeps no earlier version."""
