"""Blueprints: from settings to the image of a run, and back to nodes. Plain data; nothing is opened or started."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from llm_datagen.config import (
    DeliveryMode,
    ExecutorKind,
    FailurePolicy,
    InputIds,
    NodeConfig,
    OnError,
    PipelineIdScheme,
    WriterConfig,
    check_choice,
    check_count,
    check_flag,
    check_rate,
    check_seconds,
    check_text,
)
from llm_datagen.errors import ConfigError
from llm_datagen.exporting import codec_of, with_export
from llm_datagen.ids import DATA_FIELD, ID_FIELD, TEXT_PREFIX, check_id_prefix, root_names
from llm_datagen.log import DEFAULT_LOG
from llm_datagen.node import UnifiedNode
from llm_datagen.operators import as_operator, operator_name
from llm_datagen.report import NodeReport, Status
from llm_datagen.runtime.folder import FORMAT, check_pipeline_id, now_text
from llm_datagen.streams import MergedStream, StreamFactory

UNKNOWN_ID = "PIPELINE_ID"
"""What stands for the id of a run that was not created yet, where a topology is drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a UnifiedPipeline, checked. `UnifiedPipeline` describes them."""

    operators: Sequence[Any]
    input_uri: str
    output_uri: str
    streaming: bool
    parallel_size: int
    batch_size: int
    writer_config: WriterConfig
    base_path: str
    protocol_prefix: str
    default_protocol: str
    id_scheme: PipelineIdScheme
    id_prefix: str | None
    input_ids: InputIds
    keep_ids: bool
    id_column: str | None
    ordered: bool
    on_error: OnError
    max_errors: int | float | None
    retries: int
    retry_wait: float
    delivery: DeliveryMode
    grace: float
    stall_after: float
    rate: float | None
    executor: ExecutorKind
    follow_input: bool
    idle_timeout: float | None

    def __post_init__(self) -> None:
        if isinstance(self.operators, str) or not isinstance(self.operators, Sequence) or not self.operators:
            raise ConfigError(f"operators must be a list of at least one operator, not {self.operators!r}")
        object.__setattr__(self, "operators", tuple(as_operator(operator) for operator in self.operators))
        StreamFactory.create(self.input_uri)
        StreamFactory.create(self.output_uri)
        check_flag("streaming", self.streaming)
        check_count("parallel_size", self.parallel_size)
        check_count("batch_size", self.batch_size)
        check_choice("id_scheme", self.id_scheme, PipelineIdScheme)
        if self.id_prefix is not None and self.id_scheme != "text":
            raise ConfigError(f'id_prefix={self.id_prefix!r} needs id_scheme="text", not {self.id_scheme!r}')
        check_id_prefix(self.prefix)
        check_choice("input_ids", self.input_ids, InputIds)
        self._check_ids_kept()
        check_flag("ordered", self.ordered)
        FailurePolicy(
            on_error=self.on_error, max_errors=self.max_errors, retries=self.retries, retry_wait=self.retry_wait
        )
        check_choice("delivery", self.delivery, DeliveryMode)
        check_seconds("grace", self.grace)
        check_seconds("stall_after", self.stall_after)
        if self.rate is not None:
            check_rate("rate", self.rate)
        check_choice("executor", self.executor, ExecutorKind)
        check_flag("follow_input", self.follow_input)
        if self.idle_timeout is not None:
            check_seconds("idle_timeout", self.idle_timeout)
        if not isinstance(self.default_protocol, str) or not self.default_protocol.endswith("://"):
            raise ConfigError(f"default_protocol must be such as 'jsonl://', not {self.default_protocol!r}")
        _extension(self.default_protocol)
        if not isinstance(self.protocol_prefix, str):
            raise ConfigError(f"protocol_prefix must be text, not {self.protocol_prefix!r}")

    def _check_ids_kept(self) -> None:
        check_flag("keep_ids", self.keep_ids)
        if self.id_column is None:
            return
        if check_text("id_column", self.id_column) in (ID_FIELD, DATA_FIELD):
            raise ConfigError(f"id_column cannot be {self.id_column!r}, which the engine uses itself; choose another")
        if not self.keep_ids:
            raise ConfigError(f"id_column={self.id_column!r} says where ids stand, and keep_ids=False that none do")

    def overridden(self, overrides: Mapping[str, Any]) -> Settings:
        """Return a copy with other values.

        Raises:
            ConfigError: when a name is not one of a setting, or a value is wrong.
        """
        known = [field.name for field in fields(self)]
        for name in overrides:
            if name not in known:
                raise ConfigError(f"create() has no setting {name!r}; the settings are {', '.join(known)}")
        changed = dict(overrides)
        if "writer_config" in changed:
            changed["writer_config"] = WriterConfig.of(changed["writer_config"])
        if "base_path" in changed:
            changed["base_path"] = str(changed["base_path"])
        return replace(self, **changed)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain data, the operators by their names."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        settings["operators"] = [operator_name(operator) for operator in self.operators]
        settings["writer_config"] = self.writer_config.as_dict()
        return settings

    @property
    def prefix(self) -> str:
        """What ids of root rows begin with under the scheme "text"."""
        return TEXT_PREFIX if self.id_prefix is None else self.id_prefix

    def stream_between(self, pipeline_id: str, number: int) -> str:
        """Return the URI of the stream that node `number` writes for the next one."""
        name = f"node_{number}.{_extension(self.default_protocol)}"
        return self.default_protocol + str(PurePosixPath(self.base_path, self.protocol_prefix, pipeline_id, name))


def _extension(protocol: str) -> str:
    stream_class = StreamFactory.stream_class(f"{protocol}x")
    name = protocol.removesuffix("://")
    extension = getattr(stream_class, "extension", name)
    if extension == "file":
        raise ConfigError("default_protocol must name a format, such as 'jsonl://' or 'csv://', not 'file://'")
    return str(extension)


def new_pipeline_id() -> str:
    """Return an id that nobody has: the time, and some letters."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def image_of_line(
    settings: Settings, node_configs: Sequence[NodeConfig | Mapping[str, Any] | None], pipeline_id: str
) -> dict[str, Any]:
    """Return the image of a line of nodes.

    Raises:
        ConfigError: on a wrong value, or when adjacent nodes' URIs disagree.
    """
    check_pipeline_id(pipeline_id)
    count = len(settings.operators)
    if len(node_configs) > count:
        raise ConfigError(f"node_configs has {len(node_configs)} entries for {count} operators")
    configs = [NodeConfig.of(_with_writer_defaults(config, settings.writer_config)) for config in node_configs]
    configs += [NodeConfig()] * (count - len(configs))
    defaults = NodeConfig(
        batch_size=settings.batch_size,
        parallel_size=settings.parallel_size,
        writer_config=settings.writer_config,
        ordered=settings.ordered,
        on_error=settings.on_error,
        max_errors=settings.max_errors,
        retries=settings.retries,
        retry_wait=settings.retry_wait,
        delivery=settings.delivery,
        grace=settings.grace,
        stall_after=settings.stall_after,
        rate=settings.rate,
        executor=settings.executor,
    )
    uris = _uris(settings, configs, pipeline_id)
    nodes = []
    for number, (config, operator) in enumerate(zip(configs, settings.operators, strict=True)):
        # The idle_timeout of a pipeline is about its input: other nodes wait for nodes, which may take their time.
        filled = config.filled_from(defaults if number else replace(defaults, idle_timeout=settings.idle_timeout))
        assert filled.writer_config is not None
        nodes.append(
            {
                "node_id": f"node_{number}",
                "operator": operator_name(operator),
                "input_uri": uris[number],
                "output_uri": uris[number + 1],
                "parallel_size": filled.parallel_size,
                "batch_size": filled.batch_size,
                "writer_config": filled.writer_config.as_dict(),
                "ordered": filled.ordered,
                "on_error": filled.on_error,
                "max_errors": filled.max_errors,
                "retries": filled.retries,
                "retry_wait": filled.retry_wait,
                "delivery": filled.delivery,
                "grace": filled.grace,
                "stall_after": filled.stall_after,
                "rate": filled.rate,
                "executor": filled.executor,
                "idle_timeout": filled.idle_timeout,
                "id_scheme": "path" if settings.id_scheme == "text" else settings.id_scheme,
                "id_prefix": settings.prefix if settings.id_scheme == "text" else "",
                "input_ids": settings.input_ids,
                "follow_input": settings.follow_input if number == 0 else True,
                "is_root": number == 0,
            }
        )
    if not settings.keep_ids or settings.id_column is not None:
        nodes = with_export(nodes, settings.id_column)
    return _image(pipeline_id, settings.as_dict(), nodes)


