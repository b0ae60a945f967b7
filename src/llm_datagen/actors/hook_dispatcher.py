"""Hooks off the data path: a thread that turns events into calls of a user's hooks (M26)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from llm_datagen.messages import (
    CheckpointSaved,
    NodeFailed,
    NodeFinished,
    NodeProgressed,
    NodeStarted,
    OperatorLogged,
    PipelineFinished,
    PipelineStarted,
    RowDeadLettered,
    Stalled,
    UsageReported,
)
from llm_datagen.runs.hooks import IPipelineHooks, IPreparedHooks
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog

STALL_FIELDS = ("seconds", "waits_on", "ids", "in_flight")

MAX_BACKLOG = 1000
"""Events that wait for slow hooks; beyond that they are conflated."""

MAX_LARGE = 16
"""Exceptions with texts or traces that were too long to stay whole, that wait for slow hooks: they hold memory."""

PATIENCE_SECONDS = 5.0
"""How long the end of a run waits for hooks that have not returned."""


class HookDispatcher:
    """A subscriber that calls hooks, one event after the other, on a thread of its own.

    A hook that raises is logged. When hooks are slower than events, a node's progress is conflated to the latest,
    usage is summed, and checkpoints, log messages and rows that failed are dropped; starts, ends and what ended the run
    never are.

    Args:
        hooks: the hooks.
        pipeline_id: the pipeline's id.
        log: where failing hooks are logged.
    """

    def __init__(self, hooks: IPipelineHooks, pipeline_id: str, log: PlatformLog) -> None:
        self._hooks = hooks
        self._pipeline_id = pipeline_id
        self._log = log
        self._events: deque[Any] = deque()
        self._changed = threading.Condition()
        self._large = 0  # of the events
        self._is_closed = False
        # A daemon: a hook that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"datagen-hooks-{pipeline_id}", daemon=True)
        self._thread.start()

    def prepare(self, results_dir: str, run_state: Mapping[str, Any]) -> None:
        """Tell hooks that want it of a run that is about to begin, on the caller's thread; see `IPreparedHooks`."""
        if not isinstance(self._hooks, IPreparedHooks):
            return
        try:
            self._hooks.prepare_run(self._pipeline_id, results_dir, run_state)
        except Exception as error:  # noqa: BLE001 - a hook is foreign code
            self._log.error(events.HOOK_FAILED, event_kind="prepare_run", error=repr(error))

    def tell(self, event: Any) -> None:
        """Take an event; never blocks. Any thread may call it."""
        with self._changed:
            self._large += _is_large(event)
            if len(self._events) >= MAX_BACKLOG or self._large > MAX_LARGE:
                self._conflate()
                self._large = int(_is_large(event))
            self._events.append(event)
            self._changed.notify()

    def close(self) -> bool:
        """Wait until all events were told; return False when a hook is stuck and was left behind."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(PATIENCE_SECONDS)
        is_stuck = self._thread.is_alive()
        if is_stuck:
            what = f"a hook has not returned within {PATIENCE_SECONDS} s"
            self._log.error(events.HOOK_FAILED, event_kind=None, error=what)
        return not is_stuck

    def _conflate(self) -> None:
        """Make room: what can be told as one is made one, at the place of the last of them."""
        conflated: dict[Any, Any] = {}
        for number, event in enumerate(self._events):
            match event:
                case NodeProgressed(node_id=node_id):
                    conflated.pop(node_id, None)
                    conflated[node_id] = event
                case UsageReported(node_id=node_id, provider=provider, model=model):
                    key = node_id, provider, model
                    conflated[key] = conflated.pop(key).plus(event) if key in conflated else event
                case CheckpointSaved() | OperatorLogged() | RowDeadLettered():
                    pass
                case _:
                    conflated[number] = event
        self._events = deque(conflated.values())

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._events and not self._is_closed:
                    self._changed.wait()
                if not self._events:
                    return
                event = self._events.popleft()
                self._large -= _is_large(event)
            try:
                self._call(event)
            except BaseException as error:  # noqa: BLE001 - a hook is foreign code
                self._log.error(events.HOOK_FAILED, event_kind=type(event).__name__, error=repr(error))

    def _call(self, event: Any) -> None:
        hooks, pipeline_id = self._hooks, self._pipeline_id
        match event:
            case PipelineStarted(config=config):
                hooks.on_pipeline_start(pipeline_id, config)
            case PipelineFinished(status=status, error=error):
                hooks.on_pipeline_end(pipeline_id, status == "completed", error)
            case NodeStarted(node_id=node_id, config=config):
                hooks.on_node_start(pipeline_id, node_id, config)
            case NodeProgressed(node_id=node_id, done=done, total=total, meta=meta):
                hooks.on_node_progress(pipeline_id, node_id, done, total, meta)
            case NodeFailed(node_id=node_id, error=error, items=items):
                hooks.on_node_error(pipeline_id, node_id, error, items)
            case RowDeadLettered(node_id=node_id, error=error, items=items):
                hooks.on_node_error(pipeline_id, node_id, error, items)
            case NodeFinished(node_id=node_id, success=success, error=error):
                if success:
                    hooks.on_node_finish(pipeline_id, node_id)
                hooks.on_node_end(pipeline_id, node_id, success, error)
            case UsageReported(node_id=node_id, provider=provider, model=model, metrics=metrics):
                hooks.on_usage(pipeline_id, node_id, provider, model, metrics)
            case Stalled(node_id=node_id):
                hooks.on_stall(pipeline_id, node_id, {name: getattr(event, name) for name in STALL_FIELDS})
            case CheckpointSaved(node_id=node_id, checkpoint=checkpoint):
                hooks.on_checkpoint(pipeline_id, node_id, checkpoint)
            case OperatorLogged(node_id=node_id, level=level, message=message):
                hooks.on_log(pipeline_id, node_id, level, message)


def _is_large(event: Any) -> bool:
    return isinstance(event, RowDeadLettered) and event.failure.is_cut
