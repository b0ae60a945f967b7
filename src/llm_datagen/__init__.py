"""llm-datagen: LLM data-generation and data-cleaning pipelines as actors. No row is lost or written twice.

Layers, from what users hold to what it stands on:

* `UnifiedPipeline`, `UnifiedNodePipeline`, `UnifiedNode`: faces
* `llm_datagen.actors`, `llm_datagen.messages`: the engine, for those who steer or extend it
* `llm_datagen.streams`: durable streams, usable by themselves
* `llm_datagen.operators`, `hooks`, `config`, `errors`: what users write, watch, set and catch
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_datagen import actors, messages
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
        OperatorMismatchError,
        OperatorWarning,
        PipelineBusyError,
        PipelineExistsError,
        PipelineNotFoundError,
        RemoteError,
        ResumeWarning,
        RowFormatError,
        RowValueError,
        RunEndedError,
        RunStateError,
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
    from llm_datagen.operators import BaseOperator, FunctionOperator, INodeContext, IOperator
    from llm_datagen.pipeline.fan_out import Route
    from llm_datagen.pipeline.node import UnifiedNode
    from llm_datagen.pipeline.node_pipeline import UnifiedNodePipeline
    from llm_datagen.pipeline.pipeline import UnifiedPipeline
    from llm_datagen.runs import logs
    from llm_datagen.runs.hooks import CompositePipelineHooks, DefaultPipelineHooks, IPipelineHooks
    from llm_datagen.runs.logs.rotation import LogFile
    from llm_datagen.runs.status import NodeReport, PipelineStatus, RunReport, Status
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
    "OperatorMismatchError",
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
    "RunStateError",
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
        "RunStateError",
        "OperatorMismatchError",
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
    "runs.hooks": ("CompositePipelineHooks", "DefaultPipelineHooks", "IPipelineHooks"),
    "runs.logs.rotation": ("LogFile",),
    "pipeline.node": ("UnifiedNode",),
    "operators": ("BaseOperator", "FunctionOperator", "INodeContext", "IOperator"),
    "pipeline.node_pipeline": ("UnifiedNodePipeline",),
    "pipeline.pipeline": ("UnifiedPipeline",),
    "runs.status": ("NodeReport", "PipelineStatus", "RunReport", "Status"),
    "pipeline.fan_out": ("Route",),
    "streams": ("CsvStream", "FileStream", "JsonlStream", "MemoryStream", "StreamFactory"),
}
"""Where each name is defined. A module is imported when one of its names is asked for: workers need few of them."""

_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    if name == "logs":
        return import_module(f"{__name__}.runs.logs")
    if name in {"actors", "messages", *_HOMES} or f"{__name__}.{name}" in _MOVED:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_MOVED = {
    "llm_datagen.audit": "llm_datagen.runs.verify",
    "llm_datagen.hooks": "llm_datagen.runs.hooks",
    "llm_datagen.log": "llm_datagen.runs.logs.writer",
    "llm_datagen.logs": "llm_datagen.runs.logs",
    "llm_datagen.report": "llm_datagen.runs.status",
    "llm_datagen.routing": "llm_datagen.pipeline.fan_out",
}
"""Modules that the documentation of 0.1 named, and where they are now. The old names go with the next release."""


class _MovedModules(MetaPathFinder, Loader):
    """Lets programs import `_MOVED` by their old names, with a warning."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in _MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        moved = import_module(_MOVED[module.__name__])
        module.__dict__.update({name: value for name, value in vars(moved).items() if not name.startswith("__")})
        warnings.warn(
            f"{module.__name__} is {moved.__name__} now; the old name goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )


sys.meta_path.append(_MovedModules())