def _with_writer_defaults(config: Any, defaults: WriterConfig) -> Any:
    """Let a node's `writer_config` that is a dict change only what it names."""
    writer = config.get("writer_config") if isinstance(config, Mapping) else None
    if not isinstance(writer, Mapping):
        return config
    return {**config, "writer_config": {**defaults.as_dict(), **writer}}


def _uris(settings: Settings, configs: list[NodeConfig], pipeline_id: str) -> list[str]:
    """Return the URIs of all streams in order: the input, those between, the output."""
    uris = [configs[0].input_uri or settings.input_uri]
    for number in range(len(configs) - 1):
        written, read = configs[number].output_uri, configs[number + 1].input_uri
        if written and read and written != read:
            raise ConfigError(
                f"node_{number} writes {written!r}, but node_{number + 1} reads {read!r}; give both the same URI, or "
                "only one of them"
            )
        uris.append(written or read or settings.stream_between(pipeline_id, number))
    uris.append(configs[-1].output_uri or settings.output_uri)
    for uri in uris:
        if isinstance(StreamFactory.create(uri), MergedStream):
            raise ConfigError(
                f"{uri!r} is not a stream of a UnifiedPipeline: its nodes have one input each; wire nodes with several "
                "by bind_io(), for a UnifiedNodePipeline"
            )
    return uris


