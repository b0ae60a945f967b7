"""What follows from the settings of a line of operators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from llm_datagen.config import checked, plain
from llm_datagen.errors import ConfigError
from llm_datagen.operators import operator_name
from llm_datagen.pipeline.setting_checks import extension_of
from llm_datagen.pipeline.settings import BetweenOptions, PipelineSettings
from llm_datagen.pipeline.settings_elsewhere import IN_NODE_CONFIGS
from llm_datagen.streams import Cycle
from llm_datagen.streams.ids import TEXT_PREFIX
from llm_datagen.streams.storage.object_uri import is_object_uri, refuse_path_of_uri

_NOT_IN_RUN_STATE = {"results_dir", "hooks", "node_configs", "log_file", "input"}


def pipeline_settings(given: Mapping[str, Any], owner: str = "UnifiedPipeline") -> PipelineSettings:
    """Return the settings of a line of operators, checked.

    Raises:
        ConfigError: on a name that is not one of a setting, a wrong value, or two that do not go together.
    """
    settings = checked(PipelineSettings, given, owner, IN_NODE_CONFIGS)
    if isinstance(settings["input"], Cycle) and settings["input_uri"] is None:
        settings["input"], settings["input_uri"] = None, settings["input"].as_uri
    if settings["id_prefix"] is not None and settings["id_scheme"] != "text":
        raise ConfigError(f'id_prefix={settings["id_prefix"]!r} needs id_scheme="text", not {settings["id_scheme"]!r}')
    if settings["id_column"] is not None and not settings["keep_ids"]:
        raise ConfigError(f"id_column={settings['id_column']!r} says where ids stand, and keep_ids=False that none do")
    if settings["input"] is not None and settings["input_uri"] is not None:
        raise ConfigError(
            f"input and input_uri={settings['input_uri']!r} are both given; give the rows, or where they lie"
        )
    return settings


def as_plain(settings: PipelineSettings) -> dict[str, Any]:
    """Return the settings as plain data for a run state, the operators by their names."""
    stored = {name: value for name, value in settings.items() if name not in _NOT_IN_RUN_STATE}
    return plain({**stored, "operators": [operator_name(operator) for operator in settings["operators"] or ()]})


def id_prefix_of(settings: PipelineSettings) -> str:
    """Return what ids of root rows begin with under the scheme "text"."""
    return TEXT_PREFIX if settings["id_prefix"] is None else settings["id_prefix"]


def stream_to_export(settings: BetweenOptions, pipeline_id: str) -> str:
    """Return the URI of the stream that the last node of a line writes, when the output is exported from it."""
    if settings["default_protocol"] == "csv://":  # whose values are all text
        settings = {**settings, "default_protocol": "jsonl://"}
    return stream_between(settings, pipeline_id, "output")


def stream_between(settings: BetweenOptions, pipeline_id: str, name: str) -> str:
    """Return the URI of a stream that lies between the nodes of a run.

    Args:
        settings: where such streams lie.
        pipeline_id: the run's id.
        name: that of the node that writes it.

    Raises:
        ConfigError: when they are to lie on a store, in a format that cannot.
    """
    protocol = settings["default_protocol"]
    name = f"{name}.{extension_of(protocol)}"
    base = refuse_path_of_uri("base_path", settings["base_path"])
    if is_object_uri(base):
        if protocol not in {"jsonl://", "csv://"}:
            raise ConfigError(
                f"base_path={base!r} is on a store, and default_protocol is {protocol!r}; give jsonl:// or csv://"
            )
        return "/".join([base.rstrip("/"), *PurePosixPath(settings["protocol_prefix"]).parts, pipeline_id, name])
    return protocol + str(PurePosixPath(settings["base_path"], settings["protocol_prefix"], pipeline_id, name))
