"""The spans of one run: the run's own, and one for each node."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from llm_datagen.telemetry.attributes import NODE_ID, OPERATOR, RUN_COMPLETED, RUN_ID
from llm_datagen.telemetry.gen_ai import ERROR_TYPE

RUN_SPAN = "llm_datagen.run"
NODE_SPAN = "llm_datagen.node"

_FROM_ENVIRONMENT = {"traceparent": "TRACEPARENT", "tracestate": "TRACESTATE"}


def parent_context() -> Context:
    """Return what a run is part of: the span of the thread that starts it, or else that of ``TRACEPARENT``."""
    here = get_current()
    if trace.get_current_span(here).get_span_context().is_valid:
        return here
    carried = {name: os.environ[variable] for name, variable in _FROM_ENVIRONMENT.items() if variable in os.environ}
    return TraceContextTextMapPropagator().extract(carried, here)


class RunSpans:
    """The spans of a run. Any thread may use it: calls may come before the hooks have heard of their node.

    Args:
        tracer: makes them.
        pipeline_id: the run.
        parent: what the run is part of.
        operators: the names of the operators of its nodes, by the ids of these.
        tells_errors: whether spans tell what an error says, which may quote rows; else only its kind.
    """

    def __init__(
        self, tracer: Tracer, pipeline_id: str, parent: Context, operators: Mapping[str, str], *, tells_errors: bool
    ) -> None:
        self._tracer = tracer
        self._pipeline_id = pipeline_id
        self._operators = operators
        self._tells_errors = tells_errors
        self._span = tracer.start_span(RUN_SPAN, parent, SpanKind.INTERNAL, {RUN_ID: pipeline_id})
        self._context = trace.set_span_in_context(self._span, parent)
        self._nodes: dict[str, Span] = {}
        self._changing = threading.Lock()

    def node(self, node_id: str) -> Span:
        """Return the span of a node, which begins now unless it has begun."""
        span = self._nodes.get(node_id)
        if span is not None:
            return span
        with self._changing:
            if node_id not in self._nodes:
                attributes = {RUN_ID: self._pipeline_id, NODE_ID: node_id}
                if operator := self._operators.get(node_id):
                    attributes[OPERATOR] = operator
                self._nodes[node_id] = self._tracer.start_span(NODE_SPAN, self._context, SpanKind.INTERNAL, attributes)
            return self._nodes[node_id]

    def end_node(self, node_id: str, attributes: Mapping[str, Any], error: BaseException | None) -> None:
        """End the span of a node."""
        self._end(self.node(node_id), attributes, error)

    def end(self, *, is_completed: bool, error: BaseException | None) -> None:
        """End all spans that have not ended."""
        for span in list(self._nodes.values()):
            if span.is_recording():
                span.end()
        self._end(self._span, {RUN_COMPLETED: is_completed}, error)

    def _end(self, span: Span, attributes: Mapping[str, Any], error: BaseException | None) -> None:
        span.set_attributes(attributes)
        if error is not None:
            span.set_attribute(ERROR_TYPE, type(error).__qualname__)
            span.set_status(Status(StatusCode.ERROR, str(error) if self._tells_errors else None))
        span.end()
