"""llm-datagen: LLM data-generation and data-cleaning pipelines as actors. No row is lost or written twice.

Layers, from what users hold to what it stands on:

* `UnifiedPipeline`, `UnifiedNodePipeline`, `UnifiedNode`: faces
* `llm_datagen.actors`, `llm_datagen.messages`: the engine, for those who steer or extend it
* `llm_datagen.streams`: durable streams, usable by themselves
* `llm_datagen.operators`, `hooks`, `config`, `errors`: what users write, watch, set and catch
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_datagen import actors, logs, messages
    from llm_datagen.config import DataConfig, FailurePolicy, NodeConfig, WriterConfig
    from llm_datagen.errors import (
        ColumnError,
        ConfigError,
        ControlError,
        DatagenError,
        DiskError,
        FailureRecord,
        FatalError,
        IdError,
        ImageError,
        ImageMismatchError,
        InputWarning,
        NodeFailedError,
        OperatorChangedError,
        OperatorWarning,
        PipelineBusyError,
        PipelineExistsError,
        PipelineNotFoundError,
        RemoteError,
        ResumeWarning,
        RowFormatError,
        RowValueError,
        RunEndedError,
        StopRun,
        StreamBusyError,
        StreamChangedError,
        StreamCorruptError,
        StreamError,
        StreamExistsError,
        StreamIdleError,
        StreamMissingError,
        StreamSealedError,
        TooManyErrorsError,
        UnknownMessageError,
        UnknownProtocolError,
        WorkerDiedError,
    )
    from llm_datagen.hooks import CompositePipelineHooks, DefaultPipelineHooks, IPipelineHooks
    from llm_datagen.logfile import LogFile
    from llm_datagen.node import UnifiedNode
    from llm_datagen.node_pipeline import UnifiedNodePipeline
    from llm_datagen.operators import BaseOperator, FunctionOperator, INodeContext, IOperator
    from llm_datagen.pipeline import UnifiedPipeline
    from llm_datagen.report import NodeReport, PipelineStatus, RunReport, Status
    from llm_datagen.routing import Route
    from llm_datagen.streams import CsvStream, FileStream, JsonlStream, MemoryStream, StreamFactory

__all__ = [
    "BaseOperator",
    "ColumnError",
    "CompositePipelineHooks",
    "ConfigError",
    "ControlError",
    "CsvStream",
    "DataConfig",
    "DatagenError",
    "DefaultPipelineHooks",
    "DiskError",
    "FailurePolicy",
    "FailureRecord",
    "FatalError",
    "FileStream",
    "FunctionOperator",
    "INodeContext",
    "IOperator",
    "IPipelineHooks",
    "IdError",
    "ImageError",
    "ImageMismatchError",
    "InputWarning",
    "JsonlStream",
    "LogFile",
    "MemoryStream",
    "NodeConfig",
    "NodeFailedError",
    "NodeReport",
    "OperatorChangedError",
    "OperatorWarning",
    "PipelineBusyError",
    "PipelineExistsError",
    "PipelineNotFoundError",
    "PipelineStatus",
    "RemoteError",
    "ResumeWarning",
    "Route",
    "RowFormatError",
    "RowValueError",
    "RunEndedError",
    "RunReport",
    "Status",
    "StopRun",
    "StreamBusyError",
    "StreamChangedError",
    "StreamCorruptError",
    "StreamError",
    "StreamExistsError",
    "StreamFactory",
    "StreamIdleError",
    "StreamMissingError",
    "StreamSealedError",
    "TooManyErrorsError",
    "UnifiedNode",
    "UnifiedNodePipeline",
    "UnifiedPipeline",
    "UnknownMessageError",
    "UnknownProtocolError",
    "WorkerDiedError",
    "WriterConfig",
    "actors",
    "logs",
    "messages",
]

_HOMES = {
    "config": ("DataConfig", "FailurePolicy", "NodeConfig", "WriterConfig"),
    "errors": (
        "ColumnError",
        "ConfigError",
        "ControlError",
        "DatagenError",
        "DiskError",
        "FailureRecord",
        "FatalError",
        "IdError",
        "ImageError",
        "ImageMismatchError",
        "NodeFailedError",
        "OperatorChangedError",
        "OperatorWarning",
        "PipelineBusyError",
        "PipelineExistsError",
        "PipelineNotFoundError",
        "RemoteError",
        "InputWarning",
        "ResumeWarning",
        "RowFormatError",
        "RowValueError",
        "RunEndedError",
        "StopRun",
        "StreamBusyError",
        "StreamChangedError",
        "StreamCorruptError",
        "StreamError",
        "StreamExistsError",
        "StreamIdleError",
        "StreamMissingError",
        "StreamSealedError",
        "TooManyErrorsError",
        "UnknownMessageError",
        "UnknownProtocolError",
        "WorkerDiedError",
    ),
    "hooks": ("CompositePipelineHooks", "DefaultPipelineHooks", "IPipelineHooks"),
    "logfile": ("LogFile",),
    "node": ("UnifiedNode",),
    "operators": ("BaseOperator", "FunctionOperator", "INodeContext", "IOperator"),
    "node_pipeline": ("UnifiedNodePipeline",),
    "pipeline": ("UnifiedPipeline",),
    "report": ("NodeReport", "PipelineStatus", "RunReport", "Status"),
    "routing": ("Route",),
    "streams": ("CsvStream", "FileStream", "JsonlStream", "MemoryStream", "StreamFactory"),
}
"""Where each name is defined. A module is imported when one of its names is asked for: workers need few of them."""

_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    if name in {"actors", "logs", "messages", *_HOMES}:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