def image_of_nodes(nodes: Sequence[UnifiedNode], pipeline_id: str, *, streaming: bool) -> dict[str, Any]:
    """Return the image of nodes that were wired by hand."""
    entries = [
        {
            "node_id": node.node_id,
            **node.config(),
            "id_scheme": node.id_scheme,
            "follow_input": node.follow_input,
            "is_root": node.root is not None,
        }
        for node in nodes
    ]
    return _image(pipeline_id, {"streaming": streaming}, entries)


def _image(pipeline_id: str, config: dict[str, Any], nodes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "pipeline_id": pipeline_id,
        "status": str(Status.PENDING),
        "reason": "",
        "paused": False,
        "error": None,
        "failed_row": None,
        "usage": [],
        "cost": None,
        "pid": None,
        "host": None,
        "created_at": now_text(),
        "started_at": None,
        "ended_at": None,
        "updated_at": None,
        "config": config,
        "nodes": [{**node, **NodeReport(node_id=node["node_id"]).as_dict()} for node in nodes],
    }


def node_from_image(entry: Mapping[str, Any], operator: Any, *, log_file: str | None = DEFAULT_LOG) -> UnifiedNode:
    """Return the node that an image describes.

    Args:
        entry: the node, as the image has it.
        operator: its operator.
        log_file: the platform log when it runs by itself; None for none.

    Raises:
        ConfigError: when the image holds a value that this version does not know.
    """
    node = UnifiedNode(
        entry["node_id"],
        parallel_size=entry["parallel_size"],
        batch_size=entry["batch_size"],
        writer_config=entry["writer_config"],
        ordered=entry["ordered"],
        on_error=entry["on_error"],
        max_errors=entry["max_errors"],
        retries=entry["retries"],
        retry_wait=entry["retry_wait"],
        delivery=entry["delivery"],
        grace=entry["grace"],
        stall_after=entry["stall_after"],
        rate=entry.get("rate"),
        executor=entry["executor"],
        id_scheme=entry["id_scheme"],
        idle_timeout=entry["idle_timeout"],
        follow_input=entry["follow_input"],
        log_file=log_file,
    )
    node.root = root_names(entry)
    node.bind_io(entry["input_uri"], entry["output_uri"]).set_operator(operator)
    node.output.codec = codec_of(entry, node.output.codec)
    return node
