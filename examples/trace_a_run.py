"""The spans and metrics of a run, by OpenTelemetry's SDK; they stay in memory: no collector is needed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.telemetry import OpenTelemetry
from llm_datagen.testing import FakeLLMServer


def main() -> None:
    spans, metrics = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([metrics])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    hooks = OpenTelemetry(tracer_provider=tracers, meter_provider=meters)

    with tempfile.TemporaryDirectory() as name, FakeLLMServer(answer="oui") as server:
        folder = Path(name)
        (folder / "in.jsonl").write_text('{"text": "yes"}\n{"text": "of course"}\n')
        translate = LLMOperator("French for: {{ text }}", model="tiny", base_url=server.base_url, output="french")
        files = str(folder / "in.jsonl"), str(folder / "out.jsonl")
        pipeline = UnifiedPipeline([translate], *files, results_dir=folder / "runs", log_file=None, hooks=hooks)
        with tracers.get_tracer("my service").start_as_current_span("nightly job"):
            pipeline.create("translate").run()

    names = {span.context.span_id: span.name for span in spans.get_finished_spans() if span.context}
    for span in spans.get_finished_spans():
        print(f"{span.name}, in {names[span.parent.span_id] if span.parent else 'nothing'}")
    data = metrics.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        print(f"{metric.name} ({metric.unit}): {len(metric.data.data_points)} points")
    assert [span.name for span in spans.get_finished_spans()] == [
        "chat tiny",
        "chat tiny",
        "llm_datagen.node",
        "llm_datagen.run",
        "nightly job",
    ]


if __name__ == "__main__":
    main()
