"""Ends the jobs of a node that nobody needs any more: they are cancelled, and what they have answered is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn

from llm_datagen.llm.batch.node_jobs import NodeJobs
from llm_datagen.llm.batch.transport import BatchTransport
from llm_datagen.llm.types import ChatRequest
from llm_datagen.streams.rows import Rejected

_LOOK_SECONDS = 0.05


class SettlingContext:
    """What the jobs of a node see of it when no row is asked any more.

    Args:
        files: where the operators of the run keep their files.
        node_id: the node.
        pipeline_id: the run's id.
        results_dir: the folder of the runs.
        log: takes what is to be said of jobs, as `INodeContext.log` does.
    """

    def __init__(
        self, files: Path, node_id: str, *, pipeline_id: str, results_dir: str, log: Callable[..., None]
    ) -> None:
        self.folder: Path | None = files
        self.node_id = node_id
        self.pipeline_id = pipeline_id
        self.results_dir = results_dir
        self.log = log
        self._is_left = False
        self.state: Any = None  # no row is done

    def reject(self, reason: str) -> NoReturn:
        """Leave out the row of the call that is running: there is none."""
        raise Rejected(reason)

    def report_usage(self, usage: Mapping[str, Any]) -> None:
        """Report nothing: the job log has what was used."""

    def report_usage_total(self, usage: Mapping[str, Any]) -> None:
        """Report nothing: the job log has what was used."""

    def is_cancelled(self) -> bool:
        """Return whether the run is being cancelled: its calls are not, as there are none."""
        return False

    def is_paused(self) -> bool:
        """Return whether the run is paused."""
        return False

    def expects_rows(self) -> bool:
        """Return whether a further row may come."""
        return False

    def has_all_rows(self) -> bool:
        """Return whether all rows have asked; no: who settles cancels the jobs, and need not be told."""
        return False

    def wait_for_jobs(self, jobs: int) -> None:
        """Say for how many jobs calls in flight wait."""

    def keeps_jobs(self) -> bool:
        """Return whether jobs go on: once they are not waited for any more."""
        return self._is_left

    def leave(self) -> None:
        """Let what has not ended go on."""
        self._is_left = True


async def settle_jobs(
    node: NodeJobs,
    transports: Sequence[BatchTransport],
    ctx: SettlingContext,
    *,
    seconds: float,
    stopped: Callable[[], bool],
) -> None:
    """Cancel the open jobs of a node, and wait for their end; what they have answered is in the job log then.

    What has not ended in time goes on at the provider, and may be settled later.

    Args:
        node: the jobs of the node, not yet open.
        transports: what goes on with them, for each endpoint; opened, and closed, here.
        ctx: what they see of the node.
        seconds: how long to wait.
        stopped: returns whether to wait no longer.

    Raises:
        BatchError: when the job log cannot be used, or has jobs at another endpoint.
        LLMError: when a provider refuses, or does not answer for too long.
    """
    async with AsyncExitStack() as last_first:
        last_first.push_async_callback(node.close)
        for transport in transports:
            last_first.push_async_callback(transport.close)
            await transport.open()
        last_first.callback(ctx.leave)
        await node.open_for(ChatRequest(messages=(), params={}, model="", ctx=ctx))
        for endpoint in node.endpoints:
            endpoint.give_up()
        deadline = node.clock() + seconds
        while not all(endpoint.is_idle for endpoint in node.endpoints):
            node.check()
            if stopped() or node.clock() >= deadline:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        node.check()
