"""llm-datagen: LLM data-generation and data-cleaning pipelines as actors. No row lost, repeated or paid twice.

Layers, from what users hold to what it stands on:

* `UnifiedPipeline`, `UnifiedNodePipeline`, `UnifiedNode`: faces
* `llm_datagen.actors`, `llm_datagen.messages`: the engine, for those who steer or extend it
* `llm_datagen.streams`: durable streams, usable by themselves
* `llm_datagen.operators`, `hooks`, `config`, `errors`: what users write, watch, set and catch
"""

from llm_datagen import actors, messages
from llm_datagen.config import FailurePolicy, NodeConfig, WriterConfig
from llm_datagen.errors import (
    ColumnError,
    ConfigError,
    DatagenError,
    DiskError,
    FailureRecord,
    IdError,
    ImageError,
    ImageMismatchError,
    NodeFailedError,
    PipelineBusyError,
    PipelineExistsError,
    PipelineNotFoundError,
    RowFormatError,
    StreamBusyError,
    StreamChangedError,
    StreamCorruptError,
    StreamError,
    StreamExistsError,
    StreamIdleError,
    StreamMissingError,
    StreamSealedError,
    TooManyErrorsError,
    UnknownProtocolError,
)
from llm_datagen.hooks import CompositePipelineHooks, DefaultPipelineHooks, IPipelineHooks
from llm_datagen.node import UnifiedNode
from llm_datagen.operators import BaseOperator, FunctionOperator, INodeContext, IOperator
from llm_datagen.pipeline import UnifiedNodePipeline, UnifiedPipeline
from llm_datagen.report import NodeReport, PipelineStatus, RunReport, Status
from llm_datagen.streams import CsvStream, FileStream, JsonlStream, MemoryStream, StreamFactory

__all__ = [
    "BaseOperator",
    "ColumnError",
    "CompositePipelineHooks",
    "ConfigError",
    "CsvStream",
    "DatagenError",
    "DefaultPipelineHooks",
    "DiskError",
    "FailurePolicy",
    "FailureRecord",
    "FileStream",
    "FunctionOperator",
    "INodeContext",
    "IOperator",
    "IPipelineHooks",
    "IdError",
    "ImageError",
    "ImageMismatchError",
    "JsonlStream",
    "MemoryStream",
    "NodeConfig",
    "NodeFailedError",
    "NodeReport",
    "PipelineBusyError",
    "PipelineExistsError",
    "PipelineNotFoundError",
    "PipelineStatus",
    "RowFormatError",
    "RunReport",
    "Status",
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
    "UnknownProtocolError",
    "WriterConfig",
    "actors",
    "messages",
]
