"""What monitoring systems get of runs: metrics for Prometheus, and traces and metrics by OpenTelemetry.

Layout:
    prometheus.py         the runs of some folders as text for Prometheus
    prometheus_file.py    the same as a file for the node exporter, once or beside a run
    prometheus_names.py   the name, kind and labels of each of its metrics
    prometheus_samples.py from a run state to samples
    open_telemetry.py     the hooks that make spans and metrics
    run_spans.py          the spans of a run and its nodes
    call_spans.py         the span of a call to a model
    gen_ai.py             the attributes of calls, by the semantic conventions for generative AI
    instruments.py        the metrics of OpenTelemetry
    providers.py          where spans and metrics go: what the program has set up, or what the environment says
    attributes.py         the names of our own attributes

Prometheus needs the extra ``prometheus``, OpenTelemetry the extra ``otel``. Nothing below imports this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import ConfigError

if TYPE_CHECKING:
    from llm_datagen.telemetry.open_telemetry import OpenTelemetry
    from llm_datagen.telemetry.prometheus import metrics_text
    from llm_datagen.telemetry.prometheus_file import PrometheusFile, write_metrics

__all__ = ["OpenTelemetry", "PrometheusFile", "metrics_text", "write_metrics"]

_PLACES = {
    "OpenTelemetry": ("open_telemetry", "otel", "opentelemetry"),
    "PrometheusFile": ("prometheus_file", "prometheus", "prometheus_client"),
    "metrics_text": ("prometheus", "prometheus", "prometheus_client"),
    "write_metrics": ("prometheus_file", "prometheus", "prometheus_client"),
}
"""Where a name is, the extra that it needs, and the package that this installs."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: each needs other packages.

    Raises:
        ConfigError: when they are not installed.
        AttributeError: when there is no such name.
    """
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra, package = _PLACES[name]
    try:
        return getattr(import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith(package):
            raise
        raise ConfigError(
            f"{name} needs the extra {extra!r} ({error.name} is missing): pip install 'llm-datagen[{extra}]'"
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
