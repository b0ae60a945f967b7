"""Makes the executor and the delivery of a node: where calls are made, and how results leave."""

from __future__ import annotations

from functools import partial
from typing import Any

import pykka

from llm_datagen.actors.delivery import Delivery, OrderedDelivery
from llm_datagen.actors.node_context import NodeContext
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.stage import Recipient
from llm_datagen.executors.base import Executor
from llm_datagen.executors.error_allowance import ErrorAllowance
from llm_datagen.executors.event_loop import EventLoopExecutor
from llm_datagen.executors.processing import Processing
from llm_datagen.executors.threads import ThreadExecutor


def make_delivery(opened: OpenedNode, writer: pykka.ActorRef[Any], node: Recipient, ctx: NodeContext) -> Delivery:
    """Return how results get to the writer, and reports of them to the node."""
    sync, on_lost = not opened.writer.async_mode, partial(ctx.cancel, keep_jobs=True)
    if opened.ordered:
        return OrderedDelivery(writer, node, sync=sync, segments=opened.segments, on_lost=on_lost)
    return Delivery(writer, node, sync=sync, on_lost=on_lost)


def make_processing(opened: OpenedNode, ctx: NodeContext, allowance: ErrorAllowance) -> Processing:
    """Return how the node's rows are processed."""
    assert opened.sink is not None
    return Processing(
        call=opened.call,
        source=opened.source,
        encoder=opened.sink.encoder,
        ctx=ctx,
        batch_size=opened.batch_size,
        batch_by=opened.batch_by,
        id_scheme=opened.id_scheme,
        root=opened.root,
        policy=opened.policy,
        keep_rejected=opened.keep_rejected,
        allowance=allowance,
        spill_folder=opened.sink.stream.spill_folder,
        state=opened.sink.state,
        end_name=opened.end_name,
    )


def make_executor(opened: OpenedNode, processing: Processing, delivery: Delivery) -> Executor:
    """Return the executor for the node's operator; not yet started."""
    if opened.packed is not None:
        from llm_datagen.executors.process.executor import ProcessExecutor

        return ProcessExecutor(
            opened.node_id,
            opened.packed,
            processing,
            delivery,
            opened.concurrency,
            may_repeat=opened.dispatched is None,
        )
    make = EventLoopExecutor if opened.call.is_async else ThreadExecutor
    return make(opened.node_id, opened.operator, processing, delivery, opened.concurrency)
