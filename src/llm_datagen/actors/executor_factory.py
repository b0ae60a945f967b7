"""The workers of a node, as its plan says: where calls are made, and how results leave."""

from __future__ import annotations

from typing import Any

import pykka

from llm_datagen.actors.delivery import Delivery, OrderedDelivery
from llm_datagen.actors.node_context import NodeContext
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.stage import Recipient
from llm_datagen.executors.allowance import ErrorAllowance
from llm_datagen.executors.base import Executor
from llm_datagen.executors.event_loop import EventLoopExecutor
from llm_datagen.executors.kernel import Kernel
from llm_datagen.executors.threads import ThreadExecutor


def make_delivery(plan: OpenedNode, writer: pykka.ActorRef[Any], node: Recipient, ctx: NodeContext) -> Delivery:
    """Return how results get to the writer, and the word of it to the node."""
    sync = not plan.writer.async_mode
    if plan.ordered:
        return OrderedDelivery(writer, node, sync=sync, segments=plan.segments, on_lost=ctx.cancel)
    return Delivery(writer, node, sync=sync, on_lost=ctx.cancel)


def make_kernel(plan: OpenedNode, ctx: NodeContext, allowance: ErrorAllowance) -> Kernel:
    """Return how the node's rows are processed."""
    assert plan.sink is not None
    return Kernel(
        plan.call,
        source=plan.source,
        encoder=plan.sink.encoder,
        ctx=ctx,
        batch_size=plan.batch_size,
        batch_by=plan.batch_by,
        id_scheme=plan.id_scheme,
        root=plan.root,
        policy=plan.policy,
        allowance=allowance,
        spill_folder=plan.sink.stream.spill_folder,
    )


def make_executor(plan: OpenedNode, kernel: Kernel, delivery: Delivery) -> Executor:
    """Return the executor for the node's operator; not yet started."""
    if plan.packed is not None:
        from llm_datagen.executors.process.executor import ProcessExecutor

        return ProcessExecutor(
            plan.node_id,
            plan.packed,
            kernel,
            delivery,
            plan.concurrency,
            policy=plan.policy,
            may_repeat=plan.dispatched is None,
        )
    make = EventLoopExecutor if plan.call.is_async else ThreadExecutor
    return make(plan.node_id, plan.operator, kernel, delivery, plan.concurrency)
