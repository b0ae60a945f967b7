"""Where spans and metrics go: to what the program has set up, or else where the environment says (``OTEL_…``)."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk import metrics as sdk_metrics
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from llm_datagen.errors import ConfigError

SERVICE = "llm-datagen"
"""The name of the service, unless the environment gives another one."""

CLOSE_SECONDS = 5.0
"""How long the end waits for what is still to be sent."""

_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


class Providers:
    """What makes spans and metrics.

    Args:
        tracer_provider: makes tracers; None: what the program has set up, or else one that sends where the environment
            says.
        meter_provider: the same for metrics.

    Attributes:
        tracer_provider, meter_provider: the ones that are used.

    Raises:
        ConfigError: when the environment names an exporter that there is not.
    """

    def __init__(
        self, tracer_provider: trace.TracerProvider | None, meter_provider: metrics.MeterProvider | None
    ) -> None:
        self._own: list[Callable[[], object]] = []  # what ends those that were made here
        self._closing = threading.Lock()
        is_embedded = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        if meter_provider is None and (
            is_embedded or isinstance(metrics.get_meter_provider(), sdk_metrics.MeterProvider)
        ):
            meter_provider = metrics.get_meter_provider()
        if tracer_provider is None and is_embedded:
            tracer_provider = trace.get_tracer_provider()
        if tracer_provider is None:
            exporters = _exporters("traces")
            tracer_provider = made = TracerProvider(resource=_resource(), shutdown_on_exit=False)
            for exporter in exporters:
                made.add_span_processor(BatchSpanProcessor(exporter))
            self._own.append(made.shutdown)
        if meter_provider is None:
            meter_provider = of_metrics = sdk_metrics.MeterProvider(
                metric_readers=[_reader(exporter) for exporter in _exporters("metrics")],
                resource=_resource(),
                shutdown_on_exit=False,
            )
            self._own.append(of_metrics.shutdown)
        self.tracer_provider, self.meter_provider = tracer_provider, meter_provider
        if self._own:
            atexit.register(self.close)

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Send what is still to be sent, and end what was made here; what the program has set up, it ends itself.

        May be called more than once. Any thread may call it.

        Args:
            timeout: seconds that it may take. What has not been sent then, is lost.

        Returns:
            Whether all was done in time.
        """
        with self._closing:
            ends, self._own = self._own, []
            if not ends:
                return True
            atexit.unregister(self.close)
            # Daemons: an exporter that hangs must not keep the process from ending.
            threads = [threading.Thread(target=end, name="datagen-telemetry-end", daemon=True) for end in ends]
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + timeout
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            return not any(thread.is_alive() for thread in threads)


def _resource() -> Resource:
    found = Resource.create()
    if str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        return found.merge(Resource({SERVICE_NAME: SERVICE}))
    return found


def _reader(exporter: Any) -> MetricReader:
    return exporter if isinstance(exporter, MetricReader) else PeriodicExportingMetricReader(exporter)


def _exporters(signal: str) -> Sequence[Any]:
    """Return the exporters of "traces" or "metrics" that the environment names; OTLP over HTTP unless it does."""
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    names = [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()] or ["otlp"]
    return [_exporter(signal, variable, name) for name in names if name != "none"]


def _exporter(signal: str, variable: str, name: str) -> Any:
    known = name
    if name == "otlp":
        general = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
        protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or general
        known = _PROTOCOLS.get(protocol.strip(), protocol)
        variable = "OTEL_EXPORTER_OTLP_PROTOCOL"
        name = protocol
    for found in entry_points(group=f"opentelemetry_{signal}_exporter", name=known):
        return found.load()()
    raise ConfigError(
        f"{variable}={name}: no package that is installed has this exporter of {signal}; llm-datagen[otel] has "
        "'otlp' (over http/protobuf) and 'console', and 'none' sends nothing"
    )
