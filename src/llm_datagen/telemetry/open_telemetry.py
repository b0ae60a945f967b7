"""Hooks that tell OpenTelemetry of a run: a span for the run, each node and each call to a model; and metrics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

from opentelemetry import metrics, trace

from llm_datagen.config import check_flag
from llm_datagen.config.checks import is_number
from llm_datagen.errors import ConfigError
from llm_datagen.runs.hooks import DefaultPipelineHooks
from llm_datagen.runs.model_calls import ModelCall, listen, stop_listening
from llm_datagen.runs.usage import UsageSums
from llm_datagen.telemetry.attributes import NODE_STATUS, ROWS_FAILED, ROWS_IN, ROWS_OUT
from llm_datagen.telemetry.call_spans import CallSpan, CallTracer
from llm_datagen.telemetry.instruments import Instruments
from llm_datagen.telemetry.providers import CLOSE_SECONDS, Providers
from llm_datagen.telemetry.run_spans import RunSpans, parent_context

SCOPE = "llm_datagen"
"""The instrumentation scope of all spans and metrics."""

CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_WITH_CONTENT = frozenset({"true", "span_only", "span_and_event"})
_FAILED = {"filtered": "filtered", "skipped": "skipped", "dead_letters": "dead_letter"}


class OpenTelemetry(DefaultPipelineHooks):
    """Hooks that tell OpenTelemetry of runs: ``UnifiedPipeline(…, hooks=OpenTelemetry())``.

    Spans and metrics go to the providers that the program has set up; without any, to where the environment says
    (``OTEL_EXPORTER_OTLP_ENDPOINT`` and so on), over HTTP. The span of a run is a child of the span of the thread that
    starts it, or of the one that the environment variable ``TRACEPARENT`` names. One object may watch several runs that
    have different ids. Also a context manager, which closes it.

    Calls of operators in worker processes and in other shards get no span, and are in no ``gen_ai.client`` metric;
    rows, tokens and cost are counted of all.

    Args:
        tracer_provider: makes tracers, in place of the one that the program has set up.
        meter_provider: makes meters, in the same way.
        calls: the share of calls that get a span, from 0 to 1: all tries for a row, or none; a run of a million calls
            is a trace that few systems can show. Metrics count all calls.
        content: whether spans hold the messages, the answers, and what errors say, which may quote rows. None: as the
            environment variable ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says; unless it does, not.

    Raises:
        ConfigError: on a wrong value; when the environment names an exporter that is not installed.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        calls: float = 1.0,
        content: bool | None = None,
    ) -> None:
        if not is_number(calls) or not 0 <= calls <= 1:
            raise ConfigError(f"calls must be a share from 0 to 1, not {calls!r}")
        if content is None:
            content = os.environ.get(CONTENT_VARIABLE, "").strip().lower() in _WITH_CONTENT
        self._content = check_flag("content", content)
        self._providers = Providers(tracer_provider, meter_provider)
        release = version("llm-datagen")
        self._tracer = self._providers.tracer_provider.get_tracer(SCOPE, release)
        self._instruments = Instruments(self._providers.meter_provider.get_meter(SCOPE, release))
        self._calls = CallTracer(self._tracer, self._instruments, share=calls, content=self._content)
        self._runs: dict[str, RunSpans] = {}
        self._counts: dict[tuple[str, str], dict[str, int]] = {}
        self._told: dict[tuple[str, str], str] = {}  # the status of each node
        self._used: dict[tuple[str, str], UsageSums] = {}  # what is not counted yet

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Send what is still to be sent, and end the providers that were made here. The end of the process does so.

        Args:
            timeout: seconds that it may take. What has not been sent then, is lost.

        Returns:
            Whether all was done in time.
        """
        return self._providers.close(timeout)

    def call(self, call: ModelCall) -> CallSpan:
        """Return what is entered while a call is made; see `CallListener`."""
        return CallSpan(self._calls, call, lambda: self._run(call.pipeline_id).node(call.node_id))

    # Hooks.

    def prepare_run(self, cid: str, results_dir: str, run_state: Mapping[str, Any]) -> None:
        """Begin the span of the run, and note what earlier runs have counted. On the thread that starts it."""
        nodes = run_state.get("nodes", ())
        self._counts.update({(cid, node["node_id"]): _counts(node["rows_in"], node) for node in nodes})
        operators = {node["node_id"]: str(node["operator"]) for node in nodes}
        self._runs[cid] = RunSpans(self._tracer, cid, parent_context(), operators, tells_errors=self._content)
        listen(cid, self)

    def on_pipeline_start(self, cid: str, config: Mapping[str, Any]) -> None:
        """Begin the span of the run, if nobody has prepared it."""
        if cid not in self._runs:
            self.prepare_run(cid, "", {})

    def on_node_start(self, cid: str, nid: str, config: Mapping[str, Any]) -> None:
        """Begin the span of the node."""
        self._run(cid).node(nid)

    def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Mapping[str, Any]) -> None:
        """Count the rows since the last time."""
        before, now = self._counts.get((cid, nid), {}), _counts(curr, meta)
        self._counts[cid, nid] = now
        grown = {name: count - before.get(name, 0) for name, count in now.items()}
        outcomes = {name: grown[name] for name in ("kept", *_FAILED.values())}
        self._instruments.add_rows(cid, nid, outcomes, grown[ROWS_OUT])
        self._told[cid, nid] = str(meta.get("status", ""))
        self._count_usage(cid, nid)

    def on_usage(self, cid: str, nid: str, provider: str, model: str, metrics: Mapping[str, float]) -> None:
        """Note what was used; it is counted when rows are: a count for each call would cost more than the rest."""
        self._used.setdefault((cid, nid), UsageSums()).add(provider, model, metrics)

    def on_stall(self, cid: str, nid: str, info: Mapping[str, Any]) -> None:
        """Note it in the span of the node."""
        self._instruments.add_stall(cid, nid)
        told = {"seconds": float(info["seconds"]), "waits_on": str(info["waits_on"]), "in_flight": info["in_flight"]}
        self._run(cid).node(nid).add_event("stalled", told)

    def on_node_end(self, cid: str, nid: str, success: bool, error: BaseException | None) -> None:
        """End the span of the node."""
        self._count_usage(cid, nid)
        counts = self._counts.get((cid, nid), {})
        attributes: dict[str, Any] = {name: counts[name] for name in (ROWS_IN, ROWS_OUT, ROWS_FAILED) if name in counts}
        self._run(cid).end_node(nid, {**attributes, NODE_STATUS: self._told.get((cid, nid), "")}, error)

    def on_pipeline_end(self, cid: str, success: bool, error: BaseException | None) -> None:
        """End the span of the run."""
        stop_listening(cid, self)
        for key in [key for key in self._used if key[0] == cid]:
            self._count_usage(*key)
        self._run(cid).end(is_completed=success, error=error)
        del self._runs[cid]
        for known in (self._counts, self._told):
            for key in [key for key in known if key[0] == cid]:
                del known[key]

    def _run(self, cid: str) -> RunSpans:
        return self._runs[cid]

    def _count_usage(self, cid: str, nid: str) -> None:
        used = self._used.pop((cid, nid), None)
        for entry in used.as_list() if used else ():
            self._instruments.add_usage(cid, nid, entry)


def _counts(rows_in: int, counts: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts of a node, of the entry of a run state or of the `meta` of a hook."""
    failed = {outcome: int(counts.get(name, 0)) for name, outcome in _FAILED.items()}
    return {
        **failed,
        "kept": rows_in - sum(failed.values()),
        ROWS_IN: rows_in,
        ROWS_OUT: int(counts.get("rows_out", 0)),
        ROWS_FAILED: int(counts.get("failed", 0)),
    }
