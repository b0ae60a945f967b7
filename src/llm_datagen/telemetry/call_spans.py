"""The span of a call to a model, and what metrics get of it."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from llm_datagen.runs.model_calls import ModelAnswer, ModelCall
from llm_datagen.telemetry import gen_ai
from llm_datagen.telemetry.attributes import NODE_ID, ROW, RUN_ID
from llm_datagen.telemetry.gen_ai import ERROR_TYPE
from llm_datagen.telemetry.instruments import Instruments


class CallTracer:
    """Makes the spans of calls. Any thread may use it.

    Args:
        tracer: makes them.
        instruments: get the numbers.
        share: of calls that get a span, from 0 to 1. All calls of a row get one, or none does.
        content: whether spans hold messages and answers.
    """

    def __init__(self, tracer: Tracer, instruments: Instruments, *, share: float, content: bool) -> None:
        self._tracer = tracer
        self.instruments = instruments
        self._share = share
        self.content = content

    def start(self, call: ModelCall, attributes: Mapping[str, Any], node: Span) -> Span | None:
        """Begin the span of a call, as a child of that of its node; return None when it gets none.

        Args:
            call: the call.
            attributes: what metrics are told of it.
            node: the span of its node.
        """
        if not self._is_chosen(call):
            return None
        found = {
            **attributes,
            **gen_ai.of_request(call),
            RUN_ID: call.pipeline_id,
            NODE_ID: call.node_id,
            ROW: call.row.removeprefix("row "),  # as people read it elsewhere
        }
        name, context = f"{call.operation} {call.model}", trace.set_span_in_context(node)
        span = self._tracer.start_span(name, context, SpanKind.CLIENT, found)
        if self.content and span.is_recording():
            span.set_attribute("gen_ai.input.messages", gen_ai.input_messages(call.messages))
        return span

    def _is_chosen(self, call: ModelCall) -> bool:
        return (
            self._share >= 1 or zlib.crc32(f"{call.node_id}\0{call.row}".encode(errors="replace")) < self._share * 2**32
        )


class CallSpan:
    """A call that is being made: an `OpenCall`. It never raises: what goes wrong here is no reason to fail a call.

    Args:
        tracer: makes the span.
        call: the call.
        node: tells the span of its node.
    """

    def __init__(self, tracer: CallTracer, call: ModelCall, node: Callable[[], Span]) -> None:
        self._tracer, self._call, self._node = tracer, call, node
        self._span: Span | None = None
        self._token: Token[Context] | None = None
        self._attributes: dict[str, Any] = {}
        self._usage: Mapping[str, int] = {}
        self._started = 0.0

    def __enter__(self) -> CallSpan:
        self._started = time.perf_counter()
        with suppress(Exception):
            self._attributes = gen_ai.of_metrics(self._call)
            self._span = self._tracer.start(self._call, self._attributes, self._node())
            if self._span is not None:  # what HTTP clients that are instrumented do is part of it
                self._token = attach(trace.set_span_in_context(self._span))
        return self

    def answered(self, answer: ModelAnswer) -> None:
        """Note the answer."""
        with suppress(Exception):
            self._usage = answer.usage
            self._attributes["gen_ai.response.model"] = answer.model
            if self._span is not None and self._span.is_recording():
                self._span.set_attributes(gen_ai.of_answer(answer))
                if self._tracer.content:
                    self._span.set_attribute("gen_ai.output.messages", gen_ai.output_messages(answer))

    def failed(self, kind: str, usage: Mapping[str, int]) -> None:
        """Note what it failed of."""
        with suppress(Exception):
            self._usage = usage
            self._attributes[ERROR_TYPE] = kind
            if self._span is not None:
                self._span.set_attributes(gen_ai.of_usage(usage))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._started
        with suppress(Exception):
            if self._token is not None:
                detach(self._token)
            if kind is not None:
                self._attributes.setdefault(ERROR_TYPE, kind.__qualname__)
            self._tracer.instruments.add_call(self._attributes, seconds, self._usage)
        with suppress(Exception):
            if self._span is not None:
                if kind is not None:
                    self._span.set_attribute(ERROR_TYPE, self._attributes[ERROR_TYPE])
                    told = str(error) if self._tracer.content else None
                    self._span.set_status(Status(StatusCode.ERROR, told))
                self._span.end()
