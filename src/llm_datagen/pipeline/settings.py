"""The settings of a line of operators, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Any

from llm_datagen.config import (
    DataConfig,
    DeliveryMode,
    ExecutorKind,
    FailurePolicy,
    InputIds,
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
from llm_datagen.operators import as_operator, operator_name
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD, TEXT_PREFIX, check_id_prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a UnifiedPipeline, checked. `UnifiedPipeline` describes them."""

    operators: Sequence[Any] | None
    input_uri: str | None
    output_uri: str | None
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
    data_config: DataConfig

    def __post_init__(self) -> None:
        if self.operators is not None:
            if isinstance(self.operators, str) or not isinstance(self.operators, Sequence) or not self.operators:
                raise ConfigError(f"operators must be a list of at least one operator, not {self.operators!r}")
            object.__setattr__(self, "operators", tuple(as_operator(operator) for operator in self.operators))
        for uri in (self.input_uri, self.output_uri):
            if uri is not None:
                StreamFactory.source(uri)
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
        if "data_config" in changed:
            changed["data_config"] = DataConfig.of(changed["data_config"])
        if "base_path" in changed:
            changed["base_path"] = str(changed["base_path"])
        return replace(self, **changed)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain data, the operators by their names."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        settings["operators"] = [operator_name(operator) for operator in self.operators or ()]
        settings["writer_config"] = self.writer_config.as_dict()
        settings["data_config"] = self.data_config.as_dict()
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
