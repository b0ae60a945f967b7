"""The settings of what is made of the results of a line of operators when they are all there."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from llm_datagen.config import Setting, optional
from llm_datagen.errors import ConfigError
from llm_datagen.pipeline.spool import is_standard
from llm_datagen.runs.exports import export_of, is_export
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.factory import refuse_lone_protocol, uri_text
from llm_datagen.streams.outputs import ExportOptions, Target


def output_of(name: str, value: Any) -> str:
    """Return where results go: a stream, or an export.

    Raises:
        ConfigError: when it is neither.
    """
    if not is_export(value):
        if not is_standard(value):
            StreamFactory.source(refuse_lone_protocol(name, uri_text(name, value), StreamFactory.protocols()))
        return str(value)
    Target.of(value)
    return str(os.fspath(value))


def _also(name: str, value: Any) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{name} must be a list of targets, such as ['parquet:out.parquet'], not {value!r}")
    for each in value:
        export_of(each, {})
    return list(value)


def _export_options(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a dict of options, such as {{'rows_per_shard': 100_000}}, not {value!r}")
    ExportOptions.of(value)
    return dict(value)


class ExportSettings(TypedDict, total=False):
    """What is made of the results when they are all there."""

    also: Annotated[
        Sequence[Any] | None,
        Setting(
            None,
            optional(_also),
            'further files to make of the results when all are there: targets such as `"parquet:out.parquet"`, or '
            '`{"to": target, "rows_per_shard": 100_000}`',
        ),
    ]
    export_options: Annotated[
        Mapping[str, Any] | None,
        Setting(
            None,
            optional(_export_options),
            "how these are made, and `output_uri` if it is Parquet, has a `{shard}` or `{column}`, or is a folder",
        ),
    ]
