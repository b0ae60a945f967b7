"""The parts of a pipeline file that its two forms have in common: settings, with the checks of their tables; operators.

The same types that check a file also say what the JSON Schema of files says (`yaml_schema`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    create_model,
)
from pydantic_core import CoreSchema, PydanticCustomError

from llm_datagen.cli.setting_schema import Schema, schema_of, schema_of_type
from llm_datagen.config import DataConfig, NodeConfigOptions, Setting, WriterConfig, object_of, settings_in
from llm_datagen.errors import ConfigError
from llm_datagen.operators.references import OperatorRef, spelled_out
from llm_datagen.runs.exports import TO
from llm_datagen.runs.logs.rotation import LogFile
from llm_datagen.runs.logs.writer import DEFAULT_LOG
from llm_datagen.streams.outputs import ExportOptions

Text = Annotated[str, Field(min_length=1)]
Check = Callable[[str, Any], Any]


class _Says:
    """Says what the JSON Schema says of a type; made only when it is asked for."""

    def __init__(self, schema: Callable[[], Schema]) -> None:
        self._schema = schema

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> Schema:
        return self._schema()


def checking(name: str, check: Check, schema: Callable[[], Schema]) -> Any:
    """Return a type for pydantic whose values are checked by a function, which is given the name and the value.

    Args:
        name: that of the key.
        check: raises a ConfigError when a value is wrong.
        schema: returns what the JSON Schema says of the values.
    """

    def validate(value: Any) -> Any:
        try:
            check(name, value)
        except ConfigError as error:
            raise PydanticCustomError("setting", "{text}", {"text": str(error).removeprefix(f"{name} ")}) from None
        return value

    return Annotated[Any, PlainValidator(validate), _Says(schema)]


class Part(BaseModel):
    """A part of a file. What it leaves out is left to the engine."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def given(self, *without: str) -> dict[str, Any]:
        """Return what the file says, and nothing that it does not say."""
        return self.model_dump(exclude_unset=True, exclude=set(without))


def keys_of(*tables: type, without: Collection[str] = ()) -> dict[str, Any]:
    """Return fields for pydantic: a key for each setting of some tables. The default only means "not said".

    Args:
        tables: tables of settings; of two with the same name, the later one counts.
        without: settings that a file does not have.
    """
    found: dict[str, tuple[Setting, Any]] = {}
    for table in tables:
        hints = get_type_hints(table)
        found |= {name: (each, hints[name]) for name, each in settings_in(table).items() if name not in without}
    return {name: _key(name, each, hint) for name, (each, hint) in found.items()}


def _key(name: str, each: Setting, hint: Any) -> tuple[Any, Any]:
    if name in _GROUPS:
        return _GROUPS[name], Field(default=None, description=each.text)
    return checking(name, each.check, lambda: _schema(name, each, hint)), None


def _schema(name: str, each: Setting, hint: Any) -> Schema:
    """Return what the JSON Schema says of a setting; of one about exports, with their options."""
    schema = schema_of(name, each, hint)
    if name not in ("also", "export_options"):
        return schema
    options = schema_of_type(ExportOptions)
    if name == "also":
        with_target = {**options, "properties": {TO: _TARGET, **options["properties"]}, "required": [TO]}
        options = {"type": "array", "items": {"anyOf": [_TARGET, with_target]}}
    return {"description": schema["description"], "anyOf": [options, {"type": "null"}]}


_TARGET = {"type": "string", "minLength": 1}


_GROUPS: dict[str, Any] = {}
for _group in (WriterConfig, DataConfig):
    _model = create_model(_group.__name__, __base__=Part, **keys_of(_group))
    _GROUPS[_group.setting_name] = _model | None


class UsePart(Part):
    """Something that Python makes."""

    use: Annotated[Text, AfterValidator(spelled_out)] = Field(
        description="`module:Class`, `module:function` or `module:object`; or a short name: `ops.Dedupe`"
    )
    with_: dict[str, Any] = Field(
        default_factory=dict,
        alias="with",
        description="the arguments of the class, or further arguments of the function",
    )

    def ref(self) -> OperatorRef:
        """Return how it is made."""
        return OperatorRef(use=self.use, with_=self.with_)


class OperatorPart(UsePart):
    """An operator; `OPERATOR` has the settings of its node, too."""

    name: Text = Field(default="", description="the operator's identity")
    batch: bool = Field(default=False, description="whether the function takes a list of rows")

    def ref(self) -> OperatorRef:
        """Return how the operator is made."""
        return OperatorRef(use=self.use, with_=self.with_, name=self.name, batch=self.batch)

    def node_config(self) -> dict[str, Any]:
        """Return what differs from the pipeline's settings in this node."""
        return self.given("use", "with_", "name", "batch")


OPERATOR = create_model("OperatorPart", __base__=OperatorPart, **keys_of(NodeConfigOptions))


class _OrUse:
    """Says that the text after `use` may stand for the whole."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        text = {"type": "string", "minLength": 1, "description": "what `use` would say"}
        return {"anyOf": [text, handler(schema)]}


def or_use(model: Any) -> Any:
    """Return a type for pydantic: a model that has `use`, or that text alone."""
    return Annotated[
        model, BeforeValidator(lambda entry: {"use": entry} if isinstance(entry, str) else entry), _OrUse()
    ]


def _check_log_file(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        object_of(LogFile, name, value)
    elif value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"{name} must be a path, or hold path, max_bytes and backups, not {value!r}")


_LOG_FILE = checking(
    "log_file",
    _check_log_file,
    lambda: {
        "description": "the platform log, relative to the working directory when the run starts; null: no log",
        "anyOf": [
            {"type": "string", "minLength": 1},
            schema_of_type(LogFile),
            {"type": "null"},
        ],
        "default": DEFAULT_LOG,
    },
)


class FilePart(Part):
    """What both forms of a file say of the run."""

    pipeline_id: Text = Field(
        default="", description="the id of the run, unless the command line gives one; made up without either"
    )
    log_file: _LOG_FILE = None  # type: ignore[valid-type]

    def run_settings(self, *without: str) -> dict[str, Any]:
        """Return the settings of the pipeline that the file says."""
        settings = self.given("pipeline_id", *without)
        if isinstance(self.log_file, Mapping):
            settings["log_file"] = LogFile(**self.log_file)
        return settings
