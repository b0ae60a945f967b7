"""What a pipeline in YAML may say: the arguments of `UnifiedPipeline`, an id, and a list of operators.

The models name every key once; a test sees to it that they are those of the constructor, `NodeConfig` and
`WriterConfig`. What a key means is described there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from llm_datagen.cli.yaml_errors import describe
from llm_datagen.config import (
    BatchBy,
    DeliveryMode,
    ExecutorKind,
    Fsync,
    InputIds,
    Nan,
    OnError,
    PipelineIdScheme,
    check_max_errors,
)
from llm_datagen.errors import ConfigError
from llm_datagen.operators.references import OperatorRef
from llm_datagen.runs.logs.rotation import LogFile


def _max_errors(value: Any) -> Any:
    try:
        return check_max_errors("max_errors", value)
    except ConfigError:
        expected = "a number of rows (such as 100), or a share of the rows (such as 0.01)"
        raise PydanticCustomError("max_errors", expected) from None


Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
MaxErrors = Annotated[int | float | None, PlainValidator(_max_errors)]


class _Part(BaseModel):
    """A part of a file. What it leaves out is left to the engine: the defaults here only mean "not said"."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def given(self, *without: str) -> dict[str, Any]:
        """Return what the file says, and nothing that it does not say."""
        return {key: value for key, value in self.model_dump(exclude_unset=True).items() if key not in without}


class WriterPart(_Part):
    """`WriterConfig`."""

    async_mode: bool = True
    queue_size: Count = 1
    flush_batch_size: Count = 1
    flush_interval: Seconds = 1
    retry_interval: Seconds = 1
    fsync: Fsync = "close"


class DataPart(_Part):
    """`DataConfig`."""

    nan: Nan = "error"
    max_record_bytes: Count | None = None
    strict: bool = False


class OperatorPart(_Part):
    """An operator, and the `NodeConfig` of its node."""

    use: Text
    """``module:Class``, ``module:function``, or ``module:object``."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """The arguments of the class, or further arguments of the function."""
    name: Text = ""
    """The identity."""
    batch: bool = False
    """Whether the function takes a list of items."""

    input_uri: Text = ""
    output_uri: Text = ""
    batch_size: Count = 1
    batch_by: BatchBy = "position"
    parallel_size: Count = 1
    writer_config: WriterPart | None = None
    ordered: bool = False
    on_error: OnError = "fail"
    max_errors: MaxErrors = None
    retries: Whole = 0
    retry_wait: Seconds = 1
    delivery: DeliveryMode = "exactly_once"
    grace: Seconds = 1
    stall_after: Seconds = 1
    rate: Seconds | None = None
    executor: ExecutorKind = "auto"
    idle_timeout: Seconds | None = None
    data_config: DataPart | None = None

    def ref(self) -> OperatorRef:
        """Return how the operator is made."""
        return OperatorRef(use=self.use, with_=self.with_, name=self.name, batch=self.batch)

    def node_config(self) -> dict[str, Any]:
        """Return what differs from the pipeline's settings in this node."""
        return self.given("use", "with_", "name", "batch")


def _spelled_out(entry: Any) -> Any:
    return {"use": entry} if isinstance(entry, str) else entry


class LogPart(_Part):
    """`LogFile`."""

    path: Text
    max_bytes: Count | None = None
    backups: Count = 5


class PipelinePart(_Part):
    """A whole file."""

    operators: Annotated[list[Annotated[OperatorPart, BeforeValidator(_spelled_out)]], Field(min_length=1)]
    input_uri: Text
    output_uri: Text
    pipeline_id: Text = ""
    streaming: bool = False
    parallel_size: Count = 1
    batch_size: Count = 1
    writer_config: WriterPart | None = None
    base_path: Text = ""
    protocol_prefix: str = ""
    default_protocol: Text = ""
    results_dir: Text = ""
    id_scheme: PipelineIdScheme = "path"
    id_prefix: Text | None = None
    input_ids: InputIds = "keep"
    keep_ids: bool = True
    id_column: Text | None = None
    ordered: bool = False
    on_error: OnError = "fail"
    max_errors: MaxErrors = None
    retries: Whole = 0
    retry_wait: Seconds = 1
    delivery: DeliveryMode = "exactly_once"
    grace: Seconds = 1
    stall_after: Seconds = 1
    rate: Seconds | None = None
    executor: ExecutorKind = "auto"
    follow_input: bool = False
    idle_timeout: Seconds | None = None
    data_config: DataPart | None = None
    log_file: Text | LogPart | None = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments of `UnifiedPipeline` without the operators."""
        settings = self.given("operators", "pipeline_id")
        if isinstance(self.log_file, LogPart):
            settings["log_file"] = LogFile(**self.log_file.given())
        return settings


_MOST_VALUES = 100_000
"""Values that a file may have. More is no pipeline, but aliases of aliases of aliases."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, where YAML would forget the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                problem = f"the key {key.value!r} is there already, in line {seen[key.value]}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen[key.value] = line
        return super().construct_mapping(node, deep)


def _loaded(data: bytes) -> Any:
    """Return what a YAML text says.

    Raises:
        yaml.YAMLError: when it is none, or its aliases make it gigantic.
    """
    loader = _Loader(data)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _written_out(node, {}) > _MOST_VALUES:
            problem = f"with its aliases written out, it has more than {_MOST_VALUES} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node has when the aliases in it are written out."""
    size = known.get(id(node))
    if size is None:
        known[id(node)] = -1  # until it is known
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        values = [each for pair in inner for each in (pair if isinstance(pair, tuple) else (pair,))]
        size = known[id(node)] = 1 + sum(_written_out(each, known) for each in values)
    if size < 0:
        raise yaml.MarkedYAMLError(problem="an alias stands within what it is for", problem_mark=node.start_mark)
    return size


def read_spec(path: Path, overrides: Mapping[str, Any]) -> PipelinePart:
    """Return what the file says.

    Args:
        path: the file.
        overrides: keys of the file, and what they are to be instead.

    Raises:
        ConfigError: naming the file, and the key or the line.
    """
    try:
        content = _loaded(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: this is not YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold keys such as 'operators', 'input_uri' and 'output_uri'")
    try:
        return PipelinePart.model_validate({**content, **overrides})
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error, PipelinePart)}") from None
