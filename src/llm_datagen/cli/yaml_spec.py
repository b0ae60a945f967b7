"""What a pipeline in YAML may say: the settings of `UnifiedPipeline`, an id, and a list of operators.

Keys and their checks are those of the tables of settings (`llm_datagen.config.node`, `llm_datagen.pipeline.settings`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    create_model,
)
from pydantic_core import PydanticCustomError

from llm_datagen.cli.yaml_errors import describe
from llm_datagen.config import (
    DataConfig,
    NodeConfigOptions,
    Setting,
    WriterConfig,
    object_of,
    settings_in,
)
from llm_datagen.errors import ConfigError
from llm_datagen.operators.references import OperatorRef, spelled_out
from llm_datagen.pipeline.settings import PipelineSettings
from llm_datagen.runs.logs.rotation import LogFile

Text = Annotated[str, Field(min_length=1)]


def _checking(name: str, check: Callable[[str, Any], Any]) -> Any:
    """Return a type for pydantic whose values are checked as the table of settings says."""

    def validate(value: Any) -> Any:
        try:
            check(name, value)
        except ConfigError as error:
            raise PydanticCustomError("setting", "{text}", {"text": str(error).removeprefix(f"{name} ")}) from None
        return value

    return Annotated[Any, PlainValidator(validate)]


class _Part(BaseModel):
    """A part of a file. What it leaves out is left to the engine."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def given(self, *without: str) -> dict[str, Any]:
        """Return what the file says, and nothing that it does not say."""
        return {key: value for key, value in self.model_dump(exclude_unset=True).items() if key not in without}


def _keys(settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Return fields for pydantic: a key for each setting. The default only means "not said"."""
    return {name: (_GROUPS.get(name) or _checking(name, each.check), None) for name, each in settings.items()}


_GROUPS: dict[str, Any] = {}
for _group in (WriterConfig, DataConfig):
    _model = create_model(_group.__name__, __base__=_Part, **_keys(settings_in(_group)))
    _GROUPS[_group.setting_name] = _model | None


class OperatorPart(_Part):
    """An operator; `OPERATOR` has the settings of its node, too."""

    use: Annotated[Text, AfterValidator(spelled_out)]
    """``module:Class``, ``module:function``, or ``module:object``; or a short name, such as ``ops.Dedupe``."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """The arguments of the class, or further arguments of the function."""
    name: Text = ""
    """The identity."""
    batch: bool = False
    """Whether the function takes a list of items."""

    def ref(self) -> OperatorRef:
        """Return how the operator is made."""
        return OperatorRef(use=self.use, with_=self.with_, name=self.name, batch=self.batch)

    def node_config(self) -> dict[str, Any]:
        """Return what differs from the pipeline's settings in this node."""
        return self.given("use", "with_", "name", "batch")


OPERATOR = create_model("OperatorPart", __base__=OperatorPart, **_keys(settings_in(NodeConfigOptions)))


def _spelled_out(entry: Any) -> Any:
    return {"use": entry} if isinstance(entry, str) else entry


_OPERATORS = Annotated[list[Annotated[OPERATOR, BeforeValidator(_spelled_out)]], Field(min_length=1)]  # type: ignore[valid-type]


def _check_log_file(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        object_of(LogFile, name, value)
    elif value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"{name} must be a path, or hold path, max_bytes and backups, not {value!r}")


class PipelinePart(_Part):
    """A whole file; `PIPELINE` has the settings of the pipeline, too."""

    operators: Sequence[OperatorPart]
    input_uri: Text
    output_uri: Text
    pipeline_id: Text = ""
    log_file: Any = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments of `UnifiedPipeline` without the operators."""
        settings = self.given("operators", "pipeline_id")
        if isinstance(self.log_file, Mapping):
            settings["log_file"] = LogFile(**self.log_file)
        return settings


_OTHER_KEYS = {*PipelinePart.model_fields, "hooks", "node_configs", "default_protocol"}
"""Settings of pipelines that no file says, or that are more, or less, there."""

PIPELINE = create_model(
    "PipelinePart",
    __base__=PipelinePart,
    operators=(_OPERATORS, ...),
    log_file=(_checking("log_file", _check_log_file), None),
    default_protocol=(Text, ""),  # its module is imported later
    **_keys({name: each for name, each in settings_in(PipelineSettings).items() if name not in _OTHER_KEYS}),
)

PIPELINE_OF_ROWS = create_model("PipelinePart", __base__=PIPELINE, input_uri=(Text | None, None))
"""A file that holds its rows itself, as `input`."""

_OF_OPERATORS = {
    key: f"it is said of an operator: put it into an entry of 'operators' ({{use: …, {key}: …}})"
    for key in ("with", "batch", *settings_in(NodeConfigOptions))
    if key not in PIPELINE.model_fields
}
"""What to do with keys of an entry that stand at the top of a file."""

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


def _number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """Refuse what YAML 1.1 and 1.2 read as two: `010` (8, or 10), `1:30` (90, or a text), `1e3` (a text, or 1000)."""
    text = node.value.lstrip("+-")
    if node.tag == _IN_DOUBT or ":" in text or (text[0] == "0" and text[1:].replace("_", "").isdecimal()):
        problem = f"{node.value} is not the same in all versions of YAML: write the number in decimal, or quote a text"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    is_whole = node.tag.endswith(":int")
    return loader.construct_yaml_int(node) if is_whole else loader.construct_yaml_float(node)


_IN_DOUBT = "!in-doubt"
_NUMBER_OF_ONE_VERSION = re.compile(
    r"[-+]?(?:0o[0-7]+|0[0-9]*[89][0-9]*|(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][0-9]+|[0-9]+[eE][-+][0-9]+)$"
)
_Loader.add_implicit_resolver(_IN_DOUBT, _NUMBER_OF_ONE_VERSION, list("-+.0123456789"))
for _tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", _IN_DOUBT):
    _Loader.add_constructor(_tag, _number)


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
        keys = {**content, **overrides}
        model = PIPELINE_OF_ROWS if "input" in keys and "input_uri" not in keys else PIPELINE
        return model.model_validate(keys)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error, PIPELINE, _OF_OPERATORS)}") from None
