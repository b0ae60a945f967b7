"""Hooks: how other programs watch a run.

Hooks are called on one thread of the engine, off the data path: a slow hook delays only the next hook, a
failing one is logged and forgotten. When a hook cannot keep up, progress is conflated to the latest per node
and usage is summed, so that memory stays flat and sums stay right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from llm_datagen.errors import ConfigError


@runtime_checkable
class IPipelineHooks(Protocol):
    """The hooks of a run. `cid` is the pipeline id, `nid` the node id."""

    def on_pipeline_start(self, cid: str, config: Mapping[str, Any]) -> None:
        """A run begins; `config` is the run state's configuration."""

    def on_pipeline_end(self, cid: str, success: bool, error: BaseException | None) -> None:
        """The run has ended; `error` is the cause when it failed."""

    def on_node_start(self, cid: str, nid: str, config: Mapping[str, Any]) -> None:
        """A node begins."""

    def on_node_finish(self, cid: str, nid: str) -> None:
        """A node has sealed its output."""

    def on_node_end(self, cid: str, nid: str, success: bool, error: BaseException | None) -> None:
        """A node has ended, whether it finished or not."""

    def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Mapping[str, Any]) -> None:
        """Rows were committed, or more is known of the total.

        Args:
            cid: the pipeline id.
            nid: the node id.
            curr: source rows whose results are on disk; never more.
            total: source rows in all, or None while nothing is known of it; see ``meta["total_is_exact"]``.
            meta: ``rows_out``, ``filtered``, ``rejected``, ``failed``, ``skipped``, ``dead_letters``,
                ``rows_per_second``, ``target_rows``, ``beyond_target``, ``cut_rows`` (see `NodeReport`),
                ``total_is_exact``, ``status`` (of the node; the last call before its end says how it ended).
        """

    def on_usage(self, cid: str, nid: str, provider: str, model: str, metrics: Mapping[str, float]) -> None:
        """An operator reported usage; `metrics` is what was added."""

    def on_node_error(self, cid: str, nid: str, error: BaseException, items: list[Any]) -> None:
        """An operator let an exception out; `items` is what it had been given."""

    def on_checkpoint(self, cid: str, nid: str, checkpoint: Mapping[str, Any]) -> None:
        """A node's position was saved to checkpoint.json."""

    def on_stall(self, cid: str, nid: str, info: Mapping[str, Any]) -> None:
        """Nothing has moved in a node for `stall_after` seconds, though there is work.

        Args:
            cid: the pipeline id.
            nid: the node id.
            info: ``seconds``, ``waits_on`` ("operator", "writer", "upstream"), ``ids`` of rows in flight (ten at most),
                ``in_flight`` (how many there are).
        """

    def on_log(self, cid: str, nid: str, level: str, message: str) -> None:
        """An operator logged a message, or the engine has a warning about a node."""


@runtime_checkable
class IPreparedHooks(Protocol):
    """Hooks that are also told of a run before anything of it runs, by the thread that starts it."""

    def prepare_run(self, cid: str, results_dir: str, run_state: Mapping[str, Any]) -> None:
        """A run is about to begin. What it raises is logged, and the run begins.

        Args:
            cid: the pipeline id.
            results_dir: the folder of the runs, or its URI.
            run_state: the run state, with what the nodes have done in earlier runs. It must not be changed.
        """


class DefaultPipelineHooks:
    """Hooks that do nothing: inherit from it and override what you want to see."""

    def on_pipeline_start(self, cid: str, config: Mapping[str, Any]) -> None:
        """Do nothing."""

    def on_pipeline_end(self, cid: str, success: bool, error: BaseException | None) -> None:
        """Do nothing."""

    def on_node_start(self, cid: str, nid: str, config: Mapping[str, Any]) -> None:
        """Do nothing."""

    def on_node_finish(self, cid: str, nid: str) -> None:
        """Do nothing."""

    def on_node_end(self, cid: str, nid: str, success: bool, error: BaseException | None) -> None:
        """Do nothing."""

    def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Mapping[str, Any]) -> None:
        """Do nothing."""

    def on_usage(self, cid: str, nid: str, provider: str, model: str, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def on_node_error(self, cid: str, nid: str, error: BaseException, items: list[Any]) -> None:
        """Do nothing."""

    def on_checkpoint(self, cid: str, nid: str, checkpoint: Mapping[str, Any]) -> None:
        """Do nothing."""

    def on_stall(self, cid: str, nid: str, info: Mapping[str, Any]) -> None:
        """Do nothing."""

    def on_log(self, cid: str, nid: str, level: str, message: str) -> None:
        """Do nothing."""


HOOK_NAMES: tuple[str, ...] = tuple(name for name in vars(DefaultPipelineHooks) if name.startswith("on_"))
"""The names of all hooks."""


def check_hooks(hooks: Any) -> Any:
    """Return `hooks`.

    Raises:
        ConfigError: when a class was given in place of an instance.
    """
    if isinstance(hooks, type):
        raise ConfigError(f"hooks must be an instance: {hooks.__name__}(), not the class {hooks.__name__}")
    return hooks


def shows_warnings(hooks: Any) -> bool:
    """Return whether hooks show warnings to people: they say so by ``shows_warnings = True``."""
    return bool(getattr(hooks, "shows_warnings", False))


class CompositePipelineHooks(DefaultPipelineHooks):
    """Several hooks as one: each call goes to all of them, even if one fails.

    Args:
        hooks: the hooks, called in this order.
    """

    def __init__(self, hooks: Iterable[IPipelineHooks]) -> None:
        self.hooks = list(hooks)

    @property
    def shows_warnings(self) -> bool:
        """Whether one of them does."""
        return any(map(shows_warnings, self.hooks))

    def prepare_run(self, cid: str, results_dir: str, run_state: Mapping[str, Any]) -> None:
        """Pass it on to those who take it; see `IPreparedHooks`."""
        errors: list[Exception] = []
        for hook in self.hooks:
            try:
                if isinstance(hook, IPreparedHooks):
                    hook.prepare_run(cid, results_dir, run_state)
            except Exception as error:  # noqa: BLE001 - a hook is foreign code
                errors.append(error)
        if errors:
            raise errors[0]

    def __getattribute__(self, name: str) -> Any:
        if name not in HOOK_NAMES:
            return super().__getattribute__(name)

        def call_all(*args: Any, **kwargs: Any) -> None:
            errors: list[Exception] = []
            for hook in self.hooks:
                try:
                    getattr(hook, name)(*args, **kwargs)
                except Exception as error:  # noqa: BLE001 - a hook is foreign code
                    errors.append(error)
            if errors:
                raise errors[0]

        return call_all
