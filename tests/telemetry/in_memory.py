"""The real SDK of OpenTelemetry, whose spans and metrics stay in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from llm_datagen.telemetry import OpenTelemetry


class InMemory:
    """Providers that keep all spans and metrics.

    Args:
        sampler: which spans there are.
    """

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    def hooks(self, **options: Any) -> OpenTelemetry:
        """Return hooks that tell these providers."""
        return OpenTelemetry(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Return the spans that have ended, of one name or all."""
        return [span for span in self._exporter.get_finished_spans() if name in {"", span.name}]

    def span(self, name: str, **attributes: Any) -> ReadableSpan:
        """Return the only span of a name, which has these attributes: ``node_id=`` is that of ours."""
        wanted = {f"llm_datagen.{key.replace('_', '.')}": value for key, value in attributes.items()}
        found = [span for span in self.spans(name) if wanted.items() <= dict(span.attributes or {}).items()]
        assert len(found) == 1, f"{name}: {len(found)}"
        return found[0]

    def metrics(self) -> dict[str, dict[frozenset[tuple[str, Any]], Any]]:
        """Return the points of all metrics, by the name of the metric and its attributes."""
        data = self._reader.get_metrics_data()
        found: dict[str, dict[frozenset[tuple[str, Any]], Any]] = {}
        if data is None:
            return found
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points = found.setdefault(metric.name, {})
                    for point in metric.data.data_points:
                        points[frozenset((point.attributes or {}).items())] = point
        return found

    def everything(self) -> str:
        """Return all that was told, as text."""
        told = [span.to_json() for span in self.spans()]
        data = self._reader.get_metrics_data()
        return "\n".join([*told, data.to_json() if data else ""])


def by(points: dict[frozenset[tuple[str, Any]], Any], *names: str) -> dict[tuple[Any, ...], Any]:
    """Return the values of points by some of their attributes."""
    return {tuple(dict(key).get(name) for name in names): point.value for key, point in points.items()}
