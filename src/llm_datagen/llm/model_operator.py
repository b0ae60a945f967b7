"""What all operators have in common that call models: endpoints, layers, a budget, a log of calls, new columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_datagen.config import check_flag
from llm_datagen.llm.answers.ask import report_cached
from llm_datagen.llm.answers.call_log import CallLog, checked_keep_calls
from llm_datagen.llm.answers.new_row import NewRow
from llm_datagen.llm.batch.options import ROWS_IN_FLIGHT, Batch
from llm_datagen.llm.cache.cassette import CASSETTE_VARIABLE
from llm_datagen.llm.cache.response_cache import CacheLayer
from llm_datagen.llm.cost.budget import Budget
from llm_datagen.llm.endpoints import Endpoint, budget_of, identity_of, limits_of
from llm_datagen.llm.errors import LLMError, LLMRequestError
from llm_datagen.llm.sampling.together import Together
from llm_datagen.llm.stack import StackSettings, build_stack, job_transports
from llm_datagen.llm.transport import Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.operators import BaseOperator, INodeContext

if TYPE_CHECKING:
    from llm_datagen.llm.batch.layers import JobsLayer


class ModelOperator(BaseOperator):
    """An operator that calls models by the layers of `stack.py`. An instance serves one node at a time.

    Args:
        endpoints: where calls go.
        settings: how they are made.
        columns: the columns that a row gets.
        params: the fields of its requests that are known before there is a row, for the check of the budget.
        overwrite_columns: as the user gave it, like all that follow: whether the columns may overwrite some of the row.
        budget: what the run may spend in all; None for any amount.
        meta: whether the row also gets a column ``_meta``.
        keep_calls: whether calls are kept in the folder of the run, or how many megabytes of them.
        name: the operator's identity in the run state; None: the class's name.

    Raises:
        ConfigError: on a wrong value.

    Attributes:
        endpoints: where calls go.
        model: the model, or those of the pool.
        limits: what all endpoints allow together within any minute.
        budget: what the run may spend.
        has_jobs: whether its calls are rows of jobs at a batch API.
        price_share: what its calls cost, as a share of the plain price, at the dearest endpoint.
        rows_per_request: how many rows share a request.
    """

    rows_per_request: int = 1

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        settings: StackSettings,
        *,
        columns: Sequence[str],
        params: Mapping[str, Any],
        overwrite_columns: bool,
        budget: Budget | Mapping[str, float] | None,
        meta: bool,
        keep_calls: bool | int,
        name: str | None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.model = identity_of(self.endpoints)
        self.limits = limits_of(self.endpoints)
        self.budget = budget_of(self.endpoints, budget, params)
        if name:
            self.name = name
        self._columns = tuple(columns)
        self._overwrites = check_flag("overwrite_columns", overwrite_columns)
        self._has_meta = check_flag("meta", meta)
        self._settings = settings
        self.has_jobs, self.price_share = False, 1.0
        if settings.batch_api is not None:
            from llm_datagen.llm.batch.stack import price_share

            self.has_jobs, self.price_share = True, price_share(settings.batch_api, self.endpoints)
            self.calls_at_once = ROWS_IN_FLIGHT
        self._call_log = CallLog(checked_keep_calls(keep_calls))
        self._transport: Transport | None = None
        self._cache: CacheLayer | None = None
        self._jobs: JobsLayer | None = None
        self._together: Together | None = None

    def __repr__(self) -> str:
        labels, columns = ", ".join(each.address.label for each in self.endpoints), ", ".join(self._columns)
        return f"{type(self).__name__}(model={self.model!r}, endpoint={labels!r}, columns={columns!r})"

    def kept_files(self) -> dict[str, str]:
        """Return the file of the cache, and the cassette that the environment names, if it does."""
        files = {"cache": self._settings.cache, "cassette": os.environ.get(CASSETTE_VARIABLE)}
        return {what: str(path) for what, path in files.items() if path}

    async def setup(self) -> None:
        """Open the layers of a call. Called on the event loop of the node.

        Raises:
            LLMError: when another node is using this instance.
            ConfigError: when the environment variable of `api_key_env` is not set.
            CacheError: when the file of `cache` cannot be used.
        """
        if self._transport is not None:
            raise LLMError(f"{self!r} is in use by another node: give each node an instance of its own")
        self._transport, self._cache, self._together, self._jobs = build_stack(
            self.endpoints, self._settings, self.budget
        )
        try:
            await self._transport.open()
        except BaseException:
            self._transport = None
            raise

    async def teardown(self) -> None:
        """Close the layers of a call, with their connections and files."""
        transport, self._transport = self._transport, None
        await self._call_log.close()
        if transport is not None:
            await transport.close()

    async def cancel_jobs(self, files: Path, node_id: str, tell: Callable[[str], None]) -> int:
        """Have the jobs of a node cancelled, of a run that nobody runs now; return how many were.

        Args:
            files: where the operators of the run keep their files.
            node_id: the node.
            tell: is told of jobs that were not cancelled, and why.

        Raises:
            BatchError: when their job log cannot be used.
            LLMRequestError: when a provider does not answer, or refuses.
        """
        from llm_datagen.llm.batch.cancelling import cancel_jobs

        late_s = (self._settings.batch_api or Batch()).late_s
        return len(
            await cancel_jobs(self.endpoints, files, node_id, timeout=self._settings.timeout, late_s=late_s, tell=tell)
        )

    async def settle_jobs(
        self,
        files: Path,
        node_id: str,
        *,
        pipeline_id: str,
        results_dir: str,
        seconds: float,
        log: Callable[..., None],
        stopped: Callable[[], bool],
    ) -> None:
        """Cancel open jobs, and wait for their end, to count what they have answered. See `ISettlesJobs`.

        Raises:
            BatchError: when their job log cannot be used, or has jobs at another endpoint.
            LLMError: when a provider refuses, or does not answer for too long.
        """
        from llm_datagen.llm.batch.node_jobs import NodeJobs
        from llm_datagen.llm.batch.settling import SettlingContext, settle_jobs

        node = NodeJobs(self._settings.batch_api or Batch())
        transports = job_transports(self.endpoints, self._settings, self.budget, node)
        ctx = SettlingContext(files, node_id, pipeline_id=pipeline_id, results_dir=results_dir, log=log)
        await settle_jobs(node, transports, ctx, seconds=seconds, stopped=stopped)

    def _new_row(self, item: Any, ctx: INodeContext) -> NewRow:
        """Return the row that is to get the columns.

        Raises:
            ColumnExistsError: when it has one of them already.
            PromptError: when it has a `_meta` of its own.
        """
        return NewRow(item, self._columns, ctx.node_id, overwrites=self._overwrites, has_meta=self._has_meta)

    async def _answer(self, request: ChatRequest) -> ChatAnswer:
        """Make a call whose answer needs no repair, and write it down.

        Raises:
            LLMError: when there is no answer.
        """
        answer: ChatAnswer | None = None
        error: LLMRequestError | None = None
        try:
            answer = await self._opened().complete(request)
        except LLMRequestError as refused:
            error = refused
            raise
        finally:
            if answer is not None or error is not None:
                await self._call_log.note(request, [] if answer is None else [(request, answer)], error)
        if answer.is_cached:  # what was paid for is reported where it is paid
            report_cached(request, answer)
        return answer

    def _opened(self) -> Transport:
        """Return the layers of a call.

        Raises:
            LLMError: when they are not open.
        """
        if self._transport is None:
            raise LLMError(f"{self!r} was called before setup(): run it in a node")
        return self._transport
