"""Checks of the settings of pipelines: each takes the setting's name and its value, and returns the value to use."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.config import NodeConfig, check_path, check_text
from llm_datagen.config.addresses import masked, refuse_secrets
from llm_datagen.errors import ConfigError
from llm_datagen.operators import as_operator
from llm_datagen.pipeline.spool import is_standard
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.factory import refuse_lone_protocol, uri_text
from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD
from llm_datagen.streams.storage.object_uri import SCHEMES, ObjectUri, is_object_uri, refuse_path_of_uri


def check_operators(name: str, value: Any) -> tuple[Any, ...]:
    """Check a list of operators; return them.

    Raises:
        ConfigError: when it is not right, naming it.
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise ConfigError(f"{name} must be a list of at least one operator, not {value!r}")
    return tuple(as_operator(operator) for operator in value)


def check_uri(name: str, value: Any) -> str:
    """Check the URI of an input or an output.

    Raises:
        ConfigError: when it is not right, naming it.
    """
    if is_standard(value):
        return str(value)
    StreamFactory.source(refuse_lone_protocol(name, uri_text(name, value), StreamFactory.protocols()))
    return str(value)


def check_protocol(name: str, value: Any) -> str:
    """Check the protocol of the streams between nodes.

    Raises:
        ConfigError: when it is not right, naming it.
    """
    if not isinstance(value, str) or not value.endswith("://"):
        raise ConfigError(f"{name} must be such as 'jsonl://', not {value!r}")
    extension_of(value)
    return value


def check_prefix_of_path(name: str, value: Any) -> str:
    """Check that a prefix of paths is text.

    Raises:
        ConfigError: when it is not right, naming it.
    """
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be text, not {value!r}")
    return value


def check_new_column(name: str, value: Any) -> str:
    """Check the name of a column that is added.

    Raises:
        ConfigError: when it is not right, naming it.
    """
    if check_text(name, value) in (ID_FIELD, DATA_FIELD):
        raise ConfigError(f"{name} cannot be {value!r}, which the engine uses itself; choose another")
    return str(value)


def check_path_text(name: str, value: Any) -> str:
    """Return the path of a folder as text.

    Raises:
        ConfigError: when it is not right, naming it.
    """
    path = os.fspath(value) if hasattr(value, "__fspath__") else value
    if not isinstance(path, str):
        raise ConfigError(f"{name} must be the path of a folder, not {value!r}")
    refuse_secrets(name, path)
    return path


def check_base(name: str, value: Any) -> str:
    """Check the path, or the address, of a folder of streams; an empty one is the working directory.

    Raises:
        ConfigError: when it is not right, naming it.
    """
    path = refuse_path_of_uri(name, check_path_text(name, value))
    if not path:
        return path
    if "://" in check_path(name, path) and not is_object_uri(path):
        stores = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigError(f"{name} is {masked(path)!r}; give a folder of this machine, or one of a store: {stores}")
    if is_object_uri(path):
        ObjectUri.parse(path.rstrip("/"))
    return path


def check_folder(name: str, value: Any) -> str:
    """Check the path of a folder.

    Raises:
        ConfigError: when it is not right, naming it.
    """
    return check_path(name, check_path_text(name, value))


def check_node_configs(name: str, value: Any) -> Sequence[Any]:
    """Check the settings of single nodes.

    Raises:
        ConfigError: when it is not right, naming it.
    """
    if value is not None and (isinstance(value, str | Mapping) or not isinstance(value, Sequence)):
        raise ConfigError(f"{name} must be a list of settings, one entry for each operator, not {value!r}")
    for config in value or ():
        NodeConfig.of(config)
    return value or ()


def extension_of(protocol: str) -> str:
    """Return the extension of files of a protocol.

    Raises:
        ConfigError: when it names no format.
    """
    stream_class = StreamFactory.stream_class(f"{protocol}x")
    name = protocol.removesuffix("://")
    extension = getattr(stream_class, "extension", name)
    if extension == "file":
        raise ConfigError("default_protocol must name a format, such as 'jsonl://' or 'csv://', not 'file://'")
    return str(extension)
