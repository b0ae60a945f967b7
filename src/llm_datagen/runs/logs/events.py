"""The events in platform.log: the name of each, when it is logged, and its fields.

The table of docs/reference/log.md is made from this file: ``python -m tests.examples.generated``.
"""

from __future__ import annotations

RUN_STARTED = "[Run Started]"
"""A run begins.

Fields: `streaming`, `nodes`, `pid`.
"""
RUN_ENDED = "[Run Ended]"
"""A run has ended, and everything is saved.

Fields: `seconds`.
"""
CANCEL = "[Cancel]"
"""A run is cancelled: nothing new begins from now on.

Fields: `reason`, `because_of_failure`.
"""
PAUSED = "[Paused]"
"""No call of an operator begins from now on."""
UNPAUSED = "[Unpaused]"
"""Calls begin again."""
RECONFIGURED = "[Reconfigured]"
"""A node was changed while it runs.

Fields: `node_id`, `parallel_size`, `batch_size`, `rate`.
"""
REFUSED = "[Refused]"
"""A change of a node was refused.

Fields: `node_id`, `error`.
"""
NO_CONTROL = "[No Control]"
"""No control socket can be made, so other processes cannot control the run."""
NOT_USED = "[Not Used]"
"""Something is not used: the code gives a resume other paths or settings than the run state has; a rerun has nothing
to do again; or the input has a column named as `id_column`, seems to have another separator, or was edited since
all of it was done; or the run replaces one that had not begun, and reads another input.

Fields: `node_id`, `message`.
"""
NODE_STARTED = "[Node Started]"
"""A node begins.

Fields: `node_id`, `operator` (its identity), `input_uri`, `output_uri`, and its settings.
"""
NODE_ENDED = "[Node Ended]"
"""A node has ended, in any way.

Fields: `node_id`, and the other fields of its `NodeReport` except for `usage` and `error`.
"""
NO_ROWS = "[No Rows]"
"""A node is completed, and no row came out of it: all failed, or were filtered. A warning, also to `on_log`.

Fields: `node_id`, `message`.
"""
TARGET_MET = "[Target Met]"
"""A node has written all the rows of its target. It ends, and so do nodes that nobody needs then: their status at their
end is `unneeded`.

Fields: `node_id`, `target_rows`.
"""
TARGET_MISSED = "[Target Missed]"
"""A node is completed, and its input has ended before its target was met. A warning, also to `on_log`.

Fields: `node_id`, `message`.
"""
UNFIT_ROWS = "[Unfit Rows]"
"""An output or an export of a run is made, and lacks rows that do not fit it. A warning, also to `on_log`.

Fields: `message`.
"""
NODE_FAILED = "[Node Failed]"
"""An operator, a reader or a writer failed.

Fields: `node_id`, `kind`, `ids`, `while_canceling`.
"""
ROW_FAILED = "[Row Failed]"
"""Rows failed, and were skipped or dead-lettered: the first ten of a node, then at most one line per second.

Fields: `node_id`, `kind`, `ids`, `failed_in_run`.
"""
STALLED = "[Stalled]"
"""Nothing has moved in a node for `stall_after` seconds, though there is work.

Fields: `node_id`, `seconds`, `waits_on`, `in_flight`, `ids`.
"""
GRACE_OVER = "[Grace Over]"
"""Calls in flight are given up after a cancel.

Fields: `node_id`, `grace_s`, `ids`.
"""
BACKPRESSURE = "[Backpressure]"
"""Workers wait for the writer; at most one line per second.

Fields: `node_id`, `stream`, `queue_rows`, `queue_size`, `waits`, `waited_total_s`.
"""
BACKPRESSURE_OVER = "[Backpressure Over]"
"""No worker waits for the writer any more.

Fields: `node_id`, `stream`, `waited_s`, `queue_rows`, `waits`, `waited_total_s`.
"""
EOF_RETRY = "[EOF Retry]"
"""A source has nothing new and is not sealed: one of the first five looks, 0.1 s apart; at most once in 5 s for
each reader.

Fields: `node_id`, `stream`, `attempt`, `waited_s`, `offset`.
"""
EOF_WAITING = "[EOF Waiting]"
"""A source still has nothing new after these looks.

Fields: `node_id`, `stream`, `waited_s`, `offset`, `hint`.
"""
HOOK_FAILED = "[Hook Failed]"
"""A hook raised, or did not return at the end.

Fields: `event_kind`, `error`.
"""
OPERATOR_LOG = "[Operator]"
"""An operator called `ctx.log`.

Fields: `node_id`, `message`, and its own.
"""
OPERATOR_CHANGED = "[Operator Changed]"
"""An operator was edited since rows were made, and that was accepted or is done again; or nobody can say, because
an older version made the run.

Fields: `node_id`, `parts`, `message`.
"""
TEARDOWN_FAILED = "[Teardown Failed]"
"""An operator's `teardown` raised.

Fields: `node_id`, `error`.
"""
GIVEN_AWAY = "[Rows Given Away]"
"""A shard ends earlier than planned: the rows from `row` on are for another shard, as a worker has nothing to do.

Fields: `node_id`, `row` (its number in the input).
"""
SHARD_SPLIT = "[Shard Split]"
"""A shard that runs has given away rows that it had not begun, and they are a new shard.

Fields: `shard`, `row` (the first one of the new shard), `new` (its number).
"""
SHARD_STARTED = "[Shard Started]"
"""A shard of a run in shards begins, or goes on. What it does itself is in the log in its folder.

Fields: `shard` (its number).
"""
SHARD_ENDED = "[Shard Ended]"
"""A shard has ended, in any way.

Fields: `shard`, `status`, `error`.
"""
SHARD_LOST = "[Shard Lost]"
"""The process of a shard died; the shard is begun again, and goes on where it was. A warning, also to `on_log`.

Fields: `shard`, `tries` (how often that was so at the same place), `rows`, `message`.
"""
