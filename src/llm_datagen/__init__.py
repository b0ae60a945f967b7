"""llm-datagen: LLM data-generation and data-cleaning pipelines as actors. No row is lost or written twice.

Packages, from what users hold to what it stands on:

* `pipeline`: `UnifiedPipeline`, `UnifiedNodePipeline`, `UnifiedNode`
* `shards`: `ShardedPipeline`, which runs one of these in parts
* `llm`: operators that call models
* `ops`: operators for the work on data itself
* `actors`, `messages`, `executors`: the engine, for those who control or extend it
* `runs`: a run seen from outside: its status, hooks and logs
* `operators`, `streams`, `config`, `errors`: what users write, read, set and catch
* `cli`, `testing`: the command line; fakes and faults for tests
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_datagen.errors.deprecation import MovedModules, deprecated

if TYPE_CHECKING:
    from llm_datagen import actors, messages, ops
    from llm_datagen.config import DataConfig, FailurePolicy, NodeConfig, Target, WriterConfig
    from llm_datagen.errors import (
        ColumnError,
        ConfigError,
        ControlError,
        DatagenError,
        DiskError,
        FailureRecord,
        FatalError,
        IdError,
        InputWarning,
        LeaseLostError,
        NodeFailedError,
        NotRunningError,
        OperatorChangedError,
        OperatorError,
        OperatorMismatchError,
        OperatorWarning,
        PipelineBusyError,
        PipelineExistsError,
        PipelineNotFoundError,
        RemoteError,
        ResumeWarning,
        RowDataError,
        RowFormatError,
        RowValueError,
        RunEndedError,
        RunError,
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
        StreamTakenOverError,
        TooManyErrorsError,
        UnknownMessageError,
        UnknownProtocolError,
        WorkerDiedError,
    )
    from llm_datagen.operators import (
        BaseOperator,
        FunctionOperator,
        INodeContext,
        IOperator,
        IState,
        Operator,
        Result,
        Row,
    )
    from llm_datagen.pipeline.fan_out import Route
    from llm_datagen.pipeline.node import UnifiedNode
    from llm_datagen.pipeline.node_pipeline import UnifiedNodePipeline
    from llm_datagen.pipeline.pipeline import UnifiedPipeline
    from llm_datagen.runs import logs
    from llm_datagen.runs.hooks import CompositePipelineHooks, DefaultPipelineHooks, IPipelineHooks
    from llm_datagen.runs.logs.rotation import LogFile
    from llm_datagen.runs.run_report import RunReport
    from llm_datagen.runs.status import NodeReport, PipelineStatus, Status
    from llm_datagen.shards.export_run import export
    from llm_datagen.shards.pipeline import ShardedPipeline
    from llm_datagen.streams import CsvStream, Cycle, FileStream, Generate, JsonlStream, MemoryStream, StreamFactory
    from llm_datagen.streams.rows import Derived, Rejected

__all__ = [
    "BaseOperator",
    "ColumnError",
    "CompositePipelineHooks",
    "ConfigError",
    "ControlError",
    "CsvStream",
    "Cycle",
    "DataConfig",
    "DatagenError",
    "DefaultPipelineHooks",
    "Derived",
    "DiskError",
    "FailurePolicy",
    "FailureRecord",
    "FatalError",
    "FileStream",
    "FunctionOperator",
    "Generate",
    "INodeContext",
    "IOperator",
    "IPipelineHooks",
    "IState",
    "IdError",
    "InputWarning",
    "JsonlStream",
    "LeaseLostError",
    "LogFile",
    "MemoryStream",
    "NodeConfig",
    "NodeFailedError",
    "NodeReport",
    "NotRunningError",
    "Operator",
    "OperatorChangedError",
    "OperatorError",
    "OperatorMismatchError",
    "OperatorWarning",
    "PipelineBusyError",
    "PipelineExistsError",
    "PipelineNotFoundError",
    "PipelineStatus",
    "Rejected",
    "RemoteError",
    "Result",
    "ResumeWarning",
    "Route",
    "Row",
    "RowDataError",
    "RowFormatError",
    "RowValueError",
    "RunEndedError",
    "RunError",
    "RunReport",
    "RunStateError",
    "ShardedPipeline",
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
    "StreamTakenOverError",
    "Target",
    "TooManyErrorsError",
    "UnifiedNode",
    "UnifiedNodePipeline",
    "UnifiedPipeline",
    "UnknownMessageError",
    "UnknownProtocolError",
    "WorkerDiedError",
    "WriterConfig",
    "actors",
    "export",
    "logs",
    "messages",
    "ops",
]

_HOMES = {
    "config": "DataConfig FailurePolicy NodeConfig Target WriterConfig",
    "operators": "BaseOperator FunctionOperator INodeContext IOperator IState Operator Result Row",
    "pipeline.fan_out": "Route",
    "pipeline.node": "UnifiedNode",
    "pipeline.node_pipeline": "UnifiedNodePipeline",
    "pipeline.pipeline": "UnifiedPipeline",
    "runs.hooks": "CompositePipelineHooks DefaultPipelineHooks IPipelineHooks",
    "runs.logs.rotation": "LogFile",
    "runs.run_report": "RunReport",
    "runs.status": "NodeReport PipelineStatus Status",
    "shards.pipeline": "ShardedPipeline",
    "shards.export_run": "export",
    "streams": "CsvStream Cycle FileStream Generate JsonlStream MemoryStream StreamFactory",
    "streams.rows": "Derived Rejected",
}
"""Where each name is defined; the others are errors. A module is imported when one of its names is asked for."""

_PACKAGES = {"actors", "config", "errors", "messages", "operators", "ops", "pipeline", "runs", "streams"}

_MODULE_OF = dict.fromkeys({*__all__} - {*_PACKAGES, "logs"}, "errors")
_MODULE_OF |= {name: module for module, names in _HOMES.items() for name in names.split()}

_RENAMED = {"ImageError": "RunStateError", "ImageMismatchError": "OperatorMismatchError"}
_MOVED = {
    "audit": "runs.verify",
    "hooks": "runs.hooks",
    "log": "runs.logs.writer",
    "logs": "runs.logs",
    "report": "runs.run_report",
    "routing": "pipeline.fan_out",
}
"""What the documentation of 0.1 named, and the names of today. The old ones go with the next release."""

sys.meta_path.append(MovedModules({f"{__name__}.{old}": f"{__name__}.{new}" for old, new in _MOVED.items()}))


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    if name == "logs":
        return import_module(f"{__name__}.runs.logs")
    if name in _PACKAGES or name in _MOVED:
        return import_module(f"{__name__}.{name}")
    if name in _RENAMED:
        deprecated(f"{__name__}.{name} is {_RENAMED[name]} now")
        return __getattr__(_RENAMED[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
